"""Recurrent layers with dropout of what is added to the memory: LSTM, GRU and RNN."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from dropkit.kernels.recurrent import GRU, LSTM
from dropkit.variants.dropout import Dropout
from dropkit.variants.recurrent_dropout import RecurrentDropout
from dropkit.variants.recurrent_layers import Noise, check_nonlinearity, run
from dropkit.variants.recurrent_module import Rate, RecurrentSites, chance, check_per, install, named
from dropkit.variants.sequences import Input

Weights = Sequence[Sequence[Tensor]]


def recurrent_dropout_lstm(x: Input, weights: Weights, state: tuple[Tensor, Tensor] | None = None,
                           recurrent_p: float | Tensor = 0.25, training: bool = True, *, per: str = "step",
                           between_p: float | Tensor = 0.0, bidirectional: bool = False, batch_first: bool = False,
                           generator: torch.Generator | None = None,
                           stream: str | None = None) -> tuple[Input, tuple[Tensor, Tensor]]:
    """Run LSTM layers with dropout of the candidate, so that memories stay whole.

    ``c_t = f c_{t-1} + i (g m)`` and ``h_t = o tanh(c_t)``; c is the memory, h the state, i, f, o are gates and g is the
    candidate. m is a mask, drawn for each sequence and layer, and for each step or once for all; its entries are 0 with
    probability p and otherwise ``1 / (1 - p)``. What the memory holds is never dropped.

    Args:
        x: padded, single or packed sequences of a floating-point type.
        weights: those of each layer and direction, as ``nn.LSTM.all_weights`` has them.
        state: the first (h, c); zeros when None.
        recurrent_p: probability of dropping a unit's candidate at a step, in [0, 1]. Default: 0.25.
        training: whether to drop. Default: True.
        per: ``"step"``: a new mask at each step; ``"sequence"``: one at all steps. Default: ``"step"``.
        between_p: probability of dropping an element between one layer and the next, in [0, 1], as torch's ``dropout``.
            Default: 0.
        bidirectional: whether every other entry of ``weights`` runs backwards. Default: False.
        batch_first: whether batches are laid out (N, T, F) rather than (T, N, F). Default: False.
        generator: draw the seeds from here.
        stream: the name of the whole under ``dk.keyed``; its sites have the names of the module's children in it.

    Returns:
        The output in the form of x and the last (h, c), as ``nn.LSTM`` returns them.

    Raises:
        InputError: for rates outside [0, 1], integer data, an unknown ``per``, or tensors that do not fit together.

    Shape:
        As ``nn.LSTM``: x is (T, N, F), or (N, T, F) with ``batch_first``, or (T, F), or a packed sequence, which gets the masks
        of the padded one.

    Use:
        For recurrent layers that overfit; it goes with dropout on inputs and outputs. `variational_lstm` masks the state where
        it enters all gates instead.

    Rates:
        0.25 to 0.5.

    Evidence:
        The paper tries both kinds of masks on language models, named entities and sentiment, and finds gains over no recurrent
        dropout.

    Example:
        >>> layer = nn.LSTM(3, 4)
        >>> recurrent_dropout_lstm(torch.ones(5, 2, 3), layer.all_weights)[0].shape
        torch.Size([5, 2, 4])

    References:
        Semeniuta, Severyn, Barth: "Recurrent dropout without memory loss", COLING 2016.
    """
    noise = Noise(between=named(between_p, training, generator, stream, "between_dropout"), between_each_step=True,
                  candidate=named(recurrent_p, training, generator, stream, "recurrent_dropout"),
                  each_step=check_per(per) == "step")
    found: Any = run(LSTM, x, state, weights, noise, bidirectional=bidirectional, batch_first=batch_first, training=training)
    return found[0], found[1]


def recurrent_dropout_gru(x: Input, weights: Weights, state: Tensor | None = None, recurrent_p: float | Tensor = 0.25,
                          training: bool = True, *, per: str = "step", between_p: float | Tensor = 0.0,
                          bidirectional: bool = False, batch_first: bool = False, generator: torch.Generator | None = None,
                          stream: str | None = None) -> tuple[Input, Tensor]:
    """Run GRU layers with dropout of the candidate, so that states stay whole where they are carried on.

    ``h_t = z h_{t-1} + (1 - z) (n m)``; h is the state, z the update gate and n the candidate, in which the reset gate acts as
    ever. m is a mask, drawn for each sequence and layer, and for each step or once for all; its entries are 0 with probability
    p and otherwise ``1 / (1 - p)``. What z carries on is never dropped.

    Args:
        x: padded, single or packed sequences of a floating-point type.
        weights: those of each layer and direction, as ``nn.GRU.all_weights`` has them.
        state: the first h; zeros when None.
        recurrent_p: probability of dropping a unit's candidate at a step, in [0, 1]. Default: 0.25.
        training: whether to drop. Default: True.
        per: ``"step"``: a new mask at each step; ``"sequence"``: one at all steps. Default: ``"step"``.
        between_p: probability of dropping an element between one layer and the next, in [0, 1], as torch's ``dropout``.
            Default: 0.
        bidirectional: whether every other entry of ``weights`` runs backwards. Default: False.
        batch_first: whether batches are laid out (N, T, F) rather than (T, N, F). Default: False.
        generator: draw the seeds from here.
        stream: the name of the whole under ``dk.keyed``; its sites have the names of the module's children in it.

    Returns:
        The output in the form of x and the last h, as ``nn.GRU`` returns them.

    Raises:
        InputError: for rates outside [0, 1], integer data, an unknown ``per``, or tensors that do not fit together.

    Shape:
        As ``nn.GRU``: x is (T, N, F), or (N, T, F) with ``batch_first``, or (T, F), or a packed sequence, which gets the masks
        of the padded one.

    Use:
        For recurrent layers that overfit; it goes with dropout on inputs and outputs. `variational_gru` masks the state where
        it enters all gates instead.

    Rates:
        0.25 to 0.5.

    Evidence:
        The paper tries both kinds of masks on language models, named entities and sentiment, and finds gains over no recurrent
        dropout.

    Example:
        >>> layer = nn.GRU(3, 4)
        >>> recurrent_dropout_gru(torch.ones(5, 2, 3), layer.all_weights)[0].shape
        torch.Size([5, 2, 4])

    References:
        Semeniuta, Severyn, Barth: "Recurrent dropout without memory loss", COLING 2016.
    """
    noise = Noise(between=named(between_p, training, generator, stream, "between_dropout"), between_each_step=True,
                  candidate=named(recurrent_p, training, generator, stream, "recurrent_dropout"),
                  each_step=check_per(per) == "step")
    found: Any = run(GRU, x, state, weights, noise, bidirectional=bidirectional, batch_first=batch_first, training=training)
    return found[0], found[1]


def recurrent_dropout_rnn(x: Input, weights: Weights, state: Tensor | None = None, recurrent_p: float | Tensor = 0.25,
                          training: bool = True, *, nonlinearity: str = "tanh", per: str = "step",
                          between_p: float | Tensor = 0.0, bidirectional: bool = False, batch_first: bool = False,
                          generator: torch.Generator | None = None, stream: str | None = None) -> tuple[Input, Tensor]:
    """Run plain recurrent layers with dropout of the state where it enters the next.

    ``h_t = f(W x_t + U (h_{t-1} m) + b)``; a plain recurrent layer has no memory that a candidate is added to, and the paper
    masks the state where it enters the next. m is a mask, drawn for each sequence and layer, and for each step or once for all;
    its entries are 0 with probability p and otherwise ``1 / (1 - p)``.

    Args:
        x: padded, single or packed sequences of a floating-point type.
        weights: those of each layer and direction, as ``nn.RNN.all_weights`` has them.
        state: the first h; zeros when None.
        recurrent_p: probability of dropping a unit's state at a step, in [0, 1]. Default: 0.25.
        training: whether to drop. Default: True.
        nonlinearity: ``"tanh"`` or ``"relu"``.
        per: ``"step"``: a new mask at each step; ``"sequence"``: one at all steps. Default: ``"step"``.
        between_p: probability of dropping an element between one layer and the next, in [0, 1], as torch's ``dropout``.
            Default: 0.
        bidirectional: whether every other entry of ``weights`` runs backwards. Default: False.
        batch_first: whether batches are laid out (N, T, F) rather than (T, N, F). Default: False.
        generator: draw the seeds from here.
        stream: the name of the whole under ``dk.keyed``; its sites have the names of the module's children in it.

    Returns:
        The output in the form of x and the last h, as ``nn.RNN`` returns them.

    Raises:
        InputError: for rates outside [0, 1], integer data, an unknown ``per`` or nonlinearity, or tensors that do not
            fit together.

    Shape:
        As ``nn.RNN``: x is (T, N, F), or (N, T, F) with ``batch_first``, or (T, F), or a packed sequence, which gets the masks
        of the padded one.

    Use:
        For recurrent layers that overfit; it goes with dropout on inputs and outputs. `variational_rnn` masks the state where
        it enters all gates instead.

    Rates:
        0.25 to 0.5.

    Evidence:
        The paper has the formula and tries LSTM and GRU; take those where the past matters.

    Example:
        >>> layer = nn.RNN(3, 4)
        >>> recurrent_dropout_rnn(torch.ones(5, 2, 3), layer.all_weights)[0].shape
        torch.Size([5, 2, 4])

    References:
        Semeniuta, Severyn, Barth: "Recurrent dropout without memory loss", COLING 2016.
    """
    noise = Noise(between=named(between_p, training, generator, stream, "between_dropout"), between_each_step=True,
                  recurrent=named(recurrent_p, training, generator, stream, "recurrent_dropout"),
                  each_step=check_per(per) == "step")
    found: Any = run(check_nonlinearity(nonlinearity), x, state, weights, noise, bidirectional=bidirectional,
                     batch_first=batch_first, training=training)
    return found[0], found[1]


class _RecurrentDropout(RecurrentSites):
    """The sites and settings that the three modules share."""

    recurrent_dropout: RecurrentDropout
    recurrent_p = Rate("recurrent_dropout")
    per: str
    settings: ClassVar[Mapping[str, Any]] = {"per": "step"}

    def noise(self) -> Noise:
        """Return what the variant chooses, from the children as they are now."""
        masks = chance(self.recurrent_dropout)
        has_memory = not isinstance(self, nn.RNN)
        return Noise(between=chance(self.between_dropout), recurrent=None if has_memory else masks,
                     candidate=masks if has_memory else None, each_step=self.per == "step", between_each_step=True)


class RecurrentDropoutLSTM(_RecurrentDropout, nn.LSTM):
    """``nn.LSTM`` with dropout of the candidate; `recurrent_dropout_lstm` as a module.

    The parameters and the ``state_dict`` are those of ``nn.LSTM``; the rates are those of the children.

    Args:
        input_size: features of the input.
        hidden_size: units of a layer.
        num_layers: how many layers. Default: 1.
        bias: whether there are biases. Default: True.
        batch_first: whether batches are laid out (N, T, F) rather than (T, N, F). Default: False.
        dropout: probability of dropping an element between one layer and the next, in [0, 1]. Default: 0.
        bidirectional: whether each layer also runs backwards. Default: False.
        proj_size: size that states are projected to; 0 for none.
        device: of the parameters.
        dtype: of the parameters.
        recurrent_p: probability of dropping a unit's candidate at a step, in [0, 1]. Default: 0.25.
        per: ``"step"``: a new mask at each step; ``"sequence"``: one at all steps. Default: ``"step"``.

    Raises:
        InputError: for a rate outside [0, 1] or an unknown ``per``.

    Shape:
        As ``nn.LSTM``.

    Example:
        >>> RecurrentDropoutLSTM(3, 4).recurrent_dropout
        RecurrentDropout(p=0.25)
    """

    def __init__(self, input_size: int, hidden_size: int, num_layers: int = 1, bias: bool = True, batch_first: bool = False,
                 dropout: float = 0.0, bidirectional: bool = False, proj_size: int = 0, device: Any = None, dtype: Any = None,
                 *, recurrent_p: float = 0.25, per: str = "step") -> None:
        nn.LSTM.__init__(self, input_size, hidden_size, num_layers, bias, batch_first, dropout, bidirectional, proj_size,
                         device=device, dtype=dtype)
        sites = {"recurrent_dropout": RecurrentDropout(recurrent_p), "between_dropout": Dropout(dropout)}
        install(self, RecurrentDropoutLSTM, sites, per=check_per(per))


class RecurrentDropoutGRU(_RecurrentDropout, nn.GRU):
    """``nn.GRU`` with dropout of the candidate; `recurrent_dropout_gru` as a module.

    The parameters and the ``state_dict`` are those of ``nn.GRU``; the rates are those of the children.

    Args:
        input_size: features of the input.
        hidden_size: units of a layer.
        num_layers: how many layers. Default: 1.
        bias: whether there are biases. Default: True.
        batch_first: whether batches are laid out (N, T, F) rather than (T, N, F). Default: False.
        dropout: probability of dropping an element between one layer and the next, in [0, 1]. Default: 0.
        bidirectional: whether each layer also runs backwards. Default: False.
        device: of the parameters.
        dtype: of the parameters.
        recurrent_p: probability of dropping a unit's candidate at a step, in [0, 1]. Default: 0.25.
        per: ``"step"``: a new mask at each step; ``"sequence"``: one at all steps. Default: ``"step"``.

    Raises:
        InputError: for a rate outside [0, 1] or an unknown ``per``.

    Shape:
        As ``nn.GRU``.

    Example:
        >>> RecurrentDropoutGRU(3, 4).recurrent_dropout
        RecurrentDropout(p=0.25)
    """

    def __init__(self, input_size: int, hidden_size: int, num_layers: int = 1, bias: bool = True, batch_first: bool = False,
                 dropout: float = 0.0, bidirectional: bool = False, device: Any = None, dtype: Any = None, *,
                 recurrent_p: float = 0.25, per: str = "step") -> None:
        nn.GRU.__init__(self, input_size, hidden_size, num_layers, bias, batch_first, dropout, bidirectional, device=device,
                        dtype=dtype)
        sites = {"recurrent_dropout": RecurrentDropout(recurrent_p), "between_dropout": Dropout(dropout)}
        install(self, RecurrentDropoutGRU, sites, per=check_per(per))


class RecurrentDropoutRNN(_RecurrentDropout, nn.RNN):
    """``nn.RNN`` with dropout of the state; `recurrent_dropout_rnn` as a module.

    The parameters and the ``state_dict`` are those of ``nn.RNN``; the rates are those of the children.

    Args:
        input_size: features of the input.
        hidden_size: units of a layer.
        num_layers: how many layers. Default: 1.
        nonlinearity: ``"tanh"`` or ``"relu"``.
        bias: whether there are biases. Default: True.
        batch_first: whether batches are laid out (N, T, F) rather than (T, N, F). Default: False.
        dropout: probability of dropping an element between one layer and the next, in [0, 1]. Default: 0.
        bidirectional: whether each layer also runs backwards. Default: False.
        device: of the parameters.
        dtype: of the parameters.
        recurrent_p: probability of dropping a unit's state at a step, in [0, 1]. Default: 0.25.
        per: ``"step"``: a new mask at each step; ``"sequence"``: one at all steps. Default: ``"step"``.

    Raises:
        InputError: for a rate outside [0, 1] or an unknown ``per``.

    Shape:
        As ``nn.RNN``.

    Example:
        >>> RecurrentDropoutRNN(3, 4).recurrent_dropout
        RecurrentDropout(p=0.25)
    """

    def __init__(self, input_size: int, hidden_size: int, num_layers: int = 1, nonlinearity: str = "tanh", bias: bool = True,
                 batch_first: bool = False, dropout: float = 0.0, bidirectional: bool = False, device: Any = None,
                 dtype: Any = None, *, recurrent_p: float = 0.25, per: str = "step") -> None:
        nn.RNN.__init__(self, input_size, hidden_size, num_layers, nonlinearity, bias, batch_first, dropout, bidirectional,
                        device=device, dtype=dtype)
        sites = {"recurrent_dropout": RecurrentDropout(recurrent_p), "between_dropout": Dropout(dropout)}
        install(self, RecurrentDropoutRNN, sites, per=check_per(per))
