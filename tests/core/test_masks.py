import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from dropkit.core.errors import InputError
from dropkit.core.masks import INVERTED, UNSCALED, check_data, check_dims, check_scaling, compute_dtypes, mask_shape

SHAPES = st.lists(st.integers(0, 7), max_size=5).map(tuple)


@settings(deadline=None)
@given(SHAPES, st.data())
def test_shared_dims_have_size_one(shape, data):
    shared = data.draw(st.sets(st.sampled_from(range(len(shape)))) if shape else st.just(set()))
    signed = [dim - len(shape) if data.draw(st.booleans()) else dim for dim in shared]
    mask = mask_shape(shape, signed)
    assert mask == tuple(1 if dim in shared else size for dim, size in enumerate(shape))
    assert torch.broadcast_shapes(mask, shape) == shape or 0 in shape
    assert math.prod(mask) <= max(1, math.prod(shape)) or 0 in shape


@pytest.mark.parametrize(("shape", "shared", "message"), [
    ((2, 3), (2,), r"here in \[-2, 1\]"), ((2, 3), (-3,), r"here in \[-2, 1\]"), ((), (0,), "no share_dims"),
    ((2, 3), (0, 0), "once"), ((2, 3), (1, -1), "once"), ((2, 3), 1, "a sequence"), ((2, 3), "01", "a sequence"),
    ((2, 3), (True,), "integers"), ((2, 3), (0.5,), "integers"), ((2, 3), None, "a sequence"),
])
def test_wrong_dims_are_refused(shape, shared, message):
    with pytest.raises(InputError, match=message):
        mask_shape(shape, shared)


def test_dims_become_a_tuple():
    assert check_dims(iter([0, -1])) == (0, -1)


@pytest.mark.parametrize("bad", [torch.ones(2, dtype=torch.int64), torch.ones(2, dtype=torch.bool), [1.0], None])
def test_only_floating_tensors_can_be_dropped(bad):
    with pytest.raises(InputError, match="dropout acts on"):
        check_data(bad)


def test_scaling_has_two_names():
    assert check_scaling("inverted") == INVERTED
    assert check_scaling("classic") == UNSCALED
    with pytest.raises(InputError, match='"inverted" or "classic"'):
        check_scaling("none")


@pytest.mark.parametrize(("dtype", "compute"), [
    (torch.float16, torch.float32), (torch.bfloat16, torch.float32), (torch.float32, torch.float32),
    (torch.float64, torch.float64), (torch.complex64, torch.complex64), (torch.complex128, torch.complex128),
])
def test_narrow_types_are_scaled_in_float32(dtype, compute):
    assert compute_dtypes(dtype)[0] is compute
    assert compute_dtypes(dtype)[1].itemsize * (1 + dtype.is_complex) == compute.itemsize
