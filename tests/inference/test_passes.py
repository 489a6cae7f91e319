"""The seeds of passes are those of dk.keyed."""

import pytest
import torch

from dropkit.core.philox import derive_seed
from dropkit.core.seeds import seed_tensor
from dropkit.inference.passes import pass_indices, pass_seeds


@pytest.mark.parametrize("seed", [0, 7, 2**63, 2**64 - 1])
@pytest.mark.parametrize("step", [0, 1, 2**32 + 5, 2**64 - 1])
def test_seeds_are_derived_as_keyed_derives_them(seed, step):
    indices = (0, 1, 2, 17, 2**32 - 1)
    expected = torch.stack([seed_tensor(derive_seed(seed, step, index)) for index in indices])
    assert torch.equal(pass_seeds(seed, step, indices), expected)


def test_passes_may_be_counted_or_named():
    assert pass_indices(torch.tensor(2)) == (0, 1)
    assert pass_indices(range(3, 5)) == (3, 4)
