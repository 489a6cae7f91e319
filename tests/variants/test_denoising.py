import math

import pytest
import torch

import dropkit as dk
from dropkit.variants.denoising import DenoisingMask, denoising_mask

FALSE_ALARM = 1e-6
SALT = {"noise": "salt_and_pepper", "limits": (-1.0, 2.0)}
noises = pytest.mark.parametrize("options", [{}, {"value": 7.0}, SALT], ids=["zero", "value", "salt_and_pepper"])


def corrupt(x, p, **options):
    with dk.keyed(1):
        return denoising_mask(x, p, return_mask=True, **options)


@noises
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_what_is_kept_is_not_touched(options, dtype):
    x = torch.rand(1000).to(dtype)
    y, chosen = corrupt(x, 0.4, **options)
    assert y.dtype is dtype
    assert torch.equal(y[~chosen], x[~chosen])
    written = set(options.get("limits", (options.get("value", 0.0),)))
    assert set(y[chosen].tolist()) == written
    with dk.keyed(1):
        assert torch.equal(denoising_mask(x, 0.4, **options), y)  # with the mask returned or not


@noises
@pytest.mark.parametrize("p", [0.05, 0.5])
def test_elements_are_chosen_at_the_rate(options, p):
    n = 100_000
    torch.manual_seed(0)
    _, chosen = denoising_mask(torch.ones(n), p, return_mask=True, **options)
    assert abs(float(chosen.double().mean()) - p) < math.sqrt(math.log(2 / FALSE_ALARM) / (2 * n))  # Hoeffding


def test_salt_and_pepper_are_equally_likely_whatever_is_chosen():
    n = 100_000
    torch.manual_seed(0)
    y, chosen = denoising_mask(torch.zeros(n), 0.5, return_mask=True, **SALT)
    count = int(chosen.sum())
    assert abs(float((y[chosen] == 2).double().mean()) - 0.5) < math.sqrt(math.log(2 / FALSE_ALARM) / (2 * count))


def test_all_noises_choose_the_same_elements():
    x = torch.rand(1000)
    masks = [corrupt(x, 0.3, **options)[1] for options in ({}, {"value": 7.0}, SALT)]
    assert torch.equal(masks[0], masks[1])
    assert torch.equal(masks[0], masks[2])
    with dk.keyed(1):
        assert torch.equal(dk.functional.dropout(x + 1, 0.3) == 0, masks[0])


@noises
def test_gradients_pass_where_the_input_does(options):
    x = torch.rand(1000, requires_grad=True)
    y, chosen = corrupt(x, 0.4, **options)
    y.sum().backward()
    assert torch.equal(x.grad, (~chosen).float())


@noises
def test_corrupted_nan_is_gone(options):
    y, chosen = corrupt(torch.full((1000,), math.nan), 0.4, **options)
    assert torch.equal(y.isnan(), ~chosen)


@noises
def test_rate_one_corrupts_all(options):
    x = torch.full((50,), math.inf, requires_grad=True)
    y, chosen = corrupt(x, 1.0, **options)
    y.sum().backward()
    assert bool(chosen.all())
    assert bool(y.isfinite().all())
    assert torch.equal(x.grad, torch.zeros(50))


@noises
@pytest.mark.parametrize(("p", "training"), [(0.0, True), (0.5, False)])
def test_idle(options, p, training):
    x, state = torch.rand(5), torch.get_rng_state()
    assert denoising_mask(x, p, training, **options) is x
    y, chosen = denoising_mask(x, p, training, return_mask=True, **options)
    assert y is x
    assert (chosen.dtype, chosen.shape, bool(chosen.any())) == (torch.bool, x.shape, False)
    assert torch.equal(state, torch.get_rng_state())


@noises
def test_uses_are_counted_at_rate_zero_too(options):
    x = torch.ones(1000)
    with dk.keyed(1):
        denoising_mask(x, 0.5, **options)
        later = dk.functional.dropout(x)
    with dk.keyed(1):
        denoising_mask(x, 0.0, **options)
        assert torch.equal(dk.functional.dropout(x), later)


def test_modules_pass_their_settings_on():
    x = torch.rand(100)
    with dk.keyed(1):
        y, chosen = DenoisingMask(0.5, return_mask=True, **SALT)(x)
    expected = corrupt(x, 0.5, **SALT)
    assert torch.equal(y, expected[0])
    assert torch.equal(chosen, expected[1])
    assert repr(DenoisingMask(0.5, **SALT)) == "DenoisingMask(p=0.5, noise='salt_and_pepper', limits=(-1.0, 2.0))"
    with dk.keyed(1):
        y = DenoisingMask(0.5, value=3.0)(x)
    assert torch.equal(y, torch.where(chosen, 3.0, x))


@pytest.mark.parametrize("options", [{"value": 7.0, "return_mask": True}, {**SALT, "return_mask": True}])
def test_compiled_code_corrupts_alike(options):
    torch.compiler.reset()
    module, x = DenoisingMask(0.5, **options), torch.rand(100)
    compiled = torch.compile(module, backend="aot_eager", fullgraph=True)
    compiled(x)
    with torch.compiler.set_stance("fail_on_recompile"):
        for p in (0.1, 0.0, 1.0):
            module.p = p
            torch.manual_seed(0)
            found = compiled(x)
            torch.manual_seed(0)
            for mine, expected in zip(found, module(x), strict=True):
                assert torch.equal(mine, expected)


@pytest.mark.parametrize("options", [{"value": 7.0}, SALT], ids=["value", "salt_and_pepper"])
def test_vmap(options):
    x = torch.rand(2, 200)
    different = torch.vmap(lambda v: denoising_mask(v, 0.5, **options), randomness="different")(x)
    same = torch.vmap(lambda v: denoising_mask(v, 0.5, return_mask=True, **options), randomness="same")(x)
    assert torch.equal(same[1][0], same[1][1])
    assert not torch.equal(different[0] == x[0], different[1] == x[1])


@pytest.mark.parametrize(("options", "message"), [
    ({"noise": "pepper"}, "noise is"), ({"noise": None}, "noise is"), ({"value": "0"}, "value is a number"),
    ({"value": True}, "value is a number"), ({"limits": (0.0, 1.0)}, "limits go with"),
    ({"noise": "salt_and_pepper"}, "takes limits"), ({"noise": "salt_and_pepper", "limits": (1.0, 0.0)}, "takes limits"),
    ({"noise": "salt_and_pepper", "limits": (0.0, 0.5, 1.0)}, "takes limits"),
    ({"noise": "salt_and_pepper", "limits": (0.0, math.nan)}, "takes limits"),
])
def test_wrong_settings_are_refused(options, message):
    with pytest.raises(dk.InputError, match=message):
        denoising_mask(torch.ones(3), **options)
    with pytest.raises(dk.InputError, match=message):
        DenoisingMask(**options)
