"""The audit: find the dropout mistakes in a model."""
