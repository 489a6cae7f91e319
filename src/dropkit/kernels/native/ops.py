"""The native kernel's operators: how PyTorch traces, differentiates and batches them, and how they are called."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from dropkit.kernels.native.loader import load

KERNEL, DERIVATIVES, WHY = load()
DTYPES = frozenset((torch.float32, torch.float64, torch.bfloat16, torch.float16))

# With derivatives in Python, a stored mask is cheaper than an autograd function up to about this many elements.
STORED_MASK_UP_TO = 1024

_ops = torch.ops.dropkit


def apply(x: Tensor, seed: Tensor, rate: Tensor, mask_shape: Sequence[int], stream: int, scaling: int,
          global_shape: Sequence[int] = (), offsets: Sequence[int] = ()) -> Tensor:
    """Drop elements of x; see `dropkit.kernels.dispatch.apply_mask`, whose arguments these are.

    For the backward pass seed and rate are saved, 16 bytes, and the mask is made again.
    """
    y: Tensor = _ops.apply.default(x, seed, rate, mask_shape, stream, scaling, global_shape, offsets)
    return y


def apply_inplace(x: Tensor, seed: Tensor, rate: Tensor, mask_shape: Sequence[int], stream: int, scaling: int,
                  global_shape: Sequence[int] = (), offsets: Sequence[int] = ()) -> Tensor:
    """Drop elements of x in its own memory and return it; x needs no gradient."""
    _ops.apply_.default(x, seed, rate, mask_shape, stream, scaling, global_shape, offsets)
    # The stable ABI has no such call; without it autograd would not notice that a value saved elsewhere is no longer there.
    torch.autograd.graph.increment_version(x)
    return x


def apply_add(residual: Tensor, x: Tensor, seed: Tensor, rate: Tensor, mask_shape: Sequence[int], stream: int,
              scaling: int) -> Tensor:
    """Return ``residual + apply(x)`` in one pass over memory, rounded once."""
    y: Tensor = _ops.apply_add.default(residual, x, seed, rate, mask_shape, stream, scaling, (), ())
    return y


def keep_mask(seed: Tensor, rate: Tensor, mask_shape: Sequence[int], stream: int, global_shape: Sequence[int] = (),
              offsets: Sequence[int] = ()) -> Tensor:
    """Where a mask keeps, as a bool tensor."""
    keep: Tensor = _ops.keep_mask.default(seed, rate, mask_shape, stream, global_shape, offsets)
    return keep


def noise(seed: Tensor, shape: Sequence[int], stream: int, law: int, global_shape: Sequence[int] = (),
          offsets: Sequence[int] = ()) -> Tensor:
    """Noise of a law, 0 for uniform and 1 for normal, as a float32 tensor."""
    values: Tensor = _ops.noise.default(seed, shape, stream, law, global_shape, offsets)
    return values


def apply_noise(x: Tensor, seed: Tensor, strength: Tensor, law: int, mask_shape: Sequence[int], stream: int,
                global_shape: Sequence[int] = (), offsets: Sequence[int] = ()) -> Tensor:
    """Multiply x by noise around 1 in one pass; see `dropkit.kernels.dispatch.apply_noise`, whose arguments these are.

    For the backward pass seed and strength are saved, 16 bytes, and the noise is made again. Not differentiable in strength.
    """
    y: Tensor = _ops.apply_noise.default(x, seed, strength, law, mask_shape, stream, global_shape, offsets)
    return y


def relu_moments(mean: Tensor, variance: Tensor, slope: float) -> tuple[Tensor, Tensor]:
    """Moments behind a rectifier; see `dropkit.kernels.moments.relu_moments`, whose arguments these are. Not differentiable."""
    moments: tuple[Tensor, Tensor] = _ops.relu_moments.default(mean, variance, slope)
    return moments


def one_call() -> Callable[..., Tensor] | None:
    """Return the operator that draws a seed and applies its mask, or None without the compiled derivatives.

    Taken out of its Python wrapper where there is one: that half microsecond is what keeps tiny tensors level with PyTorch's
    own dropout (``benchmarks/bench_dropout.py``, 1 element).
    """
    if DERIVATIVES is None:
        return None
    operator: Callable[..., Tensor] = _ops.draw_and_apply.default
    return getattr(operator, "_op", operator)


def with_stored_mask(x: Tensor, seed: Tensor, rate: float) -> Tensor:
    """Drop elements of x with inverted scaling through operators that PyTorch differentiates; for small tensors."""
    y: Tensor = _ops.with_stored_mask.default(x, rate, seed)
    return y


def _fake_apply(x: Tensor, *_: Any) -> Tensor:
    return torch.empty_like(x)


def _fake_inplace(x: Tensor, *_: Any) -> None:
    return None


def _fake_add(residual: Tensor, x: Tensor, *_: Any) -> Tensor:
    return torch.empty_like(x)


def _fake_mask(seed: Tensor, rate: Tensor, mask_shape: Sequence[int], *_: Any) -> Tensor:
    return seed.new_empty(mask_shape, dtype=torch.bool)


def _save(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    seed, rate, *ctx.law = inputs[-7:]
    ctx.save_for_backward(seed, rate)


def _backward(ctx: Any, grad: Tensor) -> tuple[Any, ...]:
    return _ops.apply.default(grad, *ctx.saved_tensors, *ctx.law), *(None,) * 7


def _backward_add(ctx: Any, grad: Tensor) -> tuple[Any, ...]:
    again = _ops.apply.default(grad, *ctx.saved_tensors, *ctx.law) if ctx.needs_input_grad[1] else None
    return grad, again, *(None,) * 7


def _save_noise(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    _, seed, strength, *ctx.law = inputs
    ctx.save_for_backward(seed, strength)


def _backward_noise(ctx: Any, grad: Tensor) -> tuple[Any, ...]:
    return _ops.apply_noise.default(grad, *ctx.saved_tensors, *ctx.law), *(None,) * 7


def _front(tensor: Tensor, dim: int | None, size: int) -> Tensor:
    return tensor.unsqueeze(0).expand(size, *tensor.shape) if dim is None else tensor.movedim(dim, 0)


def _batched(op: Any, count: int, info: Any, dims: tuple[Any, ...], args: tuple[Any, ...]) -> tuple[Tensor, int]:
    """Call ``op``, whose first ``count`` arguments are data, on a batch; batched seeds and rates get masks of their own."""
    data = [_front(x, dim, info.batch_size) for x, dim in zip(args[:count], dims[:count], strict=True)]
    seed, rate, shape, stream, scaling, whole, offsets = args[count:]
    if dims[count] is None and dims[count + 1] is None:  # one mask for all: a new dimension along which it is shared
        whole = [1, *whole] if len(whole) else []
        return op(*data, seed, rate, [1, *shape], stream, scaling, whole, [0, *offsets] if len(offsets) else []), 0
    if op is _ops.apply.default and dims[count + 1] is None and _is_alone(data[0]):
        seeds = _front(seed, dims[count], info.batch_size).contiguous()
        return _ops.apply_batch.default(data[0], seeds, rate, shape, stream, scaling, whole, offsets), 0
    rates = _front(rate, dims[count + 1], info.batch_size)
    is_known = op is _ops.apply.default and type(rates) is Tensor and not torch._C._functorch.is_functorch_wrapped_tensor(rates)
    keeps_all = [p == 0 for p in rates.tolist()] if is_known else [False] * len(rates)  # spares the mask; the scale is 1
    rows = zip(*(x.unbind() for x in data), _front(seed, dims[count], info.batch_size).unbind(), rates.unbind(), strict=True)
    return torch.stack([row[0] if whole_row else op(*row, shape, stream, scaling, whole, offsets)
                        for whole_row, row in zip(keeps_all, rows, strict=True)]), 0


def _is_alone(x: Tensor) -> bool:
    """Tell whether nothing differentiates x or batches it once more: `apply_batch`, one call for all seeds, does neither."""
    differentiated = x.requires_grad and torch.is_grad_enabled()
    return not differentiated and not torch._C._functorch.is_functorch_wrapped_tensor(x) and type(x) is Tensor and x.is_cpu


def _batched_apply(info: Any, dims: tuple[Any, ...], *args: Any) -> tuple[Tensor, int]:
    return _batched(_ops.apply.default, 1, info, dims, args)


def _batched_add(info: Any, dims: tuple[Any, ...], *args: Any) -> tuple[Tensor, int]:
    return _batched(_ops.apply_add.default, 2, info, dims, args)


def _fake_noise(seed: Tensor, shape: Sequence[int], *_: Any) -> Tensor:
    return seed.new_empty(shape, dtype=torch.float32)


def _fake_relu_moments(mean: Tensor, variance: Tensor, slope: float) -> tuple[Tensor, Tensor]:
    return torch.empty_like(mean), torch.empty_like(mean)


def _batched_noise(info: Any, dims: tuple[Any, ...], seed: Tensor, *law: Any) -> tuple[Tensor, int]:
    return torch.stack([_ops.noise.default(one, *law) for one in _front(seed, dims[0], info.batch_size)]), 0


def _batched_apply_noise(info: Any, dims: tuple[Any, ...], x: Tensor, seed: Tensor, strength: Tensor, law: int,
                         shape: Sequence[int], stream: int, whole: Sequence[int],
                         offsets: Sequence[int]) -> tuple[Tensor, int]:
    op, rows = _ops.apply_noise.default, _front(x, dims[0], info.batch_size)
    if dims[1] is None and dims[2] is None:  # one noise for all, as in `_batched`
        whole, offsets = [1, *whole] if len(whole) else [], [0, *offsets] if len(offsets) else []
        return op(rows, seed, strength, law, [1, *shape], stream, whole, offsets), 0
    seeds, strengths = _front(seed, dims[1], info.batch_size), _front(strength, dims[2], info.batch_size)
    return torch.stack([op(*row, law, shape, stream, whole, offsets) for row in zip(rows, seeds, strengths, strict=True)]), 0


def _batched_mask(info: Any, dims: tuple[Any, ...], seed: Tensor, rate: Tensor, *law: Any) -> tuple[Tensor, int]:
    seeds, rates = _front(seed, dims[0], info.batch_size), _front(rate, dims[1], info.batch_size)
    return torch.stack([_ops.keep_mask.default(*one, *law) for one in zip(seeds, rates, strict=True)]), 0


def _register() -> None:
    library = torch.library
    for name, fake in (("apply", _fake_apply), ("apply_", _fake_inplace), ("apply_add", _fake_add), ("keep_mask", _fake_mask),
                       ("apply_batch", _fake_apply), ("noise", _fake_noise), ("apply_noise", _fake_apply),
                       ("relu_moments", _fake_relu_moments)):
        library.register_fake(f"dropkit::{name}", fake)
    library.register_vmap("dropkit::apply", _batched_apply)
    library.register_vmap("dropkit::apply_add", _batched_add)
    library.register_vmap("dropkit::keep_mask", _batched_mask)
    library.register_vmap("dropkit::noise", _batched_noise)
    library.register_vmap("dropkit::apply_noise", _batched_apply_noise)
    if DERIVATIVES is None:
        library.register_autograd("dropkit::apply", _backward, setup_context=_save)
        library.register_autograd("dropkit::apply_add", _backward_add, setup_context=_save)
        library.register_autograd("dropkit::apply_noise", _backward_noise, setup_context=_save_noise)


if KERNEL is not None:
    _register()
