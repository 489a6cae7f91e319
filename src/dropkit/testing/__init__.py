"""Tests for a dropout of your own: the property suite that every variant of the catalog passes.

Example:
    >>> import dropkit as dk
    >>> from dropkit.testing import check_variant
    >>> len(check_variant(dk.nn.Dropout(0.5), skip={"compiled_code_makes_the_same_masks": "takes seconds"})) > 20
    True
"""

from dropkit.testing.subject import Subject
from dropkit.testing.suite import CHECKS, VariantError, check_variant

__all__ = ["CHECKS", "Subject", "VariantError", "check_variant"]
