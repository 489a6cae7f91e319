"""Layers of recurrent cells with dropout: one engine, in which a variant is what it masks and how often it draws."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from dropkit.core.errors import InputError, phrase
from dropkit.core.masks import compute_dtypes
from dropkit.core.rates import check_rate
from dropkit.core.streams import FRESH, skip_site
from dropkit.kernels.recurrence import is_plain, recurrence
from dropkit.kernels.recurrent import GATES, GRU, LSTM, RELU, TANH, Layer, enter
from dropkit.variants.draw import acting_rate, draw_keep, draw_masked
from dropkit.variants.sequences import Batch, Input, unpack

State = Tensor | tuple[Tensor, Tensor]
_FUSED: dict[int, Any] = {LSTM: torch.lstm, GRU: torch.gru, TANH: torch.rnn_tanh, RELU: torch.rnn_relu}


@dataclass(frozen=True)
class Chance:
    """Where the masks of one site come from.

    Args:
        p: the site's rate.
        training: whether it may act.
        generator: the caller's.
        stream: the site's name.
    """

    p: float | Tensor
    training: bool
    generator: torch.Generator | None = None
    stream: str | None = None

    @property
    def quiet(self) -> bool:
        """Whether the site draws nothing in this call; in compiled code only a plain 0, a function's default, is told apart."""
        rate = check_rate(self.p) if self._is_known() else 1.0
        return not self.training or rate == 0

    def rate(self) -> Tensor | None:
        """Return the rate with which the site makes its next mask, if it does; either way that counts as a use."""
        if self.quiet:
            if self.training and self.generator is None:
                skip_site(self.stream)
            return None
        return acting_rate(self.p, self.training, self.generator, self.stream)

    @property
    def expects(self) -> bool:
        """Whether zoneout takes the expectation in this call."""
        return not self.training and not (self._is_known() and check_rate(self.p) == 0)

    def _is_known(self) -> bool:
        return not (torch.compiler.is_compiling() and isinstance(self.p, Tensor))

    def multiplier(self, rate: Tensor, shape: Sequence[int], like: Tensor) -> Tensor:
        """Draw a mask with inverted scaling: 0, or one over the probability of keeping."""
        return draw_masked(torch.ones(shape, dtype=like.dtype, device=like.device), rate, shape, self.generator, self.stream,
                           rows=FRESH)

    def zone(self, rate: Tensor | None, shape: Sequence[int], like: Tensor) -> Tensor:
        """Draw how much of the old values stays: all of it with probability p; without a rate, what is expected."""
        if rate is not None:
            return (~draw_keep(shape, rate, self.generator, self.stream, device=like.device,
                               rows=FRESH)).to(like.dtype)
        share = torch.as_tensor(self.p, dtype=like.dtype, device=like.device)
        return share.expand(shape[-2:]).contiguous()


@dataclass(frozen=True)
class Noise:
    """What a variant chooses.

    Args:
        input: masks the first layer's input.
        between: masks what goes from a layer to the next.
        output: masks the last layer's output.
        recurrent: masks states where they enter the gates.
        candidate: masks what is to be added to the memory.
        zone_c: keeps old memory.
        zone_h: keeps old states.
        tied: whether all gates share the masks of ``input``, ``between`` and ``recurrent``.
        each_step: whether ``recurrent`` and ``candidate`` draw at each step rather than once for a sequence.
        between_each_step: whether ``between`` does.
    """

    input: Chance | None = None
    between: Chance | None = None
    output: Chance | None = None
    recurrent: Chance | None = None
    candidate: Chance | None = None
    zone_c: Chance | None = None
    zone_h: Chance | None = None
    tied: bool = True
    each_step: bool = False
    between_each_step: bool = False

    def acts(self) -> bool:
        """Tell whether any site does anything in this call; checks all rates."""
        sites = (self.input, self.between, self.output, *self.inside())
        quiet = [site.quiet for site in sites if site is not None]
        return not all(quiet) or self.expects()

    def expects(self) -> bool:
        """Tell whether zoneout takes expectations in this call."""
        return any(zone is not None and zone.expects for zone in (self.zone_c, self.zone_h))

    def inside(self) -> tuple[Chance, ...]:
        """Return the sites inside a layer, in the order in which they draw."""
        return tuple(chance for chance in (self.recurrent, self.candidate, self.zone_c, self.zone_h) if chance is not None)

    def skip(self, layers: int, directions: int) -> None:
        """Count a use of each site as a call in which they act would."""
        for layer in range(layers):
            for chance in (self.between if layer else self.input, *self.inside() * directions):
                if chance is not None:
                    chance.rate()
        if self.output is not None:
            self.output.rate()


def run(cell: int, x: Any, state: Any, weights: Sequence[Sequence[Tensor]], noise: Noise, *, bidirectional: bool = False,
        batch_first: bool = False, training: bool = True) -> tuple[Input, Any]:
    """Run layers of a cell with dropout; what all recurrent variants call.

    Args:
        cell: `LSTM`, `GRU`, `TANH` or `RELU`.
        x: (T, N, F), or (N, T, F) with ``batch_first``, or (T, F), or a packed sequence.
        state: the first state, (h, c) for the LSTM; zeros when None.
        weights: those of each layer and direction, as ``all_weights`` of torch's modules has them.
        noise: what the variant chooses.
        bidirectional: whether every other entry of ``weights`` runs backwards.
        batch_first: whether the batch dimension comes first.
        training: what torch's own implementation is told where it is used.

    Returns:
        The output in the form of x, and the last state, as torch's modules give them.

    Raises:
        InputError: for data, weights or states that do not fit together.
    """
    batch, directions = unpack(x, batch_first), 2 if bidirectional else 1
    layers = len(weights) // directions
    _check(cell, batch, weights, directions)
    h, c = _states(cell, batch, state, weights)
    acts = noise.acts()
    if batch.data.numel() == 0 or (not acts and is_plain(batch.data)):
        if not acts:
            noise.skip(layers, directions)
        output, last = _fused(cell, batch, h, c, weights, directions, training)
        return batch.output(output), _restored(batch, *last)
    wide = compute_dtypes(torch.promote_types(batch.data.dtype, weights[0][0].dtype))[0]
    given = batch.data.dtype
    with torch.autocast(batch.data.device.type, enabled=False) if _has_autocast(batch.data) else nullcontext():
        engine = _Engine(cell, noise, directions, training)
        output, last = engine.run(batch.with_data(batch.data.to(wide)), h.to(wide), None if c is None else c.to(wide),
                                  [[weight.to(wide) for weight in one] for one in weights])
    return batch.output(output.to(given)), _restored(batch, *(None if part is None else part.to(given) for part in last))


@dataclass(frozen=True)
class _Engine:
    cell: int
    noise: Noise
    directions: int
    training: bool

    def run(self, batch: Batch, h: Tensor, c: Tensor | None,
            weights: Sequence[Sequence[Tensor]]) -> tuple[Tensor, tuple[Tensor, Tensor | None]]:
        found: list[tuple[Tensor, Tensor | None]] = []
        layers = len(weights) // self.directions
        for layer in range(layers):
            batch, masks = self._enter(batch, "between" if layer else "input")
            mine = slice(layer * self.directions, (layer + 1) * self.directions)
            output, last = self._layer(batch, h[mine], None if c is None else c[mine], weights[mine], masks)
            batch = batch.with_data(output)
            found.append(last)
        batch, _ = self._enter(batch, "output")
        memories = [memory for _, memory in found if memory is not None]
        return batch.data, (torch.cat([state for state, _ in found]), torch.cat(memories) if memories else None)

    def _enter(self, batch: Batch, name: str) -> tuple[Batch, Tensor | None]:
        """Mask the data with one mask for all gates, or return the masks of the gates."""
        chance = getattr(self.noise, name)
        rate = None if chance is None else chance.rate()
        if rate is None:
            return batch, None
        each_step = name == "between" and self.noise.between_each_step
        shape = (batch.steps if each_step else 1, batch.count, batch.data.shape[-1])
        if not self.noise.tied and not each_step and name != "output":
            masks = chance.multiplier(rate, (GATES[self.cell], *shape[1:]), batch.data)
            return batch, batch.spread(masks)
        if batch.packed is None:
            return batch.with_data(draw_masked(batch.data, rate, shape, chance.generator, chance.stream,
                                           rows=FRESH)), None
        mask = chance.multiplier(rate, shape, batch.data)
        return batch.with_data(enter(batch.data, batch.per_row(mask) if each_step else batch.spread(mask[0]))), None

    def _layer(self, batch: Batch, h: Tensor, c: Tensor | None, weights: Sequence[Sequence[Tensor]],
               masks: Tensor | None) -> tuple[Tensor, tuple[Tensor, Tensor | None]]:
        idle = all(chance.quiet for chance in self.noise.inside()) and not self.noise.expects()
        if idle and masks is None and is_plain(batch.data):
            for chance in self.noise.inside() * self.directions:
                chance.rate()
            return _fused(self.cell, batch, h, c, weights, self.directions, self.training)
        outputs, states, memories = [], [], []
        for direction, mine in enumerate(weights):
            memory = None if c is None else c[direction]
            output, state, memory = recurrence(self._direction(batch, h[direction], memory, mine, masks, direction == 1))
            outputs.append(output)
            states.append(state)
            memories += [] if memory is None else [memory]
        joined = outputs[0] if len(outputs) == 1 else torch.cat(outputs, -1)
        return batch.from_rows(joined), (torch.stack(states), torch.stack(memories) if memories else None)

    def _direction(self, batch: Batch, h: Tensor, c: Tensor | None, weights: Sequence[Tensor], masks: Tensor | None,
                   reverse: bool) -> Layer:
        w_ih, w_hh, bias_ih, bias_hh, projection = split(weights)
        bias_n = bias_hh[-w_hh.shape[1]:] if self.cell == GRU and bias_hh is not None else None
        if self.cell == GRU and bias_ih is not None and bias_hh is not None:
            outside = 2 * w_hh.shape[1]
            bias_ih = torch.cat((bias_ih[:outside] + bias_hh[:outside], bias_ih[outside:]))
        elif bias_ih is not None and bias_hh is not None:
            bias_ih = bias_ih + bias_hh
        units = w_hh.shape[0] // GATES[self.cell]
        recurrent = self._multiplier("recurrent", batch, h.shape[-1])
        candidate = self._multiplier("candidate", batch, units)
        return Layer(self.cell, batch.rows(), w_ih, h, c, w_hh, bias_ih, bias_n, projection, masks, recurrent,
                     None if candidate is None else candidate[0], self._zone("zone_c", batch, units),
                     self._zone("zone_h", batch, h.shape[-1]), batch.sizes, reverse)

    def _multiplier(self, name: str, batch: Batch, features: int) -> Tensor | None:
        chance = getattr(self.noise, name)
        rate = None if chance is None else chance.rate()
        if rate is None:
            return None
        if self.noise.each_step:
            return batch.per_row(chance.multiplier(rate, (batch.steps, batch.count, features), batch.data))[None]
        gates = 1 if self.noise.tied or name == "candidate" else GATES[self.cell]
        return batch.per_sequence(chance.multiplier(rate, (gates, batch.count, features), batch.data))

    def _zone(self, name: str, batch: Batch, features: int) -> Tensor | None:
        chance = getattr(self.noise, name)
        rate = None if chance is None else chance.rate()
        if chance is None or (rate is None and not chance.expects):
            return None
        zone: Tensor = chance.zone(rate, (batch.steps, batch.count, features), batch.data)
        return batch.per_row(zone) if rate is not None else zone


def check_nonlinearity(nonlinearity: Any) -> int:
    """The plain recurrent cell with a nonlinearity.

    Args:
        nonlinearity: ``"tanh"`` or ``"relu"``.

    Raises:
        InputError: for anything else.

    Example:
        >>> check_nonlinearity("relu") == RELU
        True
    """
    if nonlinearity not in ("tanh", "relu"):
        raise InputError('nonlinearity is "tanh" or "relu"', got=nonlinearity, fix="Pass one of them")
    return TANH if nonlinearity == "tanh" else RELU


def split(weights: Sequence[Tensor]) -> tuple[Tensor, Tensor, Tensor | None, Tensor | None, Tensor | None]:
    """The weights of one layer and direction by their roles: input, recurrent, the two biases, the projection.

    Args:
        weights: two to five tensors in torch's order.

    Example:
        >>> [None if w is None else tuple(w.shape) for w in split([torch.zeros(4, 3), torch.zeros(4, 1)])]
        [(4, 3), (4, 1), None, None, None]
    """
    biases = list(weights[2:4]) if len(weights) > 3 else [None, None]
    return weights[0], weights[1], biases[0], biases[1], weights[-1] if len(weights) in (3, 5) else None


def _fused(cell: int, batch: Batch, h: Tensor, c: Tensor | None, weights: Sequence[Sequence[Tensor]], directions: int,
           training: bool) -> tuple[Tensor, tuple[Tensor, Tensor | None]]:
    """What torch's own module computes without dropout."""
    flat = [weight for one in weights for weight in one]
    options = (len(weights[0]) > 3, len(weights) // directions, 0.0, training, directions == 2)
    start: Any = h if c is None else (h, c)
    if batch.packed is not None:
        found = _FUSED[cell](batch.data, batch.packed.batch_sizes, start, flat, *options)
    else:
        found = _FUSED[cell](batch.data, start, flat, *options, False)
    return found[0], (found[1], found[2] if c is not None else None)


def _states(cell: int, batch: Batch, state: Any, weights: Sequence[Sequence[Tensor]]) -> tuple[Tensor, Tensor | None]:
    """The first states in the data's order, (layers, N, ...); zeros where none are given."""
    _, w_hh, _, _, _ = split(weights[0])
    shapes = [(len(weights), batch.count, w_hh.shape[1]), (len(weights), batch.count, w_hh.shape[0] // GATES[cell])]
    wanted = shapes if cell == LSTM else shapes[:1]
    if state is None:
        given = [batch.data.new_zeros(shape) for shape in wanted]
    else:
        parts = list(state) if cell == LSTM and isinstance(state, tuple | list) else [state]
        given = [part if batch.batched or part.dim() != 2 else part.unsqueeze(1) for part in parts]
        if [tuple(part.shape) for part in given] != wanted or any(part.dim() == 3 for part in parts) is not batch.batched:
            raise InputError(f"the first state has the shape{'s' if len(wanted) > 1 else ''} "
                             f"{' and '.join(str(shape if batch.batched else (shape[0], shape[2])) for shape in wanted)}",
                             got=phrase(" and ".join(str(tuple(part.shape)) for part in parts)),
                             fix="Pass (h, c) for an LSTM and h otherwise, or None for zeros")
        given = [batch.ordered(part) for part in given]
    return given[0], given[1] if cell == LSTM else None


def _restored(batch: Batch, h: Tensor | None, c: Tensor | None) -> Any:
    assert h is not None
    return batch.restored(h) if c is None else (batch.restored(h), batch.restored(c))


def _check(cell: int, batch: Batch, weights: Sequence[Sequence[Tensor]], directions: int) -> None:
    if not weights or len(weights) % directions:
        raise InputError("weights has an entry for each layer and direction", got=phrase(f"{len(weights)} entries"),
                         fix="Pass module.all_weights of one of torch's recurrent modules")
    w_ih = weights[0][0]
    if w_ih.shape[1] != batch.data.shape[-1]:
        raise InputError(f"the data has as many features as the weights take, {w_ih.shape[1]}", got=tuple(batch.data.shape),
                         fix="Change input_size, or the data")
    if w_ih.dtype != batch.data.dtype and not _has_autocast(batch.data):
        raise InputError(f"data and weights have one type, here {w_ih.dtype}", got=batch.data.dtype,
                         fix="Convert the data, as in x.to(weight.dtype), or the module")


def _has_autocast(data: Tensor) -> bool:
    device = data.device.type
    return torch.amp.is_autocast_available(device) and torch.is_autocast_enabled(device)
