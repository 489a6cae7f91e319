"""Recurrent layers whose units keep their old value at random: LSTM, GRU and RNN."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from dropkit.kernels.recurrent import GRU, LSTM
from dropkit.variants.dropout import Dropout
from dropkit.variants.recurrent_layers import Noise, check_nonlinearity, run
from dropkit.variants.recurrent_module import Rate, RecurrentSites, chance, install, named
from dropkit.variants.sequences import Input
from dropkit.variants.zoneout import Zoneout

Weights = Sequence[Sequence[Tensor]]


def zoneout_lstm(x: Input, weights: Weights, state: tuple[Tensor, Tensor] | None = None, hidden_p: float | Tensor = 0.05,
                 training: bool = True, *, cell_p: float | Tensor = 0.5, between_p: float | Tensor = 0.0,
                 bidirectional: bool = False, batch_first: bool = False, generator: torch.Generator | None = None,
                 stream: str | None = None) -> tuple[Input, tuple[Tensor, Tensor]]:
    """Run LSTM layers whose units keep their old memory and state at random.

    ``c_t = m_c c_{t-1} + (1 - m_c) c'_t`` and ``h_t = m_h h_{t-1} + (1 - m_h) o tanh(c'_t)``, where ``c' = f c_{t-1} + i g`` is
    the memory that the cell proposes and i, f, o, g are its gates. m_c and m_h are masks, drawn for each sequence, layer and
    step, whose entries are 1, the old value stays, with probability ``cell_p`` and ``hidden_p``, and otherwise 0. In evaluation
    the rates themselves stand in for the masks.

    Args:
        x: padded, single or packed sequences of a floating-point type.
        weights: those of each layer and direction, as ``nn.LSTM.all_weights`` has them.
        state: the first (h, c); zeros when None.
        hidden_p: probability that a unit keeps its old state at a step, in [0, 1]. Default: 0.05.
        training: whether to drop. Default: True.
        cell_p: probability that a unit keeps its old memory at a step, in [0, 1]. Default: 0.5.
        between_p: probability of dropping an element between one layer and the next, in [0, 1], as torch's ``dropout``.
            Default: 0.
        bidirectional: whether every other entry of ``weights`` runs backwards. Default: False.
        batch_first: whether batches are laid out (N, T, F) rather than (T, N, F). Default: False.
        generator: draw the seeds from here.
        stream: the name of the whole under ``dk.keyed``; its sites have the names of the module's children in it.

    Returns:
        The output in the form of x and the last (h, c), as ``nn.LSTM`` returns them.

    Raises:
        InputError: for rates outside [0, 1], integer data, or tensors that do not fit together.

    Shape:
        As ``nn.LSTM``: x is (T, N, F), or (N, T, F) with ``batch_first``, or (T, F), or a packed sequence, which gets the masks
        of the padded one.

    Use:
        For LSTMs that overfit or forget; the noise leaves gradients a path through time. Evaluation mixes old and new values
        and so differs from ``nn.LSTM`` at rates above 0.

    Rates:
        0.5 for the memory and 0.05 for the state on characters, 0.25 and 0.025 on words: the paper's choices.

    Evidence:
        The paper reports gains over the plain LSTM on characters and words of Penn Treebank, on Text8 and on images read pixel
        by pixel. In the authors' first scripts rates stood for the probability of taking the new value.

    Example:
        >>> layer = nn.LSTM(3, 4)
        >>> zoneout_lstm(torch.ones(5, 2, 3), layer.all_weights)[0].shape
        torch.Size([5, 2, 4])

    References:
        Krueger et al.: "Zoneout: regularizing RNNs by randomly preserving hidden activations", ICLR 2017.
    """
    noise = Noise(between=named(between_p, training, generator, stream, "between_dropout"), between_each_step=True,
                  zone_c=named(cell_p, training, generator, stream, "cell_zoneout"),
                  zone_h=named(hidden_p, training, generator, stream, "hidden_zoneout"))
    found: Any = run(LSTM, x, state, weights, noise, bidirectional=bidirectional, batch_first=batch_first, training=training)
    return found[0], found[1]


def zoneout_gru(x: Input, weights: Weights, state: Tensor | None = None, hidden_p: float | Tensor = 0.05, training: bool = True,
                *, between_p: float | Tensor = 0.0, bidirectional: bool = False, batch_first: bool = False,
                generator: torch.Generator | None = None, stream: str | None = None) -> tuple[Input, Tensor]:
    """Run GRU layers whose units keep their old state at random.

    ``h_t = m h_{t-1} + (1 - m) h'_t``, where h' is the state that the GRU proposes. m is a mask, drawn for each sequence,
    layer and step, whose entries are 1, the old value stays, with probability ``hidden_p`` and otherwise 0. In evaluation the
    rate itself stands in for the mask.

    Args:
        x: padded, single or packed sequences of a floating-point type.
        weights: those of each layer and direction, as ``nn.GRU.all_weights`` has them.
        state: the first h; zeros when None.
        hidden_p: probability that a unit keeps its old state at a step, in [0, 1]. Default: 0.05.
        training: whether to drop. Default: True.
        between_p: probability of dropping an element between one layer and the next, in [0, 1], as torch's ``dropout``.
            Default: 0.
        bidirectional: whether every other entry of ``weights`` runs backwards. Default: False.
        batch_first: whether batches are laid out (N, T, F) rather than (T, N, F). Default: False.
        generator: draw the seeds from here.
        stream: the name of the whole under ``dk.keyed``; its sites have the names of the module's children in it.

    Returns:
        The output in the form of x and the last h, as ``nn.GRU`` returns them.

    Raises:
        InputError: for rates outside [0, 1], integer data, or tensors that do not fit together.

    Shape:
        As ``nn.GRU``: x is (T, N, F), or (N, T, F) with ``batch_first``, or (T, F), or a packed sequence, which gets the masks
        of the padded one.

    Use:
        As `zoneout_lstm`.

    Rates:
        0.05 to 0.2; there is no memory whose own rate could be higher.

    Evidence:
        The paper tries GRUs too, on characters of Penn Treebank; most of its experiments are with the LSTM.

    Example:
        >>> layer = nn.GRU(3, 4)
        >>> zoneout_gru(torch.ones(5, 2, 3), layer.all_weights)[0].shape
        torch.Size([5, 2, 4])

    References:
        Krueger et al.: "Zoneout: regularizing RNNs by randomly preserving hidden activations", ICLR 2017.
    """
    noise = Noise(between=named(between_p, training, generator, stream, "between_dropout"), between_each_step=True,
                  zone_h=named(hidden_p, training, generator, stream, "hidden_zoneout"))
    found: Any = run(GRU, x, state, weights, noise, bidirectional=bidirectional, batch_first=batch_first, training=training)
    return found[0], found[1]


def zoneout_rnn(x: Input, weights: Weights, state: Tensor | None = None, hidden_p: float | Tensor = 0.05, training: bool = True,
                *, nonlinearity: str = "tanh", between_p: float | Tensor = 0.0, bidirectional: bool = False,
                batch_first: bool = False, generator: torch.Generator | None = None,
                stream: str | None = None) -> tuple[Input, Tensor]:
    """Run plain recurrent layers whose units keep their old state at random.

    ``h_t = m h_{t-1} + (1 - m) h'_t``, where ``h' = f(W x_t + U h_{t-1} + b)`` is the state that the layer proposes. m is a
    mask, drawn for each sequence, layer and step, whose entries are 1, the old value stays, with probability ``hidden_p`` and
    otherwise 0. In evaluation the rate itself stands in for the mask.

    Args:
        x: padded, single or packed sequences of a floating-point type.
        weights: those of each layer and direction, as ``nn.RNN.all_weights`` has them.
        state: the first h; zeros when None.
        hidden_p: probability that a unit keeps its old state at a step, in [0, 1]. Default: 0.05.
        training: whether to drop. Default: True.
        nonlinearity: ``"tanh"`` or ``"relu"``.
        between_p: probability of dropping an element between one layer and the next, in [0, 1], as torch's ``dropout``.
            Default: 0.
        bidirectional: whether every other entry of ``weights`` runs backwards. Default: False.
        batch_first: whether batches are laid out (N, T, F) rather than (T, N, F). Default: False.
        generator: draw the seeds from here.
        stream: the name of the whole under ``dk.keyed``; its sites have the names of the module's children in it.

    Returns:
        The output in the form of x and the last h, as ``nn.RNN`` returns them.

    Raises:
        InputError: for rates outside [0, 1], integer data, an unknown nonlinearity, or tensors that do not fit together.

    Shape:
        As ``nn.RNN``: x is (T, N, F), or (N, T, F) with ``batch_first``, or (T, F), or a packed sequence, which gets the masks
        of the padded one.

    Use:
        As `zoneout_lstm`.

    Rates:
        0.05 to 0.2; there is no memory whose own rate could be higher.

    Evidence:
        The paper tries plain recurrent networks too, on characters of Penn Treebank; most of its experiments are with the LSTM.

    Example:
        >>> layer = nn.RNN(3, 4)
        >>> zoneout_rnn(torch.ones(5, 2, 3), layer.all_weights)[0].shape
        torch.Size([5, 2, 4])

    References:
        Krueger et al.: "Zoneout: regularizing RNNs by randomly preserving hidden activations", ICLR 2017.
    """
    noise = Noise(between=named(between_p, training, generator, stream, "between_dropout"), between_each_step=True,
                  zone_h=named(hidden_p, training, generator, stream, "hidden_zoneout"))
    found: Any = run(check_nonlinearity(nonlinearity), x, state, weights, noise, bidirectional=bidirectional,
                     batch_first=batch_first, training=training)
    return found[0], found[1]


class _Zoneout(RecurrentSites):
    """The sites that the three modules share."""

    hidden_zoneout: Zoneout
    hidden_p = Rate("hidden_zoneout")

    def noise(self) -> Noise:
        """Return what the variant chooses, from the children as they are now."""
        cell = self._modules.get("cell_zoneout")
        return Noise(between=chance(self.between_dropout), zone_c=chance(cell) if isinstance(cell, Zoneout) else None,
                     zone_h=chance(self.hidden_zoneout), between_each_step=True)


class ZoneoutLSTM(_Zoneout, nn.LSTM):
    """``nn.LSTM`` whose units keep their old memory and state at random; `zoneout_lstm` as a module.

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
        cell_p: probability that a unit keeps its old memory at a step, in [0, 1]. Default: 0.5.
        hidden_p: probability that a unit keeps its old state at a step, in [0, 1]. Default: 0.05.

    Raises:
        InputError: for a rate outside [0, 1].

    Shape:
        As ``nn.LSTM``.

    Example:
        >>> ZoneoutLSTM(3, 4).cell_zoneout
        Zoneout(p=0.5)
    """

    cell_zoneout: Zoneout
    cell_p = Rate("cell_zoneout")

    def __init__(self, input_size: int, hidden_size: int, num_layers: int = 1, bias: bool = True, batch_first: bool = False,
                 dropout: float = 0.0, bidirectional: bool = False, proj_size: int = 0, device: Any = None, dtype: Any = None,
                 *, cell_p: float = 0.5, hidden_p: float = 0.05) -> None:
        nn.LSTM.__init__(self, input_size, hidden_size, num_layers, bias, batch_first, dropout, bidirectional, proj_size,
                         device=device, dtype=dtype)
        install(self, ZoneoutLSTM, {"cell_zoneout": Zoneout(cell_p), "hidden_zoneout": Zoneout(hidden_p),
                                    "between_dropout": Dropout(dropout)})


class ZoneoutGRU(_Zoneout, nn.GRU):
    """``nn.GRU`` whose units keep their old state at random; `zoneout_gru` as a module.

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
        hidden_p: probability that a unit keeps its old state at a step, in [0, 1]. Default: 0.05.

    Raises:
        InputError: for a rate outside [0, 1].

    Shape:
        As ``nn.GRU``.

    Example:
        >>> ZoneoutGRU(3, 4, hidden_p=0.1).hidden_zoneout
        Zoneout(p=0.1)
    """

    def __init__(self, input_size: int, hidden_size: int, num_layers: int = 1, bias: bool = True, batch_first: bool = False,
                 dropout: float = 0.0, bidirectional: bool = False, device: Any = None, dtype: Any = None, *,
                 hidden_p: float = 0.05) -> None:
        nn.GRU.__init__(self, input_size, hidden_size, num_layers, bias, batch_first, dropout, bidirectional, device=device,
                        dtype=dtype)
        install(self, ZoneoutGRU, {"hidden_zoneout": Zoneout(hidden_p), "between_dropout": Dropout(dropout)})


class ZoneoutRNN(_Zoneout, nn.RNN):
    """``nn.RNN`` whose units keep their old state at random; `zoneout_rnn` as a module.

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
        hidden_p: probability that a unit keeps its old state at a step, in [0, 1]. Default: 0.05.

    Raises:
        InputError: for a rate outside [0, 1].

    Shape:
        As ``nn.RNN``.

    Example:
        >>> ZoneoutRNN(3, 4, hidden_p=0.1).hidden_zoneout
        Zoneout(p=0.1)
    """

    def __init__(self, input_size: int, hidden_size: int, num_layers: int = 1, nonlinearity: str = "tanh", bias: bool = True,
                 batch_first: bool = False, dropout: float = 0.0, bidirectional: bool = False, device: Any = None,
                 dtype: Any = None, *, hidden_p: float = 0.05) -> None:
        nn.RNN.__init__(self, input_size, hidden_size, num_layers, nonlinearity, bias, batch_first, dropout, bidirectional,
                        device=device, dtype=dtype)
        install(self, ZoneoutRNN, {"hidden_zoneout": Zoneout(hidden_p), "between_dropout": Dropout(dropout)})
