"""What PyTorch does around the native operators: derivatives, tracing, batching, exporting, checkpointing."""

import pytest
import torch
from torch import nn
from torch.func import grad, jvp, vmap
from torch.utils.checkpoint import checkpoint

import dropkit as dk
from dropkit.core.streams import checkpoint_contexts
from dropkit.kernels import dispatch
from dropkit.kernels.native import ops

pytestmark = pytest.mark.skipif(ops.KERNEL is None, reason="without a C++ compiler there is only the reference kernel")

SEED, RATE = torch.tensor(11), torch.tensor(0.3, dtype=torch.float64)
OPERATORS = torch.ops.dropkit


def law(shape):
    return SEED, RATE, list(shape), 0, True, [], []


def apply(x, shape=None):
    return dispatch.apply_mask(x, SEED, RATE, shape or x.shape, 0, True)


@pytest.mark.parametrize("x", [
    torch.randn(3, 5), torch.randn(3, 5, requires_grad=True), torch.randn(3, 10)[:, ::2],
    torch.randn(2, 3, 4, 5).contiguous(memory_format=torch.channels_last)], ids=["plain", "grad", "strided", "channels_last"])
def test_opcheck_apply(x):
    torch.library.opcheck(OPERATORS.apply.default, (x, *law(x.shape)))
    torch.library.opcheck(OPERATORS.apply.default, (x, *law((x.shape[0], *(1 for _ in x.shape[1:])))))


def test_opcheck_others():
    x, residual = torch.randn(3, 5, requires_grad=True), torch.randn(3, 5, requires_grad=True)
    torch.library.opcheck(OPERATORS.apply_.default, (torch.randn(3, 5), *law((3, 5))))
    torch.library.opcheck(OPERATORS.apply_add.default, (residual, x, *law((3, 5))))
    torch.library.opcheck(OPERATORS.keep_mask.default, (SEED, RATE, [3, 5], 0, [], []))


def test_derivatives_of_every_order():
    x, residual = (torch.randn(3, 7, dtype=torch.float64, requires_grad=True) for _ in range(2))
    for shape in ((3, 7), (3, 1)):
        assert torch.autograd.gradcheck(lambda x, shape=shape: apply(x, shape), x)
        assert torch.autograd.gradgradcheck(lambda x, shape=shape: apply(x, shape), x)
    fused = [residual, x]
    assert torch.autograd.gradcheck(lambda r, x: dispatch.add_masked(r, x, SEED, RATE, (3, 7), 0, True), fused)
    assert torch.autograd.gradgradcheck(lambda r, x: dispatch.add_masked(r, x, SEED, RATE, (3, 7), 0, True), fused)


@pytest.mark.parametrize("size", [1, 16, 1024, 1025, 100_000])
def test_the_gradient_is_the_mask_that_was_drawn(size):
    x = torch.randn(size, requires_grad=True)
    y = dk.functional.dropout(x, 0.3)
    y.backward(torch.full_like(x, float("nan")))
    keep = y.detach() != 0
    assert torch.equal(x.grad.isnan(), keep)
    assert bool((x.grad[~keep] == 0).all())


def test_forward_mode():
    x, tangent = torch.randn(4, 5), torch.randn(4, 5)
    y, moved = jvp(apply, (x,), (tangent,))
    assert torch.equal(y, apply(x))
    assert torch.equal(moved, apply(tangent))


def test_what_is_saved_for_the_backward_pass():
    kept = {}

    def pack(tensor):
        kept[tensor.data_ptr()] = tensor.numel() * tensor.element_size()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        dk.nn.Dropout(0.1)(torch.rand(2**20, requires_grad=True))
    assert 0 < sum(kept.values()) <= 64


def test_vmap_with_one_seed_shares_the_mask():
    x = torch.randn(6, 4, 5)
    assert torch.equal(vmap(apply)(x), torch.stack([apply(row) for row in x]))
    assert torch.equal(vmap(lambda x: apply(x, (6, 1)), in_dims=1)(x), torch.stack([apply(row, (6, 1)) for row in x.unbind(1)]))


def test_vmap_with_batched_seeds_and_rates():
    x, seeds, rates = torch.randn(6, 4, 5), torch.arange(6), torch.linspace(0, 1, 6, dtype=torch.float64)

    def one(x, seed, rate):
        return dispatch.apply_mask(x, seed, rate, (4, 5), 0, True)

    assert torch.equal(vmap(one)(x, seeds, rates), torch.stack([one(*row) for row in zip(x, seeds, rates, strict=True)]))
    assert torch.equal(vmap(one, in_dims=(None, 0, None))(x[0], seeds, RATE), torch.stack([one(x[0], s, RATE) for s in seeds]))


def test_vmap_randomness():
    x = torch.ones(6, 1000)
    same = vmap(lambda x: dk.functional.dropout(x, 0.5), randomness="same")(x)
    assert bool((same == same[0]).all())
    other = vmap(lambda x: dk.functional.dropout(x, 0.5), randomness="different")(x)
    assert bool((other[0] != other[1]).any())
    with pytest.raises(RuntimeError, match="randomness"):
        vmap(lambda x: dk.functional.dropout(x, 0.5))(x)


def test_vmap_of_grad():
    x = torch.randn(6, 20)

    def loss(x):
        return apply(x).square().sum()

    assert torch.equal(vmap(grad(loss))(x), torch.stack([grad(loss)(row) for row in x]))


def test_meta_tensors():
    y = dk.nn.Dropout(0.3)(torch.empty(3, 4, device="meta"))
    assert (y.device.type, y.shape) == ("meta", (3, 4))


class Counted:
    """A compiled function, and how many graphs were compiled for it."""

    def __init__(self, function, **options):
        self.graphs = 0

        def backend(graph, _):
            self.graphs += 1
            return graph.forward

        torch._dynamo.reset()
        self.call = torch.compile(function, backend=backend, fullgraph=True, **options)


def test_changing_the_rate_recompiles_nothing():
    module, x = dk.nn.Dropout(0.5), torch.ones(10_000)
    counted = Counted(module)
    for rate in (0.5, 0.1, 0.0, 0.9, 1.0):
        module.p = rate
        torch.manual_seed(3)
        compiled = counted.call(x)
        torch.manual_seed(3)
        assert torch.equal(compiled, module(x) if rate else x)
    assert counted.graphs == 1


def test_a_rate_given_as_a_tensor_recompiles_nothing():
    counted = Counted(lambda x, p: dk.functional.dropout(x, p))
    for rate in (0.5, 0.1, 0.9):
        torch.manual_seed(3)
        compiled = counted.call(torch.ones(1000), torch.tensor(rate, dtype=torch.float64))
        torch.manual_seed(3)
        assert torch.equal(compiled, dk.functional.dropout(torch.ones(1000), rate))
    assert counted.graphs == 1


def test_dynamic_shapes_compile_once():
    counted = Counted(lambda x: dk.functional.dropout(x, 0.3), dynamic=True)
    for size in (10, 1000, 4097):
        torch.manual_seed(3)
        compiled = counted.call(torch.ones(size, 3))
        torch.manual_seed(3)
        assert torch.equal(compiled, dk.functional.dropout(torch.ones(size, 3), 0.3))
    assert counted.graphs == 1


def test_steps_of_keyed_recompile_nothing():
    model = dk.swap(nn.Sequential(nn.Linear(8, 8), nn.Dropout(0.5), nn.Dropout(0.2)))
    x, counted = torch.ones(4, 8), Counted(model)
    for step in range(4):
        with dk.keyed(7, step=step):
            compiled = counted.call(x)
        with dk.keyed(7, step=step):
            assert torch.equal(compiled, model(x))
    assert counted.graphs == 1


@pytest.mark.slow
def test_inductor_gives_the_masks_of_eager_code_forward_and_backward():
    torch._dynamo.reset()
    module, x = dk.nn.Dropout(0.4), torch.ones(3000, requires_grad=True)
    compiled = torch.compile(module, fullgraph=True)
    results = []
    for call in (module, compiled):
        torch.manual_seed(5)
        y = call(x)
        results.append((y.detach(), *torch.autograd.grad(y.sum(), x)))
    assert torch.equal(results[0][0], results[1][0])
    assert torch.equal(results[0][1], results[1][1])
    assert torch.equal(results[0][0], results[0][1])


def test_export_keeps_the_operator():
    model = dk.swap(nn.Sequential(nn.Linear(4, 4), nn.Dropout(0.5))).train()
    exported = torch.export.export(model, (torch.ones(2, 4),))
    assert "dropkit.apply" in exported.graph_module.code
    torch.manual_seed(0)
    known = model(torch.ones(2, 4))
    torch.manual_seed(0)
    assert torch.equal(exported.module()(torch.ones(2, 4)), known)


@pytest.mark.parametrize("preserve", [True, False])
@pytest.mark.parametrize("inside", [True, False])
def test_a_checkpoint_recomputes_the_mask_of_the_forward_pass(preserve, inside):
    model = dk.swap(nn.Sequential(nn.Linear(50, 50), nn.Dropout(0.5), nn.Linear(50, 50)))
    x = torch.randn(8, 50)

    def gradients(run):
        model.zero_grad()
        with dk.keyed(3, step=1):
            loss = run().square().sum()
            if inside:
                loss.backward()
        if not inside:
            loss.backward()
        return [parameter.grad.clone() for parameter in model.parameters()]

    plain = gradients(lambda: model(x))
    again = gradients(lambda: checkpoint(model, x, use_reentrant=False, preserve_rng_state=preserve,
                                         context_fn=checkpoint_contexts))
    assert all(torch.equal(one, other) for one, other in zip(plain, again, strict=True))


@pytest.mark.slow
def test_two_sites_in_one_compiled_graph_draw_masks_of_their_own():
    """Compilers merge equal calls of one operator, also of one that is tagged as random."""
    torch._dynamo.reset()
    x = torch.ones(4096, requires_grad=True)

    def two(x):
        return dk.functional.dropout(x, 0.5), dk.functional.dropout(x, 0.5)

    compiled = torch.compile(two, fullgraph=True)
    torch.manual_seed(1)
    first, second = compiled(x)
    assert not torch.equal(first, second)
    torch.manual_seed(1)
    assert all(torch.equal(one, other) for one, other in zip((first, second), two(x), strict=True))
    (first.sum() + second.sum()).backward()
    assert torch.equal(x.grad, (first + second).detach())


@pytest.mark.parametrize(("size", "shape"), [((1,), ()), ((100,), ()), ((5000,), ()), ((50, 100), (50, 1)), ((), ())])
def test_one_call_and_two_draw_the_same_mask(size, shape):
    x = torch.randn(size, requires_grad=True)
    for generator in (None, torch.Generator()):
        results = []
        for call in (dispatch.draw_and_apply, dispatch.draw_then_apply):
            torch.manual_seed(4) if generator is None else generator.manual_seed(4)
            y = call(x, 0.3, generator, shape)
            results.append((y.detach(), *torch.autograd.grad(y.sum(), x)))
        assert torch.equal(results[0][0], results[1][0])
        assert torch.equal(results[0][1], results[1][1])
