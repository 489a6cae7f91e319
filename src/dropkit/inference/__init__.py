"""Inference: what a trained model with dropout says, how sure it is, and how to serve it without dropout."""
