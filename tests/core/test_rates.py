import math
from fractions import Fraction

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from dropkit.core.errors import InputError
from dropkit.core.rates import check_rate, threshold


@pytest.mark.parametrize("good", [
    0, 1, 0.5, np.float32(0.5), np.float64(0.5), np.int64(1), torch.tensor(0.5), torch.tensor(1), Fraction(1, 2),
    torch.tensor(0.25, requires_grad=True),
])
def test_numbers_are_rates(good):
    rate = check_rate(good)
    assert type(rate) is float
    assert rate == float(good.detach() if isinstance(good, torch.Tensor) else good)


@pytest.mark.parametrize("bad", [
    -0.1, 1.0000001, math.nan, math.inf, -math.inf, True, False, np.bool_(True), None, "0.5", b"1", [0.5], np.array([0.5, 0.5]),
    torch.tensor(True), torch.tensor([0.5]), torch.tensor(0.5 + 0j), torch.tensor(math.nan), 0.5j, 10**400,
])
def test_everything_else_is_refused(bad):
    with pytest.raises(InputError, match="probability of dropping"):
        check_rate(bad)


def test_the_message_names_the_argument():
    with pytest.raises(ValueError, match=r"^the rate of 'a' is .*; got 2\. Pass a float"):
        check_rate(2, "the rate of 'a'")


@given(st.floats(0, 1))
def test_threshold_is_within_half_a_step(rate):
    assert abs(Fraction(threshold(rate), 2**32) - Fraction(rate)) <= Fraction(1, 2**33) + Fraction(1, 2**54)


def test_threshold_at_the_ends():
    assert [threshold(rate) for rate in (0.0, 2**-34, 2**-33, 0.5, 1 - 2**-53, 1.0)] == [0, 0, 1, 2**31, 2**32, 2**32]
