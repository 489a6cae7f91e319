"""Where runs are trained: in this process, in worker processes, or on a Ray cluster. The numbers are the same."""
