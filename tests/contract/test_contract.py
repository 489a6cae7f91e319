"""Every claim of every row of the catalog, verified.

A test that does not apply to a row is opted out of in the row, by its name and with a reason.
"""

import copy
import math
import pickle

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn.modules.dropout import _DropoutNd

import dropkit as dk
from dropkit.catalog import CATALOG

FALSE_ALARM = 1e-6
DTYPES = [torch.float16, torch.bfloat16, torch.float32, torch.float64]
rows = pytest.mark.parametrize("row", CATALOG, ids=lambda row: row.name)


@pytest.fixture(autouse=True)
def seeded(row, request):
    for name, reason in row.opt_outs:
        if request.function.__name__ == f"test_{name}":
            pytest.skip(reason)
    torch.manual_seed(0)


def large(row, factor):
    """The row's example with a batch so large that rates can be measured."""
    return (row.example[0] * factor, *row.example[1:])


def channels_last(row, x):
    """Data of the same shape with dimension 1 last in memory."""
    return x.movedim(1, -1).contiguous().movedim(-1, 1)


@rows
def test_names_are_consistent(row):
    assert getattr(dk.nn, row.module.__name__) is row.module
    assert getattr(dk.functional, row.function.__name__) is row.function
    assert row.module.__name__.lower() == row.name.replace("_", "") == row.function.__name__.replace("_", "")
    assert row.function.__module__ == row.module.__module__ == f"dropkit.variants.{row.family}"
    assert row.summary.endswith(".")
    assert row.claims.shape_rule
    assert row.reference
    assert row.torch_twin is None or row.torch_twin.__name__ == row.module.__name__


@rows
def test_opt_outs_name_tests_and_give_reasons(row):
    for name, reason in row.opt_outs:
        assert callable(globals().get(f"test_{name}"))
        assert len(reason) > 20


@rows
def test_libraries_recognise_the_module(row):
    assert isinstance(row.module(), _DropoutNd)
    assert row.torch_twin is None or not isinstance(row.module(), row.torch_twin)


@rows
def test_rate_zero_returns_the_input_and_draws_nothing(row):
    x, state = torch.randn(row.example), torch.get_rng_state()
    assert row.module(0.0)(x) is x
    assert row.function(x, 0) is x
    assert torch.equal(state, torch.get_rng_state())


@rows
def test_rate_one_drops_everything_with_zero_gradients(row):
    x = torch.randn(row.example)
    x.view(-1)[:4] = torch.tensor([math.nan, math.inf, -math.inf, 0.0])
    x.requires_grad_()
    y = row.module(1.0)(x)
    y.sum().backward()
    assert bool((y == 0).all())
    assert bool((x.grad == 0).all())


@rows
@pytest.mark.parametrize("p", [0.1, 0.5, 0.9])
def test_values_are_zero_or_scaled(row, p):
    x = torch.randn(row.example, dtype=torch.float64)
    y = row.module(p)(x)
    scaled = x * (2**32 / (2**32 - math.floor(p * 2**32 + 0.5)))
    assert bool(((y == 0) | (y == scaled)).all())


@rows
@pytest.mark.parametrize("p", [0.1, 0.5])
def test_realised_rate_and_mean(row, p):
    x = torch.ones(large(row, 500), dtype=torch.float64)
    y = row.function(x, p)
    decisions = (y == 0).flatten(2)[..., :1] if row.name != "dropout" else y == 0
    bound = math.sqrt(math.log(2 / FALSE_ALARM) / (2 * decisions.numel()))  # Hoeffding
    assert abs(float(decisions.double().mean()) - p) < bound
    if row.claims.mean_preserving:
        assert abs(float(y.mean()) - 1) < bound / (1 - p)


@rows
def test_variance_claim(row):
    p, x = 0.5, torch.ones(large(row, 500), dtype=torch.float64)
    x[: len(x) // 2] = -1  # mean 0, variance 1 exactly
    # E[y^2] = q s^2 for a scale s: 1 if variance is preserved, 1/q for inverted scaling. Decisions are as many as examples
    # times channels at least; y^2 lies in [0, 4].
    measured = float((row.function(x, p) ** 2).mean())
    bound = 4 * math.sqrt(math.log(2 / FALSE_ALARM) / (2 * len(x) * x.shape[1]))
    expected = 1.0 if row.claims.variance_preserving else 1 / (1 - p)
    assert bound < 0.5
    assert abs(measured - expected) < bound


@rows
def test_manual_seed_governs(row):
    x, module = torch.randn(row.example), row.module(0.5)
    torch.manual_seed(11)
    first = module(x)
    torch.manual_seed(11)
    assert torch.equal(module(x), first)
    assert not torch.equal(module(x), first)


@rows
def test_fork_rng_isolates(row):
    x, module = torch.randn(row.example), row.module(0.5)
    torch.manual_seed(11)
    with torch.random.fork_rng():
        inside = module(x)
    assert torch.equal(module(x), inside)


@rows
def test_a_generator_decides(row):
    x, state = torch.randn(row.example), torch.get_rng_state()
    first = row.function(x, generator=torch.Generator().manual_seed(4))
    assert torch.equal(row.function(x, generator=torch.Generator().manual_seed(4)), first)
    assert torch.equal(state, torch.get_rng_state())


@rows
def test_keyed_is_reproducible(row):
    x, module = torch.randn(row.example), row.module(0.5)

    def run(seed, step=0, turn=0):
        with dk.keyed(seed, step, pass_index=turn):
            return module(x), module(x)

    state = torch.get_rng_state()
    first, second = run(1)
    assert torch.equal(state, torch.get_rng_state())
    assert torch.equal(run(1)[0], first)
    assert torch.equal(run(1)[1], second)
    others = [first, second, run(2)[0], run(1, 1)[0], run(1, 0, 1)[0]]
    assert len({tuple((y != 0).flatten().tolist()) for y in others}) == 5


@rows
def test_forward_and_backward_use_one_mask(row):
    x = torch.randn(row.example, requires_grad=True)
    y = row.module(0.5)(x)
    y.backward(torch.ones_like(y))
    assert torch.equal(x.grad, torch.where(y == 0, 0.0, 2.0))


# torch's own forward-mode rules are compiled with torch.jit.script, which warns.
@pytest.mark.filterwarnings("ignore:`torch.jit.script` is:DeprecationWarning")
@rows
def test_gradients_to_second_order(row):
    x = torch.randn(2, *row.example[1:3], *(2 for _ in row.example[3:]), dtype=torch.float64, requires_grad=True)

    def drop(x):
        return row.function(x, 0.4, generator=torch.Generator().manual_seed(1))

    assert torch.autograd.gradcheck(drop, x)
    assert torch.autograd.gradcheck(drop, x.detach()[:1].requires_grad_(), check_forward_ad=True)
    assert torch.autograd.gradgradcheck(lambda x: drop(x) ** 2, x.detach()[:1].requires_grad_())


@rows
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_types_share_masks_and_keep_their_own(row, dtype):
    assert str(dtype).removeprefix("torch.") in row.claims.dtypes
    x = torch.randn(row.example).abs() + 0.5
    with dk.keyed(3):
        wide = row.function(x, 0.3)
    with dk.keyed(3):
        y = row.function(x.to(dtype), 0.3)
    assert y.dtype is dtype
    assert torch.equal(y == 0, wide == 0)


@rows
@pytest.mark.parametrize("dtype", [torch.int64, torch.bool], ids=str)
def test_integers_are_refused(row, dtype):
    with pytest.raises(dk.InputError, match="floating-point"):
        row.module(0.5)(torch.ones(row.example, dtype=dtype))


@rows
@pytest.mark.parametrize("dim", [0, 1, -1])
def test_empty(row, dim):
    shape = list(row.example)
    shape[dim] = 0
    x = torch.empty(shape, requires_grad=True)
    y = row.module(0.5)(x)
    y.sum().backward()
    assert y.shape == x.shape == x.grad.shape


@rows
def test_memory_layout_does_not_matter(row):
    x = torch.randn(row.example)
    padded = torch.zeros(*(2 * size for size in x.shape))
    padded[tuple(slice(0, None, 2) for _ in x.shape)] = x
    views = [channels_last(row, x), padded[tuple(slice(0, None, 2) for _ in x.shape)], x.mT.contiguous().mT]
    with dk.keyed(5):
        expected = row.function(x, 0.5)
    for view in views:
        with dk.keyed(5):
            y = row.function(view, 0.5)
        assert torch.equal(y, expected)
        assert y.stride() == torch.empty_like(view).stride()


@rows
def test_unbatched(row):
    x = torch.ones(row.unbatched)
    with dk.keyed(5):
        y = row.function(x, 0.5)
    with dk.keyed(5):
        batched = row.function(x[None], 0.5)
    assert y.shape == x.shape
    assert torch.equal(y, batched[0])


@rows
def test_evaluation_is_the_identity(row):
    assert row.claims.eval_identity
    x, state = torch.randn(row.example), torch.get_rng_state()
    assert row.module(0.5).eval()(x) is x
    assert row.function(x, 0.5, training=False) is x
    assert torch.equal(state, torch.get_rng_state())


@rows
def test_train_eval_train(row):
    x, module = torch.randn(row.example), row.module(0.5)
    for training in (True, False, True):
        module.train(training)
        assert torch.equal(module(x), x) is not training


@rows
def test_copies_and_pickles_behave_alike(row):
    x, module = torch.randn(row.example), row.module(0.3).eval().train()
    module.stream = "a.b"
    for other in (copy.deepcopy(module), pickle.loads(pickle.dumps(module))):
        assert repr(other) == repr(module)
        assert other.stream == "a.b"
        with dk.keyed(1):
            first = module(x)
        with dk.keyed(1):
            assert torch.equal(other(x), first)


@rows
def test_state_dict_is_empty(row):
    assert row.module(0.3).state_dict() == {}
    row.module(0.3).load_state_dict({})


@rows
def test_a_changed_rate_takes_effect_and_is_checked(row):
    x, module = torch.randn(row.example), row.module(0.0)
    assert type(module.p) is float
    assert module(x) is x
    module.p = 1.0
    assert bool((module(x) == 0).all())
    with pytest.raises(dk.InputError, match="probability of dropping"):
        module.p = 1.5
    assert module.p == 1.0
    with pytest.raises(ValueError, match="probability of dropping"):
        row.module(-0.1)


@rows
def test_dropped_infinities_become_zero(row):
    for value in (math.nan, math.inf, -math.inf):
        y = row.function(torch.full(row.example, value), 0.5)
        zeros = y == 0
        assert bool(zeros.any())
        assert bool(torch.isnan(y[~zeros]).all() if math.isnan(value) else (y[~zeros] == value).all())


@rows
def test_inplace_writes_into_the_input(row):
    base = torch.randn(row.example, requires_grad=True)
    x = base * 1
    before, version = x.detach().clone(), x._version
    with dk.keyed(2):
        y = row.module(0.5, True)(x)
    assert y is x
    assert x._version > version
    with dk.keyed(2):
        assert torch.equal(y, row.function(before, 0.5))
    (y**2).sum().backward()
    assert torch.allclose(base.grad, torch.where(y == 0, 0, 4 * y).detach())
    with pytest.raises(RuntimeError, match="leaf"):
        row.function(torch.ones(row.example, requires_grad=True), 0.5, inplace=True)
    saved = torch.exp(base)
    row.function(saved, 0.5, inplace=True)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        saved.sum().backward()


@rows
def test_compiled_code_makes_the_same_masks(row):
    torch.compiler.reset()
    module = row.module(0.5)
    compiled = torch.compile(module, backend="aot_eager", fullgraph=True)
    for step, batch in enumerate((2, 3)):
        x = torch.randn(batch, *row.example[1:], requires_grad=True)
        torch.manual_seed(step)
        y = module(x)
        torch.manual_seed(step)
        z = compiled(x)
        assert torch.equal(y, z)
        assert torch.equal(*(torch.autograd.grad(out.sum(), x)[0] for out in (y, z)))
        for seed in (1, 2):  # a new seed may not need a new compilation
            with dk.keyed(seed, step):
                y = module(x)
            with dk.keyed(seed, step):
                assert torch.equal(compiled(x), y)


@rows
def test_vmap_randomness(row):
    x = torch.ones(3, *row.example)
    run = {kind: torch.vmap(lambda v: row.function(v, 0.5), randomness=kind) for kind in ("same", "different", "error")}
    same, different = run["same"](x), run["different"](x)
    assert torch.equal(same[0], same[1])
    assert not torch.equal(different[0], different[1])
    with pytest.raises(RuntimeError, match="randomness"):
        run["error"](x)
    unbatched = torch.vmap(lambda w: w * row.function(x[0], 0.5), randomness="different")(torch.ones(3))
    assert not torch.equal(unbatched[0], unbatched[1])


@rows
def test_meta(row):
    y = row.module(0.5)(torch.empty(row.example, device="meta"))
    assert (y.device.type, tuple(y.shape)) == ("meta", row.example)


@rows
def test_repr_is_that_of_torch(row):
    if row.torch_twin is not None:
        assert repr(row.module(0.25)) == repr(row.torch_twin(0.25))
    assert "inplace=True" in repr(row.module(0.25, inplace=True))


@rows
@settings(max_examples=30, deadline=None)
@given(st.data())
def test_any_rate_and_batch(row, data):
    batch, p = data.draw(st.integers(0, 9)), data.draw(st.floats(0, 1))
    x = torch.randn(batch, *row.example[1:], dtype=torch.float64)
    with dk.keyed(data.draw(st.integers(0, 2**64 - 1)), data.draw(st.integers(0, 2**64 - 1))):
        y = row.function(x, p)
    limit = math.floor(p * 2**32 + 0.5)
    scale = 2**32 / (2**32 - limit) if limit < 2**32 else 0.0
    assert y.shape == x.shape
    assert bool(((y == 0) | (y == x * scale)).all())
