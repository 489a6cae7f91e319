"""The public suite finds what is wrong with a dropout, and passes one that is right."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

import dropkit as dk
from dropkit.testing import CHECKS, VariantError, check_variant

QUICK = {"compiled_code_makes_the_same_masks": "takes seconds", "changed_rates_compile_nothing": "takes seconds"}


def test_a_right_one_passes():
    passed = check_variant(dk.nn.Dropout(0.5), skip=QUICK)
    assert {"mean_is_preserved", "zeros_appear_at_the_rate", "keyed_is_reproducible", "vmap_modes"} <= set(passed)


class Careless(nn.Module):
    """Forgets the scale, drops in evaluation, draws from torch's generator, keeps NaN and does not check its rate."""

    def __init__(self, p=0.5):
        super().__init__()
        self.p = p

    def forward(self, x):
        return x * (torch.rand_like(x) >= self.p)


def test_every_mistake_is_named():
    with pytest.raises(VariantError) as caught:
        check_variant(Careless, skip=QUICK)
    text = str(caught.value)
    for name in ("rate_can_change", "mean_is_preserved", "evaluation_is_deterministic", "dropped_infinities_become_zero",
                 "keyed_is_reproducible", "training_acts_and_evaluation_does_not", "rate_zero_changes_nothing"):
        assert f"  {name}: " in text, name
    assert "zeros_appear_at_the_rate" not in text


def test_a_wrong_rate_is_found():
    class Doubled(dk.nn.Dropout):
        def forward(self, x):
            return dk.functional.dropout(super().forward(x), self.p, self.training)

    with pytest.raises(VariantError, match="zeros_appear_at_the_rate"):
        check_variant(Doubled(0.5), skip=QUICK)


def test_torch_dropout_fails_only_where_it_differs():
    with pytest.raises(VariantError) as caught:
        check_variant(nn.Dropout(0.5), skip={**QUICK, "vmap_modes": "not of interest here"})
    text = str(caught.value)
    assert "keyed_is_reproducible" in text
    assert "mean_is_preserved" not in text
    assert F.dropout(torch.ones(2), 0.0).sum() == 2


def test_skips_are_checked():
    with pytest.raises(dk.InputError, match="name of a check"):
        check_variant(dk.nn.Dropout(0.5), skip={"no_such_check": "because"})
    with pytest.raises(dk.InputError, match="for a reason"):
        check_variant(dk.nn.Dropout(0.5), skip={"vmap_modes": " "})
    with pytest.raises(dk.InputError, match="module"):
        check_variant(3)
    with pytest.raises(dk.InputError, match="attribute 'p'"):
        check_variant(nn.ReLU())


def test_names_are_unique():
    assert len({check.name for check in CHECKS}) == len(CHECKS)
