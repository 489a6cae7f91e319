"""The choice of a kernel for a recurrent layer, and the operator around the native one, which is one call for all steps."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from dropkit.kernels.native import ops as native
from dropkit.kernels.recurrent import GATES, GRU, LSTM, Layer, reference, steps

_NAMES = ("gates", "h", "c", "weight", "bias_n", "recurrent", "candidate", "zone_c", "zone_h")
_ops = torch.ops.dropkit
_transforms = torch._C._functorch.maybe_current_level


def recurrence(layer: Layer) -> tuple[Tensor, Tensor, Tensor | None]:
    """Run a layer, with the kernel for its device.

    The native kernel computes the products of all units in one call a step, the rest in another, and the gradient of the
    weights in one product for all steps. Higher derivatives, those in forward mode and under ``torch.func``, and layers with a
    projection take the reference.

    Args:
        layer: the layer.

    Returns:
        The states after each row, (R, P), the last state of each sequence, (N, P), and an LSTM's last memory, (N, H).

    Example:
        >>> layer = Layer(LSTM, torch.zeros(6, 8), torch.zeros(3, 2), torch.zeros(3, 2), torch.zeros(8, 2))
        >>> [tuple(part.shape) for part in recurrence(layer)]
        [(6, 2), (3, 2), (3, 2)]
    """
    if not _is_native(layer):
        return reference(layer)
    tensors = [getattr(layer, name) for name in _NAMES]
    found = _ops.recurrence.default(*tensors, list(layer.sizes), layer.reverse, layer.cell)
    return found[0], found[1], found[2] if layer.cell == LSTM else None


def is_plain(x: Tensor) -> bool:
    """Tell whether nothing traces, transforms or differentiates forwards, so that torch's fused recurrent layers take x.

    Args:
        x: the data.

    Example:
        >>> is_plain(torch.zeros(2)), torch.vmap(lambda x: torch.tensor(is_plain(x)))(torch.zeros(2)).tolist()
        (True, [False, False])
    """
    forward_mode = torch.autograd.forward_ad._current_level >= 0
    return not torch.compiler.is_compiling() and not forward_mode and _transforms() is None


def _is_native(layer: Layer) -> bool:
    gates = layer.gates
    return (native.KERNEL is not None and gates.device.type == "cpu" and gates.dtype in (torch.float32, torch.float64)
            and layer.projection is None and _transforms() is None and torch.autograd.forward_ad._current_level < 0)


class _Saved:
    """Shapes of what the operator returns besides states: what its backward pass needs."""

    def __init__(self, gates: Tensor, h: Tensor, recurrent: Tensor | None, cell: int) -> None:
        rows, units = gates.shape[0], h.shape[1]
        kept = rows if cell in (LSTM, GRU) else 0
        self.shapes = ((rows, units), (rows, gates.shape[1]), (kept, units), (kept, units),
                       (1 if recurrent is None else recurrent.shape[0], rows, units))
        self.out, self.acts, self.previous, self.extra, self.entered = (gates.new_empty(shape) for shape in self.shapes)


def _forward(gates: Tensor, h: Tensor, c: Tensor | None, weight: Tensor, bias_n: Tensor | None, recurrent: Tensor | None,
             candidate: Tensor | None, zone_c: Tensor | None, zone_h: Tensor | None, sizes: Sequence[int], reverse: bool,
             cell: int) -> tuple[Tensor, ...]:
    gates, (count, units) = gates.contiguous(), h.shape
    saved, state = _Saved(gates, h, recurrent, cell), h.clone(memory_format=torch.contiguous_format)
    memory = gates.new_empty(0, units) if c is None else c.clone(memory_format=torch.contiguous_format)
    bias = gates.new_zeros(1, units) if bias_n is None else bias_n.reshape(1, units).contiguous()
    multipliers = _filled(gates, units, candidate, zone_c, zone_h)
    apart = recurrent is not None and recurrent.shape[0] > 1
    turned = (weight.view(-1, units, units).mT if apart else weight.t()).contiguous()  # a tenth faster in each product
    product = gates.new_empty((GATES[cell], count, units) if apart else (count, gates.shape[1]))
    for first, size in steps(gates.shape[0], count, sizes, reverse):
        entered, now = saved.entered.narrow(1, first, size), state.narrow(0, 0, size)
        if recurrent is None:
            entered[0].copy_(now)
        else:
            torch.mul(now, _part(recurrent, first, size, gates), out=entered)
        if apart:
            torch.bmm(entered, turned, out=product.narrow(1, 0, size))
        else:
            torch.mm(entered[0], turned, out=product.narrow(0, 0, size))
        _ops.recurrent_forward_step_.default(product, gates, state, memory, saved.out, saved.acts, saved.previous, saved.extra,
                                             bias, *multipliers, cell, first, size)
    return saved.out, state, memory, saved.acts, saved.previous, saved.extra, saved.entered


def _backward(grad_out: Tensor | None, grad_h: Tensor | None, grad_c: Tensor | None, weight: Tensor, acts: Tensor,
              previous: Tensor, extra: Tensor, entered: Tensor, recurrent: Tensor | None, candidate: Tensor | None,
              zone_c: Tensor | None, zone_h: Tensor | None, count: int, sizes: Sequence[int], reverse: bool,
              cell: int) -> tuple[Tensor, ...]:
    units, apart = weight.shape[1], entered.shape[0] > 1
    state, memory = _start(grad_h, acts, count, units), _start(grad_c, acts, count if cell == LSTM else 0, units)
    incoming = acts.new_zeros(1, units) if grad_out is None else grad_out.contiguous()
    multipliers = _filled(acts, units, candidate, zone_c, zone_h)
    grad_gates = torch.empty_like(acts)
    grad_product = torch.empty_like(acts) if cell == GRU else grad_gates
    back = acts.new_empty((GATES[cell], count, units) if apart else (count, units))
    by_gate = weight.view(-1, units, units)
    for first, size in steps(acts.shape[0], count, sizes, not reverse):
        _ops.recurrent_backward_step_.default(incoming, state, memory, acts, previous, extra, *multipliers, grad_gates,
                                              grad_product, cell, first, size)
        grad, now = grad_product.narrow(0, first, size), state.narrow(0, 0, size)
        if recurrent is None:
            now.addmm_(grad, weight)
        elif apart:
            through = torch.bmm(grad.view(size, -1, units).transpose(0, 1), by_gate, out=back.narrow(1, 0, size))
            now.add_(through.mul_(_part(recurrent, first, size, acts)).sum(0))
        else:
            through = torch.mm(grad, weight, out=back.narrow(0, 0, size))
            now.addcmul_(through, _part(recurrent, first, size, acts)[0])
    if apart:
        grad_weight = torch.bmm(grad_product.view(-1, GATES[cell], units).permute(1, 2, 0), entered).view_as(weight)
    else:
        grad_weight = grad_product.t() @ entered[0]
    return grad_gates, state, memory, grad_weight, grad_product[:, -units:].sum(0)


def _filled(like: Tensor, units: int, candidate: Tensor | None, zone_c: Tensor | None,
            zone_h: Tensor | None) -> tuple[Tensor, Tensor, Tensor]:
    """Multipliers with a row that changes nothing where there is none."""
    nothing = like.new_zeros(1, units)
    return (like.new_ones(1, units) if candidate is None else candidate.contiguous(),
            nothing if zone_c is None else zone_c.contiguous(), nothing if zone_h is None else zone_h.contiguous())


def _part(mask: Tensor, first: int, size: int, rows: Tensor) -> Tensor:
    return mask.narrow(1, first if mask.shape[1] == rows.shape[0] else 0, size)


def _start(grad: Tensor | None, like: Tensor, count: int, units: int) -> Tensor:
    return like.new_zeros(count, units) if grad is None or not count else grad.clone(memory_format=torch.contiguous_format)


def _fake_forward(gates: Tensor, h: Tensor, c: Tensor | None, weight: Tensor, bias_n: Tensor | None,
                  recurrent: Tensor | None, candidate: Tensor | None, zone_c: Tensor | None, zone_h: Tensor | None,
                  sizes: Sequence[int], reverse: bool, cell: int) -> tuple[Tensor, ...]:
    saved = _Saved(gates, h, recurrent, cell)
    state, memory = gates.new_empty(h.shape), gates.new_empty((0, h.shape[1]) if c is None else c.shape)
    return saved.out, state, memory, saved.acts, saved.previous, saved.extra, saved.entered


def _fake_backward(grad_out: Tensor | None, grad_h: Tensor | None, grad_c: Tensor | None, weight: Tensor, acts: Tensor,
                   previous: Tensor, extra: Tensor, entered: Tensor, recurrent: Tensor | None, candidate: Tensor | None,
                   zone_c: Tensor | None, zone_h: Tensor | None, count: int, sizes: Sequence[int], reverse: bool,
                   cell: int) -> tuple[Tensor, ...]:
    units = weight.shape[1]
    return (torch.empty_like(acts), acts.new_empty(count, units), acts.new_empty(count if cell == LSTM else 0, units),
            acts.new_empty(weight.shape), acts.new_empty(units))


def _setup(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
    tensors, ctx.rest = inputs[:len(_NAMES)], inputs[len(_NAMES):]
    ctx.set_materialize_grads(False)
    ctx.mark_non_differentiable(*output[3:])
    ctx.save_for_backward(*tensors, *output[3:])


def _differentiate(ctx: Any, *grads: Tensor | None) -> tuple[Any, ...]:
    everything = ctx.saved_tensors  # read once: checkpoints recompute at the first reading and refuse a second
    tensors, saved = everything[:len(_NAMES)], everything[len(_NAMES):]
    sizes, reverse, cell = ctx.rest
    if torch.is_grad_enabled() and not torch.compiler.is_compiling():
        found: Sequence[Any] = _again(dict(zip(_NAMES, tensors, strict=True)), ctx.rest, grads)
    else:
        _, h, c, weight, bias_n, *masks = tensors
        gates, state, memory, to_weight, bias = _ops.recurrence_backward.default(
            *grads[:2], grads[2] if cell == LSTM else None, weight, *saved, *masks, h.shape[0], sizes, reverse, cell)
        found = gates, state, None if c is None else memory, to_weight, None if bias_n is None else bias
    return *found, *(None,) * (len(tensors) - 5 + 3)


def _again(tensors: dict[str, Tensor | None], rest: tuple[Any, ...], grads: Sequence[Tensor | None]) -> list[Tensor | None]:
    """Gradients that can be differentiated again: those of the reference."""
    given: dict[str, Any] = dict(tensors)
    outputs = reference(Layer(**given, sizes=rest[0], reverse=rest[1], cell=rest[2]))
    pairs = [(y, grad) for y, grad in zip(outputs, grads, strict=False) if y is not None and grad is not None]
    wanted = {name: x for name, x in tensors.items() if name in _NAMES[:5] and x is not None and x.requires_grad}
    found = torch.autograd.grad([y for y, _ in pairs], list(wanted.values()), [grad for _, grad in pairs], create_graph=True,
                                allow_unused=True)
    by_name = dict(zip(wanted, found, strict=True))
    return [by_name.get(name) for name in _NAMES[:5]]


def _register() -> Any:
    library: Any = torch.library.Library("dropkit", "FRAGMENT")  # type: ignore[no-untyped-call]
    masks = "Tensor? recurrent, Tensor? candidate, Tensor? zone_c, Tensor? zone_h, "
    library.define(f"recurrence(Tensor gates, Tensor h, Tensor? c, Tensor weight, Tensor? bias_n, {masks}SymInt[] sizes, "
                   "bool reverse, int cell) -> (Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor)")
    library.define("recurrence_backward(Tensor? grad_out, Tensor? grad_h, Tensor? grad_c, Tensor weight, Tensor acts, "
                   f"Tensor previous, Tensor extra, Tensor entered, {masks}SymInt count, SymInt[] sizes, bool reverse, "
                   "int cell) -> (Tensor, Tensor, Tensor, Tensor, Tensor)")
    library.impl("recurrence", _forward, "CPU")
    library.impl("recurrence_backward", _backward, "CPU")
    torch.library.register_fake("dropkit::recurrence", _fake_forward, lib=library)
    torch.library.register_fake("dropkit::recurrence_backward", _fake_backward, lib=library)
    torch.library.register_autograd("dropkit::recurrence", _differentiate, setup_context=_setup, lib=library)
    return library


_LIBRARY = _register() if native.KERNEL is not None else None  # operators live as long as the library that made them
