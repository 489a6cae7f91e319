"""The compiled CPU kernel: C++ sources, the loader, and what PyTorch has to know about its operators."""
