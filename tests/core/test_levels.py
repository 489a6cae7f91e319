import math

import pytest
import torch

from dropkit.core.errors import InputError
from dropkit.core.flags import check_flag
from dropkit.core.levels import check_level, check_precision


@pytest.mark.parametrize("value", [0, 1, -0.5, 95, math.nan, "0.5", None, True, [0.5]])
def test_a_level_lies_between_0_and_1(value):
    with pytest.raises(InputError, match="level is a probability"):
        check_level(value)
    assert check_level(torch.tensor(0.5)) == 0.5
    assert check_level(1, one=True) == 1.0


@pytest.mark.parametrize("value", [0, -1, math.inf, math.nan, "a", None, True])
def test_a_precision_is_finite_and_above_0(value):
    with pytest.raises(InputError, match="tau is a precision"):
        check_precision(value)


@pytest.mark.parametrize("value", ["no", 0, 1, None, torch.tensor(True)])
def test_a_flag_is_a_bool(value):
    with pytest.raises(InputError, match="share_mask is True or False"):
        check_flag(value, "share_mask")
