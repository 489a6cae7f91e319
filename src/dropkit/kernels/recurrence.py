"""The choice of a kernel for a recurrent layer, and the operator around the native one, which is one call for all steps."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from dropkit.kernels.native import ops as native
from dropkit.kernels.recurrent import GATES, GRU, LSTM, Layer, enter, reference

_NAMES = ("x", "w_ih", "h", "c", "w_hh", "bias", "bias_n", "entering", "recurrent", "candidate", "zone_c", "zone_h")
_DIFFERENTIABLE = 7  # the rest are masks
_ops = torch.ops.dropkit
_transforms = torch._C._functorch.maybe_current_level


def recurrence(layer: Layer) -> tuple[Tensor, Tensor, Tensor | None]:
    """Run a layer, with the kernel for its device.

    The native kernel takes the input through its weights in one product for all steps, then at each step the states through
    theirs and the rest in one loop; the gradients of the weights are one product each again. Higher derivatives, those in
    forward mode and under ``torch.func``, and layers with a projection take the reference.

    Args:
        layer: the layer.

    Returns:
        The states after each row, (R, P), the last state of each sequence, (N, P), and an LSTM's last memory, (N, H).

    Example:
        >>> layer = Layer(LSTM, torch.ones(6, 4), torch.ones(8, 4), torch.ones(3, 2), torch.ones(3, 2), torch.ones(8, 2))
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
    x = layer.x
    return (native.KERNEL is not None and x.device.type == "cpu" and x.dtype in (torch.float32, torch.float64)
            and layer.projection is None and _transforms() is None and torch.autograd.forward_ad._current_level < 0)


def _forward(x: Tensor, w_ih: Tensor, h: Tensor, c: Tensor | None, w_hh: Tensor, bias: Tensor | None, bias_n: Tensor | None,
             entering: Tensor | None, recurrent: Tensor | None, candidate: Tensor | None, zone_c: Tensor | None,
             zone_h: Tensor | None, sizes: Sequence[int], reverse: bool, cell: int) -> tuple[Tensor, ...]:
    units, gates = h.shape[1], _project(x, w_ih, bias, entering)
    state = h.clone(memory_format=torch.contiguous_format)
    memory = x.new_empty(0, units) if c is None else c.clone(memory_format=torch.contiguous_format)
    inner = x.new_zeros(1, units) if bias_n is None else bias_n.reshape(1, units).contiguous()
    out, previous, extra, entered = _kept(x, h, recurrent, cell)
    # Turned weights make each product a third faster.
    turned = (w_hh.reshape(-1, units, units).mT if entered.shape[0] > 1 else w_hh.t()).contiguous()
    _ops.recurrent_forward_.default(turned, gates, state, memory, out, previous, extra, entered, inner, _contiguous(recurrent),
                                    *_filled(x, units, candidate, zone_c, zone_h), sizes, reverse, cell)
    return out, state, memory, gates, previous, extra, entered


def _backward(grad_out: Tensor | None, grad_h: Tensor | None, grad_c: Tensor | None, x: Tensor, w_ih: Tensor, w_hh: Tensor,
              acts: Tensor, previous: Tensor, extra: Tensor, entered: Tensor, entering: Tensor | None, recurrent: Tensor | None,
              candidate: Tensor | None, zone_c: Tensor | None, zone_h: Tensor | None, count: int, sizes: Sequence[int],
              reverse: bool, cell: int, needs_x: bool) -> tuple[Tensor, ...]:
    units, apart = w_hh.shape[1], entered.shape[0] > 1
    state, memory = _start(grad_h, x, count, units), _start(grad_c, x, count if cell == LSTM else 0, units)
    incoming = x.new_zeros(1, units) if grad_out is None else grad_out.contiguous()
    grad_gates = torch.empty_like(acts)
    grad_product = torch.empty_like(acts) if cell == GRU else grad_gates
    _ops.recurrent_backward_.default(w_hh.reshape(-1, units, units) if apart else w_hh, incoming, state, memory, acts, previous,
                                     extra, _contiguous(recurrent), *_filled(x, units, candidate, zone_c, zone_h), grad_gates,
                                     grad_product, sizes, reverse, cell)
    if apart:
        to_hidden = torch.bmm(grad_product.view(-1, GATES[cell], units).permute(1, 2, 0), entered).view_as(w_hh)
    else:
        to_hidden = grad_product.t() @ entered[0]
    return (*_project_back(grad_gates, x, w_ih, entering, needs_x), state, memory, to_hidden, grad_gates.sum(0),
            grad_product[:, -units:].sum(0))


def _project(x: Tensor, w_ih: Tensor, bias: Tensor | None, entering: Tensor | None) -> Tensor:
    """The input's share of every gate, in memory that the steps then overwrite by the gates' values."""
    gates = x.new_empty(x.shape[0], w_ih.shape[0])
    if entering is None:
        return torch.mm(x, w_ih.t(), out=gates) if bias is None else torch.addmm(bias, x, w_ih.t(), out=gates)
    count = entering.shape[0]
    for mask, weight, part in zip(entering, w_ih.chunk(count), gates.chunk(count, -1), strict=True):
        part.copy_(enter(x, mask) @ weight.t())
    return gates if bias is None else gates.add_(bias)


def _project_back(grad: Tensor, x: Tensor, w_ih: Tensor, entering: Tensor | None, needs_x: bool) -> tuple[Tensor, Tensor]:
    """Gradients in the input, empty where it is not wanted, and in its weights."""
    if entering is None:
        return (grad @ w_ih if needs_x else x.new_empty(0)), grad.t() @ x
    to_x, to_weight = torch.zeros_like(x), []
    for mask, weight, own in zip(entering, w_ih.chunk(len(entering)), grad.chunk(len(entering), -1), strict=True):
        to_weight.append(own.t() @ enter(x, mask))
        if needs_x:
            to_x += enter(own @ weight, mask)
    return to_x if needs_x else x.new_empty(0), torch.cat(to_weight)


def _kept(x: Tensor, h: Tensor, recurrent: Tensor | None, cell: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Room for the output, for two values of each unit that the backward pass needs, and for what entered the gates."""
    (rows, _), units = x.shape, h.shape[1]
    kept = rows if cell in (LSTM, GRU) else 0
    return (x.new_empty(rows, units), x.new_empty(kept, units), x.new_empty(kept, units),
            x.new_empty(1 if recurrent is None else recurrent.shape[0], rows, units))


def _contiguous(mask: Tensor | None) -> Tensor | None:
    return None if mask is None else mask.contiguous()


def _filled(like: Tensor, units: int, candidate: Tensor | None, zone_c: Tensor | None,
            zone_h: Tensor | None) -> tuple[Tensor, Tensor, Tensor]:
    """Multipliers with a row that changes nothing where there is none."""
    nothing = like.new_zeros(1, units)
    return (like.new_ones(1, units) if candidate is None else candidate.contiguous(),
            nothing if zone_c is None else zone_c.contiguous(), nothing if zone_h is None else zone_h.contiguous())


def _start(grad: Tensor | None, like: Tensor, count: int, units: int) -> Tensor:
    return like.new_zeros(count, units) if grad is None or not count else grad.clone(memory_format=torch.contiguous_format)


def _fake_forward(x: Tensor, w_ih: Tensor, h: Tensor, c: Tensor | None, w_hh: Tensor, bias: Tensor | None,
                  bias_n: Tensor | None, entering: Tensor | None, recurrent: Tensor | None, candidate: Tensor | None,
                  zone_c: Tensor | None, zone_h: Tensor | None, sizes: Sequence[int], reverse: bool,
                  cell: int) -> tuple[Tensor, ...]:
    out, previous, extra, entered = _kept(x, h, recurrent, cell)
    memory = x.new_empty((0, h.shape[1]) if c is None else c.shape)
    return out, x.new_empty(h.shape), memory, x.new_empty(x.shape[0], w_ih.shape[0]), previous, extra, entered


def _fake_backward(grad_out: Tensor | None, grad_h: Tensor | None, grad_c: Tensor | None, x: Tensor, w_ih: Tensor, w_hh: Tensor,
                   acts: Tensor, previous: Tensor, extra: Tensor, entered: Tensor, entering: Tensor | None,
                   recurrent: Tensor | None, candidate: Tensor | None, zone_c: Tensor | None, zone_h: Tensor | None, count: int,
                   sizes: Sequence[int], reverse: bool, cell: int, needs_x: bool) -> tuple[Tensor, ...]:
    units = w_hh.shape[1]
    return (x.new_empty(x.shape if needs_x else (0,)), x.new_empty(w_ih.shape), x.new_empty(count, units),
            x.new_empty(count if cell == LSTM else 0, units), x.new_empty(w_hh.shape), x.new_empty(w_hh.shape[0]),
            x.new_empty(units))


class _Recurrence(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, *arguments: Any) -> tuple[Tensor, ...]:
        """Run the operator and keep what the backward pass needs."""
        found = _below_autograd(*arguments)
        ctx.rest = arguments[len(_NAMES):]
        ctx.set_materialize_grads(False)
        ctx.mark_non_differentiable(*found[3:])
        ctx.save_for_backward(*arguments[:len(_NAMES)], *found[3:])
        return found

    @staticmethod
    def backward(ctx: Any, *grads: Tensor | None) -> tuple[Any, ...]:
        """Run the backward operator, or the reference where that is to be differentiated again."""
        return _differentiate(ctx, *grads)


def _below_autograd(*arguments: Any) -> tuple[Tensor, ...]:
    with torch._C._AutoDispatchBelowAutograd():
        found: tuple[Tensor, ...] = _ops.recurrence.default(*arguments)
        return found


def _autograd(*arguments: Any) -> tuple[Tensor, ...]:
    """Derivatives as by ``torch.library.register_autograd``, which takes a quarter of a millisecond for default arguments."""
    if not torch.is_grad_enabled() or not any(x is not None and x.requires_grad for x in arguments[:len(_NAMES)]):
        return _below_autograd(*arguments)
    found: tuple[Tensor, ...] = _Recurrence.apply(*arguments)  # type: ignore[no-untyped-call]
    return found


def _differentiate(ctx: Any, *grads: Tensor | None) -> tuple[Any, ...]:
    everything = ctx.saved_tensors  # read once: checkpoints recompute at the first reading and refuse a second
    tensors, saved = everything[:len(_NAMES)], everything[len(_NAMES):]
    if torch.is_grad_enabled() and not torch.compiler.is_compiling():
        found = _again(dict(zip(_NAMES, tensors, strict=True)), ctx.rest, grads)
    else:
        x, w_ih, h, _, w_hh, _, _, *masks = tensors
        grad_c = grads[2] if ctx.rest[-1] == LSTM else None
        made = _ops.recurrence_backward.default(*grads[:2], grad_c, x, w_ih, w_hh, *saved, *masks, h.shape[0], *ctx.rest,
                                                ctx.needs_input_grad[0])
        found = [grad if wanted else None for grad, wanted in zip(made, ctx.needs_input_grad, strict=False)]
    return *found, *(None,) * (len(_NAMES) - _DIFFERENTIABLE + len(ctx.rest))


def _again(tensors: dict[str, Tensor | None], rest: tuple[Any, ...], grads: Sequence[Tensor | None]) -> list[Tensor | None]:
    """Gradients that can be differentiated again: those of the reference."""
    given: dict[str, Any] = dict(tensors)
    outputs = reference(Layer(**given, sizes=rest[0], reverse=rest[1], cell=rest[2]))
    pairs = [(y, grad) for y, grad in zip(outputs, grads, strict=False) if y is not None and grad is not None]
    names = _NAMES[:_DIFFERENTIABLE]
    wanted = {name: x for name, x in tensors.items() if name in names and x is not None and x.requires_grad}
    found = torch.autograd.grad([y for y, _ in pairs], list(wanted.values()), [grad for _, grad in pairs], create_graph=True,
                                allow_unused=True)
    by_name = dict(zip(wanted, found, strict=True))
    return [by_name.get(name) for name in names]


def _without_autocast(run: Callable[..., tuple[Tensor, ...]]) -> Callable[..., tuple[Tensor, ...]]:
    """The same inside ``torch.autocast``, also where only the backward pass is: products keep their type."""
    def call(*arguments: Any) -> tuple[Tensor, ...]:
        if not torch.is_autocast_enabled("cpu"):
            return run(*arguments)
        with torch.autocast("cpu", enabled=False):
            return run(*arguments)

    return call


def _register() -> Any:
    library: Any = torch.library.Library("dropkit", "FRAGMENT")  # type: ignore[no-untyped-call]
    masks = "Tensor? entering, Tensor? recurrent, Tensor? candidate, Tensor? zone_c, Tensor? zone_h, "
    library.define(f"recurrence(Tensor x, Tensor w_ih, Tensor h, Tensor? c, Tensor w_hh, Tensor? bias, Tensor? bias_n, {masks}"
                   "SymInt[] sizes, bool reverse, int cell) -> (Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor)")
    library.define("recurrence_backward(Tensor? grad_out, Tensor? grad_h, Tensor? grad_c, Tensor x, Tensor w_ih, Tensor w_hh, "
                   f"Tensor acts, Tensor previous, Tensor extra, Tensor entered, {masks}SymInt count, SymInt[] sizes, "
                   "bool reverse, int cell, bool needs_x) -> (Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor)")
    library.impl("recurrence", _without_autocast(_forward), "CPU")
    library.impl("recurrence_backward", _without_autocast(_backward), "CPU")
    torch.library.register_fake("dropkit::recurrence", _fake_forward, lib=library)
    torch.library.register_fake("dropkit::recurrence_backward", _fake_backward, lib=library)
    library.impl("recurrence", _autograd, "Autograd")
    return library


_LIBRARY = _register() if native.KERNEL is not None else None  # operators live as long as the library that made them
