"""Recurrent layers with one mask a sequence on inputs, states and outputs: LSTM, GRU and RNN."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from dropkit.kernels.recurrent import GRU, LSTM
from dropkit.variants.dropout import Dropout
from dropkit.variants.locked import LockedDropout
from dropkit.variants.recurrent_layers import Noise, check_nonlinearity, run
from dropkit.variants.recurrent_module import Rate, RecurrentSites, chance, check_per, install, named
from dropkit.variants.sequences import Input
from dropkit.variants.site import RateSite

Weights = Sequence[Sequence[Tensor]]


def variational_lstm(x: Input, weights: Weights, state: tuple[Tensor, Tensor] | None = None, recurrent_p: float | Tensor = 0.25,
                     training: bool = True, *, input_p: float | Tensor = 0.0, between_p: float | Tensor = 0.0,
                     output_p: float | Tensor = 0.0, tied: bool = True, per: str = "sequence", bidirectional: bool = False,
                     batch_first: bool = False, generator: torch.Generator | None = None,
                     stream: str | None = None) -> tuple[Input, tuple[Tensor, Tensor]]:
    """Run LSTM layers with one mask a sequence on inputs, states and outputs.

    ``i, f, o = sigmoid(W (x_t m_x) + U (h_{t-1} m_h) + b)`` and ``g = tanh(...)`` likewise, then ``c_t = f c_{t-1} + i g`` and
    ``h_t = o tanh(c_t)``. x is the layer's input, h its state, c its memory, and i, f, o, g its gates, each with weights W and
    U and bias b of its own. m_x and m_h are masks, drawn once for each sequence and layer and the same at all steps t; their
    entries are 0 with probability p and otherwise ``1 / (1 - p)``. Neither the memory nor the h_t that leaves the layer is
    masked by m_h. Tied, all gates share a mask; untied, each has its own.

    Args:
        x: padded, single or packed sequences of a floating-point type.
        weights: those of each layer and direction, as ``nn.LSTM.all_weights`` has them.
        state: the first (h, c); zeros when None.
        recurrent_p: probability of dropping a unit of the state where it enters the gates, in [0, 1]. Default: 0.25.
        training: whether to drop. Default: True.
        input_p: probability of dropping a feature of the first layer's input, in [0, 1]. Default: 0.
        between_p: probability of dropping a unit between one layer and the next, in [0, 1]. Default: 0.
        output_p: probability of dropping a unit of the last layer's output, in [0, 1]. Default: 0.
        tied: whether all gates share the masks of inputs and of states. Default: True.
        per: ``"sequence"``: one mask at all steps also between layers; ``"step"``: a new mask of single elements there at
            each step, as in ``nn.LSTM``, the same for all gates.
        bidirectional: whether every other entry of ``weights`` runs backwards. Default: False.
        batch_first: whether batches are laid out (N, T, F) rather than (T, N, F). Default: False.
        generator: draw the seeds from here.
        stream: the name of the whole under ``dk.keyed``; its sites are called ``input_dropout``, ``recurrent_dropout``,
            ``between_dropout`` and ``output_dropout`` in it.

    Returns:
        The output in the form of x and the last (h, c), as ``nn.LSTM`` returns them.

    Raises:
        InputError: for rates outside [0, 1], integer data, an unknown ``per``, or tensors that do not fit together.

    Shape:
        x: (T, N, F), or (N, T, F) with ``batch_first``, or (T, F), or a packed sequence; T steps, N sequences, F features.
        Output: as x, with H features, or P with a projection, twice as many with two directions. h: (D L, N, H or P), c:
        (D L, N, H); L layers, D directions. A packed sequence gets the masks of the padded one: they belong to the sequences
        in the caller's order.

    Use:
        For LSTMs that overfit: language models, tagging, time series. New masks at each step add noise that the recurrence
        piles up; one mask a sequence drops the same units all along. Where only inputs, outputs and what goes between layers
        are masked, torch's fused implementation runs. `weight_drop` regularises the recurrence through its weights instead.

    Rates:
        0.2 to 0.5 on inputs and outputs, 0.2 to 0.3 on states; lower ones in smaller networks.

    Evidence:
        The paper derives the shared mask as approximate Bayesian inference and reports better language models on Penn
        Treebank than with masks at each step and none on states, and gains in sentiment analysis.

    Example:
        >>> lstm = nn.LSTM(3, 4, num_layers=2)
        >>> y, (h, c) = variational_lstm(torch.ones(5, 2, 3), lstm.all_weights, recurrent_p=0.3, between_p=0.5)
        >>> y.shape, h.shape
        (torch.Size([5, 2, 4]), torch.Size([2, 2, 4]))

    References:
        Gal, Ghahramani: "A theoretically grounded application of dropout in recurrent neural networks", NIPS 2016.
    """
    noise = _noise(recurrent_p, training, input_p, between_p, output_p, tied, per, generator, stream)
    found: Any = run(LSTM, x, state, weights, noise, bidirectional=bidirectional, batch_first=batch_first, training=training)
    return found[0], found[1]


def variational_gru(x: Input, weights: Weights, state: Tensor | None = None, recurrent_p: float | Tensor = 0.25,
                    training: bool = True, *, input_p: float | Tensor = 0.0, between_p: float | Tensor = 0.0,
                    output_p: float | Tensor = 0.0, tied: bool = True, per: str = "sequence", bidirectional: bool = False,
                    batch_first: bool = False, generator: torch.Generator | None = None,
                    stream: str | None = None) -> tuple[Input, Tensor]:
    """Run GRU layers with one mask a sequence on inputs, states and outputs.

    ``r, z = sigmoid(W (x_t m_x) + U (h_{t-1} m_h) + b)``, ``n = tanh(W (x_t m_x) + b + r (U (h_{t-1} m_h) + b'))`` and
    ``h_t = (1 - z) n + z h_{t-1}``. x is the layer's input, h its state, and r, z, n its gates, each with weights W and U and
    biases b and b' of its own. m_x and m_h are masks, drawn once for each sequence and layer and the same at all steps t; their
    entries are 0 with probability p and otherwise ``1 / (1 - p)``. The state that z carries on is not masked.

    Args:
        x: padded, single or packed sequences of a floating-point type.
        weights: those of each layer and direction, as ``nn.GRU.all_weights`` has them.
        state: the first h; zeros when None.
        recurrent_p: probability of dropping a unit of the state where it enters the gates, in [0, 1]. Default: 0.25.
        training: whether to drop. Default: True.
        input_p: probability of dropping a feature of the first layer's input, in [0, 1]. Default: 0.
        between_p: probability of dropping a unit between one layer and the next, in [0, 1]. Default: 0.
        output_p: probability of dropping a unit of the last layer's output, in [0, 1]. Default: 0.
        tied: whether all gates share the masks of inputs and of states. Default: True.
        per: ``"sequence"`` or, for new masks at each step between layers, ``"step"``.
        bidirectional: whether every other entry of ``weights`` runs backwards. Default: False.
        batch_first: whether batches are laid out (N, T, F) rather than (T, N, F). Default: False.
        generator: draw the seeds from here.
        stream: the name of the whole under ``dk.keyed``, as in `variational_lstm`.

    Returns:
        The output in the form of x and the last h, as ``nn.GRU`` returns them.

    Raises:
        InputError: as `variational_lstm`.

    Shape:
        As `variational_lstm`, without a memory c and without a projection.

    Use:
        As `variational_lstm`.

    Rates:
        As `variational_lstm`: 0.2 to 0.5 on inputs and outputs, 0.2 to 0.3 on states.

    Evidence:
        The paper's language models are LSTMs; in sentiment analysis it tries a GRU with the same masks, too.

    Example:
        >>> gru = nn.GRU(3, 4)
        >>> variational_gru(torch.ones(5, 2, 3), gru.all_weights)[1].shape
        torch.Size([1, 2, 4])

    References:
        Gal, Ghahramani: "A theoretically grounded application of dropout in recurrent neural networks", NIPS 2016.
    """
    noise = _noise(recurrent_p, training, input_p, between_p, output_p, tied, per, generator, stream)
    return run(GRU, x, state, weights, noise, bidirectional=bidirectional, batch_first=batch_first, training=training)


def variational_rnn(x: Input, weights: Weights, state: Tensor | None = None, recurrent_p: float | Tensor = 0.25,
                    training: bool = True, *, nonlinearity: str = "tanh", input_p: float | Tensor = 0.0,
                    between_p: float | Tensor = 0.0, output_p: float | Tensor = 0.0, tied: bool = True, per: str = "sequence",
                    bidirectional: bool = False, batch_first: bool = False, generator: torch.Generator | None = None,
                    stream: str | None = None) -> tuple[Input, Tensor]:
    """Run plain recurrent layers with one mask a sequence on inputs, states and outputs.

    ``h_t = f(W (x_t m_x) + U (h_{t-1} m_h) + b)``; x is the layer's input, h its state, f the nonlinearity, W and U weights, b
    the biases. m_x and m_h are masks, drawn once for each sequence and layer and the same at all steps t; their entries are 0
    with probability p and otherwise ``1 / (1 - p)``.

    Args:
        x: padded, single or packed sequences of a floating-point type.
        weights: those of each layer and direction, as ``nn.RNN.all_weights`` has them.
        state: the first h; zeros when None.
        recurrent_p: probability of dropping a unit of the state, in [0, 1]. Default: 0.25.
        training: whether to drop. Default: True.
        nonlinearity: ``"tanh"`` or ``"relu"``.
        input_p: probability of dropping a feature of the first layer's input, in [0, 1]. Default: 0.
        between_p: probability of dropping a unit between one layer and the next, in [0, 1]. Default: 0.
        output_p: probability of dropping a unit of the last layer's output, in [0, 1]. Default: 0.
        tied: of no effect here, where there is one gate. Default: True.
        per: ``"sequence"`` or, for new masks at each step between layers, ``"step"``.
        bidirectional: whether every other entry of ``weights`` runs backwards. Default: False.
        batch_first: whether batches are laid out (N, T, F) rather than (T, N, F). Default: False.
        generator: draw the seeds from here.
        stream: the name of the whole under ``dk.keyed``, as in `variational_lstm`.

    Returns:
        The output in the form of x and the last h, as ``nn.RNN`` returns them.

    Raises:
        InputError: as `variational_lstm`, and for an unknown nonlinearity.

    Shape:
        As `variational_lstm`, without a memory c and without a projection.

    Use:
        As `variational_lstm`; with ``"relu"`` states can grow, and inverted scaling makes them grow faster.

    Rates:
        As `variational_lstm`, rather lower on states: there is no memory that would keep what is dropped.

    Evidence:
        None of its own in the paper, which tries LSTM and GRU; the derivation is for any recurrent layer.

    Example:
        >>> rnn = nn.RNN(3, 4)
        >>> variational_rnn(torch.ones(5, 2, 3), rnn.all_weights)[1].shape
        torch.Size([1, 2, 4])

    References:
        Gal, Ghahramani: "A theoretically grounded application of dropout in recurrent neural networks", NIPS 2016.
    """
    noise = _noise(recurrent_p, training, input_p, between_p, output_p, tied, per, generator, stream)
    return run(check_nonlinearity(nonlinearity), x, state, weights, noise, bidirectional=bidirectional,
               batch_first=batch_first, training=training)


class _Variational(RecurrentSites):
    """The sites and settings that the three modules share."""

    input_dropout: nn.Module
    recurrent_dropout: nn.Module
    output_dropout: nn.Module
    input_p, recurrent_p, output_p = Rate("input_dropout"), Rate("recurrent_dropout"), Rate("output_dropout")
    tied: bool = True
    settings: ClassVar[Mapping[str, Any]] = {"tied": True, "per": "sequence"}

    @property
    def per(self) -> str:
        """How often masks between layers are drawn: ``"sequence"`` or ``"step"``."""
        return "sequence" if isinstance(self.between_dropout, LockedDropout) else "step"

    def noise(self) -> Noise:
        """Return what the variant chooses, from the children as they are now."""
        return Noise(chance(self.input_dropout), chance(self.between_dropout), chance(self.output_dropout),
                     chance(self.recurrent_dropout), tied=self.tied, between_each_step=self.per == "step")


class VariationalLSTM(_Variational, nn.LSTM):
    """``nn.LSTM`` with one mask a sequence on inputs, states and outputs; `variational_lstm` as a module.

    The parameters and the ``state_dict`` are those of ``nn.LSTM``. The rates are those of the children ``input_dropout``,
    ``recurrent_dropout``, ``between_dropout`` and ``output_dropout``, which surgery and schedules find by these names; the
    attributes ``input_p``, ``recurrent_p``, ``dropout`` and ``output_p`` read and set them.

    Args:
        input_size: features of the input.
        hidden_size: units of a layer.
        num_layers: how many layers. Default: 1.
        bias: whether there are biases. Default: True.
        batch_first: whether batches are laid out (N, T, F) rather than (T, N, F). Default: False.
        dropout: probability of dropping a unit between one layer and the next, in [0, 1]. Default: 0.
        bidirectional: whether each layer also runs backwards. Default: False.
        proj_size: size that states are projected to; 0 for none.
        device: of the parameters.
        dtype: of the parameters.
        input_p: probability of dropping a feature of the first layer's input, in [0, 1]. Default: 0.
        recurrent_p: probability of dropping a unit of a state where it enters the gates, in [0, 1]. Default: 0.
        output_p: probability of dropping a unit of the last layer's output, in [0, 1]. Default: 0.
        tied: whether all gates share the masks of inputs and of states. Default: True.
        per: ``"sequence"``, or ``"step"`` for torch's own law between layers: a new mask at each step.

    Raises:
        InputError: for a rate outside [0, 1] or an unknown ``per``.

    Shape:
        As ``nn.LSTM``.

    Example:
        >>> VariationalLSTM(3, 4, recurrent_p=0.25).recurrent_dropout
        LockedDropout(p=0.25)
    """

    def __init__(self, input_size: int, hidden_size: int, num_layers: int = 1, bias: bool = True, batch_first: bool = False,
                 dropout: float = 0.0, bidirectional: bool = False, proj_size: int = 0, device: Any = None, dtype: Any = None,
                 *, input_p: float = 0.0, recurrent_p: float = 0.0, output_p: float = 0.0, tied: bool = True,
                 per: str = "sequence") -> None:
        nn.LSTM.__init__(self, input_size, hidden_size, num_layers, bias, batch_first, dropout, bidirectional, proj_size,
                         device, dtype)
        install_variational(self, VariationalLSTM, dropout, input_p, recurrent_p, output_p, tied, per)


class VariationalGRU(_Variational, nn.GRU):
    """``nn.GRU`` with one mask a sequence on inputs, states and outputs; `variational_gru` as a module.

    The parameters and the ``state_dict`` are those of ``nn.GRU``; the children are those of `VariationalLSTM`.

    Args:
        input_size: features of the input.
        hidden_size: units of a layer.
        num_layers: how many layers. Default: 1.
        bias: whether there are biases. Default: True.
        batch_first: whether batches are laid out (N, T, F) rather than (T, N, F). Default: False.
        dropout: probability of dropping a unit between one layer and the next, in [0, 1]. Default: 0.
        bidirectional: whether each layer also runs backwards. Default: False.
        device: of the parameters.
        dtype: of the parameters.
        input_p: probability of dropping a feature of the first layer's input, in [0, 1]. Default: 0.
        recurrent_p: probability of dropping a unit of a state where it enters the gates, in [0, 1]. Default: 0.
        output_p: probability of dropping a unit of the last layer's output, in [0, 1]. Default: 0.
        tied: whether all gates share the masks of inputs and of states. Default: True.
        per: ``"sequence"``, or ``"step"`` for torch's own law between layers: a new mask at each step.

    Raises:
        InputError: for a rate outside [0, 1] or an unknown ``per``.

    Shape:
        As ``nn.GRU``.

    Example:
        >>> VariationalGRU(3, 4, recurrent_p=0.25).recurrent_p
        0.25
    """

    def __init__(self, input_size: int, hidden_size: int, num_layers: int = 1, bias: bool = True, batch_first: bool = False,
                 dropout: float = 0.0, bidirectional: bool = False, device: Any = None, dtype: Any = None, *,
                 input_p: float = 0.0, recurrent_p: float = 0.0, output_p: float = 0.0, tied: bool = True,
                 per: str = "sequence") -> None:
        nn.GRU.__init__(self, input_size, hidden_size, num_layers, bias, batch_first, dropout, bidirectional,
                        device=device, dtype=dtype)
        install_variational(self, VariationalGRU, dropout, input_p, recurrent_p, output_p, tied, per)


class VariationalRNN(_Variational, nn.RNN):
    """``nn.RNN`` with one mask a sequence on inputs, states and outputs; `variational_rnn` as a module.

    The parameters and the ``state_dict`` are those of ``nn.RNN``; the children are those of `VariationalLSTM`.

    Args:
        input_size: features of the input.
        hidden_size: units of a layer.
        num_layers: how many layers. Default: 1.
        nonlinearity: ``"tanh"`` or ``"relu"``.
        bias: whether there are biases. Default: True.
        batch_first: whether batches are laid out (N, T, F) rather than (T, N, F). Default: False.
        dropout: probability of dropping a unit between one layer and the next, in [0, 1]. Default: 0.
        bidirectional: whether each layer also runs backwards. Default: False.
        device: of the parameters.
        dtype: of the parameters.
        input_p: probability of dropping a feature of the first layer's input, in [0, 1]. Default: 0.
        recurrent_p: probability of dropping a unit of a state, in [0, 1]. Default: 0.
        output_p: probability of dropping a unit of the last layer's output, in [0, 1]. Default: 0.
        tied: of no effect here, where there is one gate. Default: True.
        per: ``"sequence"``, or ``"step"`` for torch's own law between layers: a new mask at each step.

    Raises:
        InputError: for a rate outside [0, 1] or an unknown ``per``.

    Shape:
        As ``nn.RNN``.

    Example:
        >>> VariationalRNN(3, 4, nonlinearity="relu", recurrent_p=0.25).recurrent_p
        0.25
    """

    def __init__(self, input_size: int, hidden_size: int, num_layers: int = 1, nonlinearity: str = "tanh", bias: bool = True,
                 batch_first: bool = False, dropout: float = 0.0, bidirectional: bool = False, device: Any = None,
                 dtype: Any = None, *, input_p: float = 0.0, recurrent_p: float = 0.0, output_p: float = 0.0,
                 tied: bool = True, per: str = "sequence") -> None:
        nn.RNN.__init__(self, input_size, hidden_size, num_layers, nonlinearity, bias, batch_first, dropout, bidirectional,
                        device=device, dtype=dtype)
        install_variational(self, VariationalRNN, dropout, input_p, recurrent_p, output_p, tied, per)


def install_variational(module: nn.RNNBase, kind: type[RecurrentSites], between_p: float, input_p: float | None,
                        recurrent_p: float | None, output_p: float | None, tied: bool, per: str) -> None:
    """Give one of torch's recurrent modules the sites of a variational one, and its class.

    Args:
        module: changed in place, unless an argument is refused.
        kind: `VariationalLSTM`, `VariationalGRU` or `VariationalRNN`.
        between_p: as ``dropout`` of `VariationalLSTM`.
        input_p: as in `VariationalLSTM`.
        recurrent_p: as in `VariationalLSTM`.
        output_p: as in `VariationalLSTM`.
        tied: as in `VariationalLSTM`.
        per: as in `VariationalLSTM`.

    Raises:
        InputError: for a rate outside [0, 1] or an unknown ``per``.
    """
    between: RateSite = Dropout(between_p) if check_per(per) == "step" else LockedDropout(between_p)
    sites = {"input_dropout": _site(input_p), "recurrent_dropout": _site(recurrent_p), "between_dropout": between,
             "output_dropout": _site(output_p)}
    install(module, kind, sites, tied=bool(tied))


def _site(p: float | None) -> nn.Module:
    return nn.Identity() if p is None else LockedDropout(p)


def _noise(recurrent_p: float | Tensor, training: bool, input_p: float | Tensor, between_p: float | Tensor,
           output_p: float | Tensor, tied: bool, per: str, generator: torch.Generator | None, stream: str | None) -> Noise:
    def chance(p: float | Tensor, site: str) -> Any:
        return named(p, training, generator, stream, site)

    return Noise(chance(input_p, "input_dropout"), chance(between_p, "between_dropout"), chance(output_p, "output_dropout"),
                 chance(recurrent_p, "recurrent_dropout"), tied=tied, between_each_step=check_per(per) == "step")
