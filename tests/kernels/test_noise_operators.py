"""What PyTorch does around multiplying by noise: derivatives, tracing, batching, compiling; on whichever kernel is there."""

import os
import subprocess
import sys

import pytest
import torch
from torch.func import grad, jvp, vmap

from dropkit.kernels import dispatch, noise
from dropkit.kernels.native import ops

SEED, STRENGTH = torch.tensor(11), torch.tensor(0.3, dtype=torch.float64)
OPERATORS = torch.ops.dropkit
needs_native = pytest.mark.skipif(ops.KERNEL is None, reason="without a C++ compiler there is only the reference kernel")
needs_derivatives = pytest.mark.skipif(ops.DERIVATIVES is None, reason="the derivatives were compiled for another PyTorch")
laws = pytest.mark.parametrize("law", noise.LAWS)


def apply(x, shape=None, law="normal"):
    return dispatch.apply_noise(x, SEED, STRENGTH, law, shape or x.shape)


def factors(shape, dtype=torch.float32):
    return noise.apply_noise(torch.ones(shape, dtype=dtype), SEED, STRENGTH, "normal", shape)


@needs_native
@pytest.mark.parametrize("x", [
    torch.randn(3, 5), torch.randn(3, 5, requires_grad=True), torch.randn(3, 10)[:, ::2],
    torch.randn(2, 3, 4, 5).contiguous(memory_format=torch.channels_last)], ids=["plain", "grad", "strided", "channels_last"])
def test_opcheck_native(x):
    for shape in (x.shape, (x.shape[0], *(1 for _ in x.shape[1:]))):
        torch.library.opcheck(OPERATORS.apply_noise.default, (x, SEED, STRENGTH, 1, list(shape), 0, [], []))
    torch.library.opcheck(OPERATORS.noise.default, (SEED, (3, 5), 0, 1))
    torch.library.opcheck(OPERATORS.noise.default, (SEED, (3, 5), 0, 0, (9, 5), (2, 0)))


def test_opcheck_reference():
    cpu = torch.device("cpu")
    for shard in ((), ((9, 5), (2, 0))):
        torch.library.opcheck(OPERATORS.reference_noise.default, (SEED, (3, 5), 0, 1, cpu, *shard))
        torch.library.opcheck(OPERATORS.reference_noise_factors.default,
                              (SEED, STRENGTH, (3, 5), 0, 0, cpu, torch.float64, *shard))


@laws
def test_derivatives_of_every_order(law):
    x, forwards = torch.randn(3, 7, dtype=torch.float64, requires_grad=True), not ops.KERNEL or bool(ops.DERIVATIVES)
    for shape in ((3, 7), (3, 1)):
        assert torch.autograd.gradcheck(lambda x, shape=shape: apply(x, shape, law), x, check_forward_ad=forwards)
        assert torch.autograd.gradgradcheck(lambda x, shape=shape: apply(x, shape, law), x)


@pytest.mark.parametrize("shape", [(33, 70), (33, 1), (1, 70), (1, 1)])
def test_the_gradient_is_the_factor(shape):
    x = torch.randn(33, 70, requires_grad=True)
    apply(x, shape).sum().backward()
    assert torch.equal(x.grad, factors(shape).expand(33, 70))


def test_the_gradient_of_half_precision_is_rounded_once():
    x = torch.randn(500).bfloat16().requires_grad_()
    apply(x).backward(torch.full((500,), 3.0, dtype=torch.bfloat16))
    assert torch.equal(x.grad, (factors((500,)) * 3).bfloat16())


@needs_native
@needs_derivatives
def test_forward_mode():
    x, tangent = torch.randn(4, 5), torch.randn(4, 5)
    y, moved = jvp(apply, (x,), (tangent,))
    assert torch.equal(y, apply(x))
    assert torch.equal(moved, apply(tangent))


@needs_native
@pytest.mark.parametrize("shape", [(2**20,), (1,)])
def test_what_is_saved_for_the_backward_pass(shape):
    kept = {}

    def pack(tensor):
        kept[tensor.data_ptr()] = tensor.numel() * tensor.element_size()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        apply(torch.rand(2**20, requires_grad=True), shape)
    assert 0 < sum(kept.values()) <= 64


def test_vmap_with_one_seed_shares_the_noise():
    x = torch.randn(6, 4, 5)
    assert torch.equal(vmap(apply)(x), torch.stack([apply(row) for row in x]))
    assert torch.equal(vmap(lambda x: apply(x, (6, 1)), in_dims=1)(x), torch.stack([apply(row, (6, 1)) for row in x.unbind(1)]))


def test_vmap_with_batched_seeds_and_strengths():
    x, seeds, strengths = torch.randn(6, 4, 5), torch.arange(6), torch.linspace(0, 2, 6, dtype=torch.float64)

    def one(x, seed, strength):
        return dispatch.apply_noise(x, seed, strength, "uniform", (4, 1))

    known = torch.stack([one(*row) for row in zip(x, seeds, strengths, strict=True)])
    assert torch.equal(vmap(one)(x, seeds, strengths), known)
    assert torch.equal(vmap(one, in_dims=(None, 0, None))(x[0], seeds, STRENGTH),
                       torch.stack([one(x[0], seed, STRENGTH) for seed in seeds]))
    assert torch.equal(vmap(one, in_dims=(None, None, 0))(x[0], SEED, strengths),
                       torch.stack([one(x[0], SEED, strength) for strength in strengths]))
    made = vmap(lambda seed: dispatch.noise((7,), seed, "normal"))(seeds)
    assert torch.equal(made, torch.stack([dispatch.noise((7,), seed, "normal") for seed in seeds]))


def test_vmap_of_grad():
    x = torch.randn(6, 20)

    def loss(x):
        return apply(x).square().sum()

    assert torch.equal(vmap(grad(loss))(x), torch.stack([grad(loss)(row) for row in x]))


def test_meta_tensors():
    y = apply(torch.empty(3, 4, device="meta"))
    assert (y.device.type, y.shape, y.dtype) == ("meta", (3, 4), torch.float32)


@pytest.mark.parametrize("dynamic", [False, True])
def test_compiled_code_gives_the_same_and_a_new_strength_recompiles_nothing(dynamic):
    graphs = []

    def backend(graph, _):
        graphs.append(graph)
        return graph.forward

    torch._dynamo.reset()
    compiled = torch.compile(lambda x, s: dispatch.apply_noise(x, SEED, s, "normal", x.shape), backend=backend,
                             fullgraph=True, dynamic=dynamic)
    for size in (4097, 10, 1000) if dynamic else (4097, 4097):
        for strength in (0.3, 0.0, 1.7):
            s, x = torch.tensor(strength, dtype=torch.float64), torch.randn(size, 3)
            assert torch.equal(compiled(x, s), dispatch.apply_noise(x, SEED, s, "normal", x.shape))
    assert len(graphs) == 1


def test_compiled_forward_and_backward():
    torch._dynamo.reset()
    x = torch.randn(300, 5, requires_grad=True)
    compiled = torch.compile(lambda x: apply(x, (300, 1)), backend="aot_eager", fullgraph=True)
    for call in (compiled, lambda x: apply(x, (300, 1))):
        x.grad = None
        call(x).sum().backward()
        assert torch.equal(x.grad, factors((300, 1)).expand(300, 5))


@pytest.mark.slow
def test_inductor_gives_the_noise_of_eager_code():
    torch._dynamo.reset()
    x = torch.randn(3000, requires_grad=True)
    results = []
    for call in (apply, torch.compile(apply, fullgraph=True)):
        y = call(x)
        results.append((y.detach(), *torch.autograd.grad(y.sum(), x)))
    assert torch.equal(results[0][0], results[1][0])
    assert torch.equal(results[0][1], results[1][1])


@needs_native
@needs_derivatives
def test_derivatives_in_python_are_the_same():
    """Under a PyTorch for which none were compiled; here the import of those that there are is made to fail."""
    code = f"""
import sys, torch
sys.modules["{ops.DERIVATIVES.__name__}"] = None
from dropkit.kernels import dispatch, noise
from dropkit.kernels.native import ops
assert ops.DERIVATIVES is None
x = torch.randn(3, 7, dtype=torch.float64, requires_grad=True)
seed, s = torch.tensor(11), torch.tensor(0.3, dtype=torch.float64)
apply = lambda x: dispatch.apply_noise(x, seed, s, "normal", (3, 1))
assert torch.autograd.gradcheck(apply, x) and torch.autograd.gradgradcheck(apply, x)
apply(x).sum().backward()
assert torch.equal(x.grad, noise.apply_noise(torch.ones(3, 7, dtype=torch.float64), seed, s, "normal", (3, 1)))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=dict(os.environ), check=False)
    assert done.returncode == 0, done.stderr
