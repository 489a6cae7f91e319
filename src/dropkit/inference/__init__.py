"""Inference: what dropout tells about a prediction."""
