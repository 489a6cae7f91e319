"""Frozen masks of contract version 1: a kernel that fails here makes other masks than the last release did."""

import json
from pathlib import Path

import pytest
import torch

from dropkit.kernels.dispatch import apply_mask

# Made by tests/kernels/oracle.py. The file is the contract's: other implementations may read it.
GOLDEN = json.loads((Path(__file__).parent / "golden.json").read_text(encoding="utf-8"))["masks"]


@pytest.mark.parametrize("row", GOLDEN, ids=lambda row: f"{row['rate']}-{row['shape']}")
def test_masks_are_frozen(row):
    rate = torch.tensor(row["rate"], dtype=torch.float64)
    y = apply_mask(torch.ones(row["shape"]), torch.tensor(row["seed"]), rate, row["shape"], row["stream"], False)
    kept = "".join(str(int(value)) for value in y.flatten().tolist())
    assert f"{int(kept, 2):0{-(-len(kept) // 4)}x}" == row["kept"]
