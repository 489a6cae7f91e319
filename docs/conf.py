"""Sphinx's settings."""

from importlib import metadata

project = "dropkit"
author = "the dropkit authors"
version = release = metadata.version("dropkit")
extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon", "sphinx.ext.mathjax"]
html_theme = "furo"
exclude_patterns = ["README.md"]
napoleon_custom_sections = ["Use", "Rates", "Evidence", "Shape"]
autodoc_member_order = "bysource"
autodoc_typehints = "description"
myst_heading_anchors = 3
