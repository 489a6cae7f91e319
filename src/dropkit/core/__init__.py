"""Rates, seeds, streams, mask shapes, errors: what everything else stands on."""
