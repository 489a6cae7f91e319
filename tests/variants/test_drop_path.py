import math

import pytest
import torch

import dropkit as dk
from dropkit.kernels.native import ops as native
from dropkit.variants.drop_path import DropPath, drop_path, drop_path_add


def test_whole_examples_are_dropped_or_scaled():
    x = torch.randn(4000, 3, 2)
    y = drop_path(x, 0.2)
    gone = (y == 0).flatten(1).all(1)
    assert torch.equal(y[~gone], x[~gone] * torch.tensor(1.25))
    assert abs(float(gone.double().mean()) - 0.2) < math.sqrt(math.log(2 / 1e-6) / (2 * 4000))


def test_per_batch_decides_once():
    x, module = torch.ones(50, 3), DropPath(0.5, per="batch")
    seen = {float(module(x).unique()) for _ in range(40)}
    assert seen == {0.0, 2.0}  # both within 40 passes but for a chance of 2^-39


def test_a_module_made_at_zero_can_be_scheduled_up():
    module, x = DropPath(0.0), torch.ones(100, 2)
    assert module(x) is x
    module.p = 1.0
    assert bool((module(x) == 0).all())


def test_classic_scaling_moves_the_factor_to_evaluation():
    module, x = DropPath(0.25, scaling="classic"), torch.ones(100, 2)
    assert set(module(x).unique().tolist()) <= {0.0, 1.0}
    assert torch.equal(module.eval()(x), x * 0.75)


def test_the_rules_of_depth():
    assert dk.depth_rates(0.4, 4) == (0.1, 0.2, pytest.approx(0.3), 0.4)
    assert dk.depth_rates(0.3, 4, "linspace") == pytest.approx(torch.linspace(0, 0.3, 4).tolist())
    assert dk.depth_rates(0.4, 4, "zero_based") == pytest.approx((0.0, 0.1, 0.2, 0.3))
    assert [dk.depth_rates(0.4, 1, rule) for rule in ("paper", "linspace", "zero_based")] == [(0.4,), (0.0,), (0.0,)]


def test_wrong_arguments_are_refused():
    with pytest.raises(dk.InputError, match="per is"):
        DropPath(per="layer")
    with pytest.raises(dk.InputError, match="batch dimension"):
        drop_path(torch.tensor(1.0))
    with pytest.raises(dk.InputError, match="depth is"):
        dk.depth_rates(0.1, 0)
    with pytest.raises(dk.InputError, match="rule is"):
        dk.depth_rates(0.1, 2, "other")


@pytest.mark.parametrize("shape", [(64,), (64, 5), (64, 4, 3, 2), (64, 2, 3, 2, 2, 2)])
def test_any_rank_has_one_decision_an_example(shape):
    y = drop_path(torch.ones(shape), 0.5).flatten(1) if len(shape) > 1 else drop_path(torch.ones(shape), 0.5)[:, None]
    assert torch.equal(y, y[:, :1].expand_as(y))
    assert set(y.unique().tolist()) == {0.0, 2.0}  # 64 decisions alike: a chance of 2^-63


def test_one_decision_for_the_batch_has_the_rate():
    with_rate = torch.tensor([float(drop_path(torch.ones(2, 1), 0.3, per="batch")[0]) == 0 for _ in range(3000)])
    assert abs(float(with_rate.double().mean()) - 0.3) < math.sqrt(math.log(2 / 1e-6) / (2 * 3000))  # Hoeffding


@pytest.mark.parametrize("per", ["sample", "batch"])
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16, torch.float16])
def test_adding_in_one_pass_is_adding_the_dropped_branch(per, dtype):
    x, residual = torch.randn(40, 3, 5).to(dtype), torch.randn(40, 3, 5).to(dtype)
    wide = dtype if dtype is torch.float64 else torch.float32
    for key in range(5):
        with dk.keyed(key):
            y = drop_path_add(x, residual, 0.3, per=per)
        with dk.keyed(key):
            dropped = drop_path(x.to(wide), 0.3, per=per)
        gone = (dropped == 0).flatten(1).all(1)
        assert torch.equal(y[gone], residual[gone])
        # Rounded once to the type; a fused multiply and add may differ in the last bit of the wide type.
        exact = residual.double() + dropped.double()
        assert torch.allclose(y.double(), exact, rtol=torch.finfo(dtype).eps / 2 + torch.finfo(wide).eps,
                              atol=8 * torch.finfo(wide).eps)


def test_a_dropped_branch_adds_nothing_even_where_it_is_not_finite():
    residual = torch.randn(4, 3)
    for value in (math.nan, math.inf, -math.inf):
        x = torch.full((4, 3), value, requires_grad=True)
        y = drop_path_add(x, residual, 1.0)
        y.sum().backward()
        assert torch.equal(y, residual)
        assert bool((x.grad == 0).all())


def test_adding_passes_the_residual_s_gradient_and_masks_the_branch_s():
    x, residual = (torch.randn(50, 3, requires_grad=True) for _ in range(2))
    with dk.keyed(1):
        drop_path_add(x, residual, 0.5).sum().backward()
    with dk.keyed(1):
        mask = drop_path(torch.ones(50, 3), 0.5)
    assert torch.equal(residual.grad, torch.ones(50, 3))
    assert torch.equal(x.grad, mask)


def test_adding_has_right_derivatives_to_second_order():
    x, residual = (torch.randn(3, 2, dtype=torch.float64, requires_grad=True) for _ in range(2))

    def add(x, residual):
        return drop_path_add(x, residual, 0.4, generator=torch.Generator().manual_seed(1))

    assert torch.autograd.gradcheck(add, (x, residual))
    assert torch.autograd.gradgradcheck(lambda x, residual: add(x, residual) ** 2, (x, residual))


def test_adding_does_nothing_else_in_evaluation_and_at_rate_zero():
    x, residual, state = torch.randn(4, 3), torch.randn(4, 3), torch.get_rng_state()
    assert torch.equal(drop_path_add(x, residual, 0.5, False), residual + x)
    assert torch.equal(drop_path_add(x, residual, 0.0), residual + x)
    assert torch.equal(state, torch.get_rng_state())
    after = []
    for p in (0.0, 0.5):  # rate 0 counts as a use
        with dk.keyed(2):
            drop_path_add(x, residual, p)
            after.append(drop_path(torch.ones(60, 1), 0.5))
    assert torch.equal(*after)


@pytest.mark.skipif(native.KERNEL is None, reason="the reference kernel saves what the native one makes again")
def test_adding_saves_no_mask():
    saved = []
    x, residual = (torch.randn(64, 30, requires_grad=True) for _ in range(2))
    with torch.autograd.graph.saved_tensors_hooks(lambda t: saved.append(t) or t, lambda t: t):
        drop_path_add(x, residual, 0.5)
    assert sum(t.untyped_storage().nbytes() for t in saved) <= 64


def test_compiled_adding_takes_new_rates_without_compiling_again():
    graphs = []

    def backend(graph, inputs):
        graphs.append(graph)
        return graph

    torch.compiler.reset()
    add = torch.compile(drop_path_add, backend=backend, fullgraph=True)
    x, residual = torch.randn(20, 3), torch.randn(20, 3)
    for p in (0.5, 0.25, 0.0):
        rate = torch.tensor(p, dtype=torch.float64)
        torch.manual_seed(1)
        y = add(x, residual, rate)
        torch.manual_seed(1)
        assert torch.equal(y, drop_path_add(x, residual, p))
    assert len(graphs) == 1


@pytest.mark.parametrize("residual", [torch.ones(3, 1), torch.ones(3, 2, dtype=torch.float64), torch.ones(3, 2, device="meta")],
                         ids=["shape", "type", "device"])
def test_adding_refuses_what_does_not_match(residual):
    with pytest.raises(dk.InputError, match="shape, type and device"):
        drop_path_add(torch.ones(3, 2), residual)


def test_adding_refuses_wrong_arguments():
    x, integers = torch.ones(3, 2), torch.ones(3, 2, dtype=torch.int64)
    with pytest.raises(dk.InputError, match="floating-point"):
        drop_path_add(integers, integers)
    with pytest.raises(dk.InputError, match="probability"):
        drop_path_add(x, x, 1.5, training=False)
    with pytest.raises(dk.InputError, match="per is"):
        drop_path_add(x, x, per="layer")
    with pytest.raises(dk.InputError, match="batch dimension"):
        drop_path_add(x[0, 0], x[0, 0])
    assert drop_path_add(x[0, 0], x[0, 0], 1.0, per="batch") == 1.0


@pytest.mark.parametrize("p", [0.1, 0.2, 0.3, 0.7, 1 - 2.0**-53, 1.0])
def test_the_last_rate_is_exactly_the_one_asked_for(p):
    for depth in range(2, 200):
        paper, linspace, zero_based = (dk.depth_rates(p, depth, rule) for rule in ("paper", "linspace", "zero_based"))
        assert paper[-1] == linspace[-1] == p
        assert linspace[0] == zero_based[0] == 0.0
        for rates in (paper, linspace, zero_based):
            assert len(rates) == depth
            assert list(rates) == sorted(rates)
            assert max(rates) <= p
            assert DropPath(rates[-1]).p == rates[-1]


@pytest.mark.parametrize(("p", "depth"), [(-0.1, 2), (1.1, 2), (math.nan, 2), (0.1, 2.0), (0.1, True), (0.1, -1)])
def test_wrong_depths_and_rates_are_refused(p, depth):
    with pytest.raises(dk.InputError):
        dk.depth_rates(p, depth)


def test_wrong_scaling_is_refused():
    with pytest.raises(dk.InputError, match="scaling is"):
        DropPath(scaling="other")
    with pytest.raises(dk.InputError, match="per is"):
        drop_path(torch.ones(2, 2), per="layer")


def test_settings_show():
    assert repr(DropPath(0.2, per="batch", scaling="classic")) == "DropPath(p=0.2, per='batch', scaling='classic')"
