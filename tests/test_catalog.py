import dataclasses

import pytest

import dropkit as dk
from dropkit.catalog import CATALOG, Claims, Variant


def test_rows_are_frozen_and_unique():
    assert dk.catalog() is CATALOG
    for column in ("name", "function", "module", "summary"):
        assert len({getattr(row, column) for row in CATALOG}) == len(CATALOG)
    for row in CATALOG:
        assert isinstance(row, Variant)
        assert isinstance(row.claims, Claims)
        with pytest.raises(dataclasses.FrozenInstanceError):
            row.name = "other"


def test_twins_are_not_shared():
    twins = [row.torch_twin for row in CATALOG if row.torch_twin is not None]
    assert len(set(twins)) == len(twins)


def test_every_public_site_of_a_family_has_a_row():
    import importlib

    from dropkit.variants.site import StreamSite

    for family in {row.family for row in CATALOG}:
        source = importlib.import_module(f"dropkit.variants.{family}")
        found = {value for name, value in vars(source).items() if isinstance(value, type) and issubclass(value, StreamSite)
                 and value.__module__ == source.__name__ and not name.startswith("_")}
        assert found == {row.module for row in CATALOG if row.family == family and not row.claims.holds_sites}
