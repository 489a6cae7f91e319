"""A study's result as one HTML file."""
