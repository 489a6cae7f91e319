"""What makes masks: the reference, and the choice of a backend."""
