import xml.etree.ElementTree as ET

import pytest

from dropkit.catalog import CATALOG
from dropkit.cli.main import main
from dropkit.explain.picture import draw_text, mask_of


@pytest.mark.parametrize("row", CATALOG, ids=lambda row: row.name)
def test_every_variant_is_explained(row, capsys, tmp_path):
    picture = tmp_path / "mask.svg"
    assert main(["explain", row.name, "--svg", str(picture)]) == 0
    out = capsys.readouterr().out
    for title in ("Use", "Rates", "Evidence", "References"):
        assert f"\n{title}\n" in out
    assert f"dropkit.nn.{row.module.__name__}" in out
    assert ET.parse(picture).getroot().tag.endswith("svg")


def test_classes_and_dashes_are_names_too(capsys):
    assert main(["explain", "DropBlock2d"]) == 0
    assert main(["explain", "drop-block2d"]) == 0
    assert "square regions" in capsys.readouterr().out


def test_unknown_names_get_the_nearest(capsys):
    assert main(["explain", "dropblok2d"]) == 2
    error = capsys.readouterr().err
    assert "drop_block2d" in error
    assert error.count("\n") == 1


def test_the_picture_shows_whole_channels():
    row = next(row for row in CATALOG if row.name == "dropout2d")
    for grid in mask_of(row, examples=2):
        for channel in range(6):
            assert len({value for line in grid[5 * channel:5 * channel + 5] for value in line}) == 1
    assert draw_text([[[0.0, 1.0]]]) == "·█"
