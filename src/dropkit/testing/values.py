"""Checks of what comes out: rates, values, types, shapes and layouts."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from dropkit.core.errors import InputError
from dropkit.core.rates import WHOLE, threshold
from dropkit.testing.subject import PASSES, SIGMAS, Subject, close, first, run_keyed, same, t_statistic


def rate_can_change(subject: Subject) -> None:
    """The rate is a float that can be assigned at any time and is checked then."""
    module, name = subject.module(0.25), subject.claims.rate or ""
    assert type(getattr(module, name)) is float, f"{name} is a float, not {type(getattr(module, name)).__name__}"
    assert abs(getattr(module, name) - 0.25) < 1e-6, f"a module made at 0.25 has {name} = {getattr(module, name)}"
    for bad in (-0.1, 1.5, math.nan, "x"):
        try:
            setattr(module, name, bad)
        except ValueError:
            continue
        raise AssertionError(f"{name} = {bad!r} is refused with a ValueError")
    setattr(module, name, 0.75)
    assert abs(getattr(module, name) - 0.75) < 1e-6, f"{name} = 0.75 takes effect"
    assert "0.75" in repr(module), "the repr shows the rate"


def rate_zero_changes_nothing(subject: Subject) -> None:
    """At rate 0 training is evaluation, and no random number is drawn; a later rate acts."""
    module, inputs, state = subject.module(0.0), subject.data(), torch.get_rng_state()
    y = first(module(*inputs))
    assert torch.equal(state, torch.get_rng_state()), "rate 0 draws nothing"
    assert not subject.claims.eval_identity or not subject.floating or y is inputs[0], "rate 0 returns the input itself"
    assert close(y, first(module.eval()(*inputs))), "rate 0 in training equals evaluation"
    setattr(module.train(), subject.claims.rate or "", 0.9)
    assert not same(first(module(*inputs)), y), "a module made at rate 0 drops when its rate is raised"


def rate_one_drops_everything(subject: Subject) -> None:
    """At rate 1 everything is 0, infinities and NaN too, and gradients are 0 and finite."""
    x, *rest = subject.data()
    x = x.clone()
    x.view(-1)[:3] = torch.tensor([math.nan, math.inf, -math.inf], dtype=x.dtype)
    x.requires_grad_()
    y = first(subject.module(1.0)(x, *rest))
    assert bool((y == 0).all()), "rate 1 leaves only zeros"
    grad, = torch.autograd.grad(y.sum(), x)
    assert bool((grad == 0).all()), "rate 1 has zero gradients"


def rate_one_is_refused(subject: Subject) -> None:
    """A rate of 1 has no meaning here, and the error says so."""
    for attempt in (lambda: subject.module(1.0), lambda: setattr(subject.module(0.5), subject.claims.rate or "", 1.0)):
        try:
            attempt()
        except ValueError:
            continue
        raise AssertionError("a rate of 1 is refused with a ValueError")


def zeros_appear_at_the_rate(subject: Subject) -> None:
    """The expected fraction of zeros is p, by a t test over passes."""
    x, *rest = subject.data(32)
    x = x.abs() + 0.5 if x.is_floating_point() else x
    for p in (0.1, 0.5):
        torch.manual_seed(7)
        module = subject.module(p)
        shares = torch.stack([(first(module(x, *rest)) == 0).double().mean() for _ in range(PASSES)])
        t = t_statistic(shares, p)
        assert abs(t) < SIGMAS, f"at p = {p} a fraction {float(shares.mean()):.4f} is zero, {t:.1f} standard errors away"


def kept_values_are_scaled_exactly(subject: Subject) -> None:
    """What is kept is exactly x / (1 - p), for the p that is realised."""
    x, *rest = subject.data()
    x = x.double()
    for p in (1e-9, 0.1, 0.5, 0.9, 1 - 1e-9):
        y = first(subject.module(p)(x, *rest))
        scaled = x * (WHOLE / (WHOLE - threshold(p)))
        assert bool(((y == 0) | (y == scaled)).all()), f"at p = {p} a value is neither 0 nor x / (1 - p)"


def mean_is_preserved(subject: Subject) -> None:
    """The expected output of training is the output of evaluation, by t tests of random projections over passes."""
    inputs = subject.data(16)
    module = subject.module(0.3)
    expected = first(module.eval()(*inputs)).detach().double()
    torch.manual_seed(7)
    weights = torch.randn(3, *expected.shape, dtype=torch.float64)
    module.train()
    with torch.no_grad():
        passes = [(weights * first(module(*inputs)).double()).flatten(1).sum(1) for _ in range(PASSES)]
    for values, target in zip(torch.stack(passes, 1), (weights * expected).flatten(1).sum(1), strict=True):
        t = t_statistic(values, float(target))
        assert abs(t) < SIGMAS, f"the mean of training is {t:.1f} standard errors away from evaluation"


def variance_is_preserved(subject: Subject) -> None:
    """For normal inputs the output has mean 0 and variance 1, by t tests over passes."""
    module = subject.module(0.3)
    torch.manual_seed(7)
    outputs = [first(module(*subject.inputs(64))).double() for _ in range(PASSES)]
    for name, values, expected in (("mean", torch.stack([y.mean() for y in outputs]), 0.0),
                                   ("second moment", torch.stack([(y**2).mean() for y in outputs]), 1.0)):
        t = t_statistic(values, expected)
        assert abs(t) < SIGMAS, f"the {name} is {float(values.mean()):.4f}, {t:.1f} standard errors from {expected:g}"


def evaluation_is_deterministic(subject: Subject) -> None:
    """Evaluation gives the same twice and draws nothing; where claimed it returns the input itself."""
    inputs, module = subject.data(), subject.module(0.5).eval()
    state = torch.get_rng_state()
    y = first(module(*inputs))
    assert same(y, first(module(*inputs))), "evaluation is the same twice"
    assert torch.equal(state, torch.get_rng_state()), "evaluation draws nothing"
    if subject.claims.eval_identity:
        assert y is inputs[0], "evaluation returns the input itself"
        if subject.call is not None and subject.claims.rate is not None:
            assert first(subject.call(*inputs, 0.5, training=False)) is inputs[0], "so does the function"


def training_acts_and_evaluation_does_not(subject: Subject) -> None:
    """Switching between training and evaluation switches the dropout."""
    inputs, module = subject.data(), subject.module(0.5)
    expected = first(subject.module(0.5).eval()(*inputs))
    for training in (True, False, True):
        module.train(training)
        y = first(module(*inputs))
        assert same(y, expected) is not training, "training drops" if training else "evaluation does not drop"


def dropped_infinities_become_zero(subject: Subject) -> None:
    """What is dropped is 0 even where it was infinite or NaN, and what is kept stays."""
    x, *rest = subject.data(16)
    for value in (math.nan, math.inf):
        y = first(subject.module(0.5)(torch.full_like(x, value), *rest))
        assert bool((y == 0).any()), f"a dropped {value} becomes 0"
        kept = y[y != 0]
        assert bool((torch.isnan(kept) if math.isnan(value) else kept == value).all()), f"a kept {value} stays"


def types_are_kept_and_share_masks(subject: Subject) -> None:
    """The output has the input's type, and one key drops the same places in every type."""
    x, *rest = subject.data()
    x = x.abs() + 0.5
    wide = run_keyed(subject.module(0.3), (x, *rest), 3)
    for name in subject.claims.dtypes:
        dtype = getattr(torch, name)
        others = [value.to(dtype) if isinstance(value, Tensor) and value.is_floating_point() else value for value in rest]
        y = run_keyed(subject.module(0.3).to(dtype), (x.to(dtype), *others), 3)
        assert y.dtype is dtype, f"{name} data gives {y.dtype}"
        assert bool(y.isfinite().all()), f"{name} data gives infinities or NaN"
        if subject.claims.realised_rate:
            assert torch.equal(y == 0, wide == 0), f"{name} data has another mask than float32"


def integers_are_refused(subject: Subject) -> None:
    """Integer and bool data are refused with an error that names the rule."""
    x, *rest = subject.data()
    for dtype in (torch.int64, torch.bool):
        try:
            subject.module(0.5)(torch.ones_like(x, dtype=dtype), *rest)
        except InputError:
            continue
        raise AssertionError(f"{dtype} data is refused with an InputError")


def empty_batches_pass(subject: Subject) -> None:
    """A batch of no examples goes through, forward and backward."""
    x, *rest = subject.inputs(0)
    if x.is_floating_point():
        x = x.requires_grad_()
    y = first(subject.module(0.5)(x, *rest))
    assert 0 in y.shape, "no examples in, no examples out"
    if x.requires_grad:
        grad, = torch.autograd.grad(y.sum(), x)
        assert grad.shape == x.shape, "the gradient has the input's shape"


def memory_layout_does_not_matter(subject: Subject) -> None:
    """Strided, transposed and channels-last data give the values of contiguous data."""
    x, *rest = subject.data()
    padded = torch.zeros([2 * size for size in x.shape], dtype=x.dtype)
    every_second = tuple(slice(0, None, 2) for _ in x.shape)
    padded[every_second] = x
    views = [padded[every_second], x.movedim(1, -1).contiguous().movedim(-1, 1), x.mT.contiguous().mT]
    equal = same if subject.claims.inverted or subject.claims.recognised else close  # sums may be taken in another order
    expected = run_keyed(subject.module(0.5), (x, *rest), 5)
    for view in views:
        y = run_keyed(subject.module(0.5), (view, *rest), 5)
        assert equal(y, expected), f"strides {view.stride()} give other values than {x.stride()}"
        if subject.claims.recognised:
            assert y.stride() == torch.empty_like(view).stride(), "the output has the layout of the input"


def single_examples_are_batches_of_one(subject: Subject) -> None:
    """An input without the batch dimension is treated as a batch of one."""
    assert subject.unbatched is not None
    torch.manual_seed(0)
    inputs = subject.unbatched()
    y = run_keyed(subject.module(0.5), inputs, 5)
    batch = tuple(value[None] if isinstance(value, Tensor) else value for value in inputs)
    assert close(y, run_keyed(subject.module(0.5), batch, 5)[0]), "one example gives another result than a batch of one"


def extreme_rates_stay_finite(subject: Subject) -> None:
    """Rates next to 0 and 1, and batches of any size, give finite outputs."""
    for p in (2.0**-32, 1e-12, 0.999, 1 - 2.0**-31):
        for count in (1, 2, 7):
            y = first(subject.module(p)(*subject.data(count)))
            assert not y.is_floating_point() or bool(y.isfinite().all()), f"p = {p!r} gives infinities or NaN"


def writing_in_place(subject: Subject) -> None:
    """With ``inplace`` the input itself is changed and returned, and autograd notices."""
    x, *rest = subject.data()
    base = x.clone().requires_grad_()
    work = base * 1
    version = work._version
    module: Any = subject.module(0.5)
    expected = run_keyed(module, (x.clone(), *rest), 2)
    module.inplace = True
    y = run_keyed(module, (work, *rest), 2)
    assert y is work, "the input itself is returned"
    assert work._version > version, "autograd is told"
    assert same(y.detach(), expected), "the values are those of a copy"
    out = run_keyed(module, (torch.exp(base), *rest), 2)
    try:
        torch.autograd.grad(out.sum(), base)  # exp saved its result, which is no longer there
    except RuntimeError:
        return
    raise AssertionError("a backward pass through an overwritten value is refused")


