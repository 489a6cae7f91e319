import math
import warnings

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

import dropkit as dk
from dropkit.core.streams import stream_number
from dropkit.kernels.reference import keep_mask
from dropkit.variants.dropout import Dropout, dropout


@settings(max_examples=50, deadline=None)
@given(st.data())
def test_shared_dims_share_and_others_do_not(data):
    shape = data.draw(st.lists(st.integers(1, 5), min_size=1, max_size=4))
    shared = data.draw(st.sets(st.sampled_from(range(len(shape)))))
    given_dims = [dim - len(shape) if data.draw(st.booleans()) else dim for dim in shared]
    mask_shape = [1 if dim in shared else size for dim, size in enumerate(shape)]
    with dk.keyed(4):
        y = dropout(torch.ones(shape), 0.5, share_dims=given_dims)
        _ = dropout(torch.ones(shape), 0.5)
    with dk.keyed(4):
        assert torch.equal(dropout(torch.ones(mask_shape), 0.5).expand(shape), y)


def test_masks_are_those_of_the_contract():
    with dk.keyed(9, step=2):
        y = dropout(torch.ones(40), 0.3, stream="head")
    from dropkit.core.philox import derive_seed
    from dropkit.core.seeds import seed_tensor

    keep = keep_mask((40,), seed_tensor(derive_seed(9, 2, 0)), torch.tensor(0.3, dtype=torch.float64), stream_number("head"))
    assert torch.equal(y != 0, keep)


def test_unkeyed_calls_take_one_seed_each_from_the_generator():
    torch.manual_seed(0)
    dropout(torch.ones(5))
    dropout(torch.ones(500, 3), 0.1)
    state = torch.get_rng_state()
    torch.manual_seed(0)
    torch.randint(-(2**63), 2**63 - 1, ())
    torch.randint(-(2**63), 2**63 - 1, ())
    assert torch.equal(state, torch.get_rng_state())


def test_a_rate_of_zero_elsewhere_leaves_masks_as_they_are():
    x = torch.ones(100)
    with dk.keyed(1):
        dropout(x, 0.5)
        reference = dropout(x, 0.5)
    with dk.keyed(1):
        dropout(x, 0.0)
        assert torch.equal(dropout(x, 0.5), reference)


def test_evaluation_does_not_count_as_use():
    with dk.keyed(1):
        first = dropout(torch.ones(100))
    with dk.keyed(1):
        dropout(torch.ones(100), training=False)
        assert torch.equal(dropout(torch.ones(100)), first)


def test_classic_scaling_differs_by_the_factor_only():
    x = torch.randn(1000, dtype=torch.float64)
    with dk.keyed(1):
        inverted = dropout(x, 0.25)
    with dk.keyed(1):
        classic = dropout(x, 0.25, scaling="classic")
    assert torch.equal(classic, torch.where(inverted == 0, 0, x))
    assert torch.equal(dropout(x, 0.25, training=False, scaling="classic"), x * 0.75)


@pytest.mark.parametrize("inplace", [False, True])
def test_classic_evaluation_follows_the_rate(inplace):
    module = Dropout(0.5, inplace, scaling="classic").eval()
    for p, expected in ((0.5, 1.0), (0.25, 1.5), (0.0, 2.0)):
        module.p = p
        x = torch.full((3,), 2.0)
        y = module(x)
        assert torch.equal(y, torch.full((3,), expected))
        assert (y is x) is (inplace or p == 0)


@pytest.mark.parametrize("inplace", [False, True])
def test_classic_evaluation_at_rate_one_is_zero(inplace):
    base = torch.tensor([1.0, math.inf, math.nan], requires_grad=True)
    y = dropout(base * 1, 1.0, training=False, inplace=inplace, scaling="classic")
    y.sum().backward()
    assert torch.equal(y, torch.zeros(3))
    assert torch.equal(base.grad, torch.zeros(3))


def test_classic_evaluation_rounds_once():
    x = torch.randn(100).half()
    assert torch.equal(dropout(x, 0.3, training=False, scaling="classic"), (x.float() * 0.7).half())


def test_complex_data():
    x = torch.randn(1000, dtype=torch.complex64)
    y = dropout(x, 0.5)
    assert bool(((y == 0) | (y == 2 * x)).all())


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64, torch.complex64])
def test_a_number_keeps_its_type(dtype):
    assert dropout(torch.tensor(1.0, dtype=dtype), 0.5).dtype is dtype


def test_subclasses_of_tensors_survive():
    parameter = torch.nn.Parameter(torch.ones(10))
    assert dropout(parameter, 0.5).requires_grad


def test_the_rate_may_be_a_number_of_any_kind():
    assert Dropout(1).p == 1.0
    assert Dropout(torch.tensor(0.25)).p == 0.25
    assert bool((dropout(torch.ones(5), torch.tensor(1)) == 0).all())


@pytest.mark.parametrize(("arguments", "message"), [
    ({"p": 1.1}, "probability of dropping"), ({"p": True}, "probability of dropping"), ({"scaling": "none"}, "scaling is"),
    ({"share_dims": 1}, "a sequence"), ({"share_dims": ("a",)}, "integers"),
])
def test_wrong_settings_are_refused_when_made(arguments, message):
    with pytest.raises(dk.InputError, match=message):
        Dropout(**arguments)


def test_wrong_dims_are_refused_when_called():
    with pytest.raises(dk.InputError, match="share_dims are dimensions of the input"):
        Dropout(share_dims=(2,))(torch.ones(3, 3))


def test_repr_tells_extras():
    assert repr(Dropout(0.2, scaling="classic", share_dims=[1, -1])) == (
        "Dropout(p=0.2, inplace=False, share_dims=(1, -1), scaling='classic')")


def test_modules_pickled_before_a_setting_existed_still_work():
    module = Dropout(0.5)
    for name in ("share_dims", "scaling", "stream"):
        vars(module).pop(name, None)
    assert repr(module) == "Dropout(p=0.5, inplace=False)"
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert module(torch.ones(4)).shape == (4,)


def test_the_default_device_does_not_matter():
    x = torch.ones(100)
    with dk.keyed(1):
        expected = dropout(x, 0.3)
    with torch.device("meta"), dk.keyed(1):
        assert torch.equal(dropout(x, 0.3), expected)


@pytest.mark.parametrize("layer", [dk.nn.Dropout(0.5), dk.nn.DropPath(0.5)], ids=["Dropout", "DropPath"])
@pytest.mark.parametrize("kind", ["sparse", "jagged"])
def test_data_that_is_not_dense_is_refused(layer, kind):
    jagged = torch.nested.nested_tensor([torch.ones(2, 3)], layout=torch.jagged)
    x = torch.ones(3, 4).to_sparse() if kind == "sparse" else jagged
    with pytest.raises(dk.InputError, match="dense data"):
        layer(x)


@pytest.mark.filterwarnings("ignore:The PyTorch API of nested tensors is in prototype stage")
def test_nested_data_that_calls_itself_strided_is_refused():
    with pytest.raises(dk.InputError, match="got a nested tensor"):
        dk.nn.Dropout(0.5)(torch.nested.nested_tensor([torch.ones(2, 3), torch.ones(4, 3)]))


@pytest.mark.filterwarnings("ignore:`torch.jit.script:DeprecationWarning")
@pytest.mark.parametrize("layer", [dk.nn.Dropout(0.5), dk.nn.DropBlock2d(0.1), dk.nn.GaussianDropout(0.5)])
def test_torchscript_is_refused_and_a_folded_copy_is_not(layer):
    with pytest.raises(dk.InputError, match=r"fold\(model, example\)"):
        torch.jit.script(nn.Sequential(nn.Identity(), layer))
    model = nn.Sequential(nn.Linear(4, 4), dk.nn.Dropout(0.5)).eval()
    x = torch.ones(2, 4)
    assert torch.equal(torch.jit.script(dk.fold(model, x))(x), model(x))


def test_a_generator_is_one():
    with pytest.raises(dk.InputError, match=r"a generator is a torch\.Generator; got 3"):
        dropout(torch.ones(3), generator=3)
