"""Dropout between the layers of torch's recurrent modules."""

from __future__ import annotations

from typing import Any

from torch import nn

from dropkit.core.errors import InputError
from dropkit.core.notices import notify
from dropkit.surgery.modules import walk
from dropkit.variants.recurrent_module import PER
from dropkit.variants.recurrent_swap import check_variational, is_variational, make_plain, make_variational


def check_recurrent(recurrent: Any) -> str:
    """How recurrent modules are swapped: ``"step"`` or ``"sequence"``.

    Args:
        recurrent: the caller's.

    Raises:
        InputError: for anything else.

    Example:
        >>> check_recurrent("step")
        'step'
    """
    if recurrent not in PER:
        raise InputError('recurrent is "step" or "sequence"', got=recurrent,
                         fix='"step" keeps torch\'s law, a new mask at each step; "sequence" keeps one mask for all of them')
    return str(recurrent)


def swap_recurrent(model: nn.Module, recurrent: str = "step") -> None:
    """Give the recurrent modules of a model dropkit's masks; those that were swapped before stay as they are.

    Args:
        model: any module.
        recurrent: ``"step"``: modules of several layers, with a new mask between layers at each step, as torch has it.
            ``"sequence"``: all, with one mask a sequence, and sites for inputs, states and outputs at rate 0.

    Example:
        >>> model = nn.Sequential(nn.GRU(3, 4, num_layers=2, dropout=0.5))
        >>> swap_recurrent(model)
        >>> [name for name, _ in model[0].named_children()][2:3], model[0].between_dropout.p
        (['between_dropout'], 0.5)
    """
    for _, module in list(walk(model)):
        if isinstance(module, nn.RNNBase) and type(module) in (nn.LSTM, nn.GRU, nn.RNN):
            if recurrent == "sequence":
                make_variational(module, input_p=0.0, recurrent_p=0.0, output_p=0.0, per="sequence")
            elif module.num_layers > 1:
                make_variational(module)


def check_unswappable(model: nn.Module) -> None:
    """Refuse to go back to torch where a recurrent module does what torch's cannot.

    Args:
        model: any module.

    Raises:
        InputError: for rates or settings that torch lacks.

    Example:
        >>> check_unswappable(nn.Sequential(nn.LSTM(1, 1)))
    """
    for name, module in walk(model):
        if is_variational(module):
            try:
                check_variational(module)
            except InputError as error:
                raise InputError(error.rule, got=error.got, fix=f"{error.fix}; the module is {name!r}") from None


def unswap_recurrent(model: nn.Module) -> None:
    """Give torch's recurrent modules back.

    Args:
        model: for which `check_unswappable` has been called.

    Example:
        >>> model = nn.Sequential(nn.GRU(3, 4, num_layers=2, dropout=0.5))
        >>> swap_recurrent(model)
        >>> unswap_recurrent(model)
        >>> model[0]
        GRU(3, 4, num_layers=2, dropout=0.5)
    """
    for _, module in list(walk(model)):
        if isinstance(module, nn.RNNBase) and is_variational(module):
            make_plain(module)


def idle_recurrent(model: nn.Module) -> list[str]:
    """The paths of recurrent modules with a rate and one layer, which never drop: dropout acts between layers only.

    Args:
        model: any module.

    Example:
        >>> idle_recurrent(nn.Sequential(nn.LSTM(1, 1), nn.LSTM(1, 1, num_layers=2, dropout=0.5)))
        []
    """
    return [name for name, module in walk(model)
            if isinstance(module, nn.RNNBase) and module.num_layers < 2 and module.dropout > 0]


def report_idle(model: nn.Module) -> None:
    """Warn of the modules that `idle_recurrent` finds.

    Args:
        model: any module.
    """
    idle = idle_recurrent(model)
    if idle:
        notify(f"a recurrent module of one layer never drops: {', '.join(map(repr, idle))} has a rate and no second layer to "
               "drop before. Put dropkit.nn.LockedDropout or Dropout after it, or remove the rate.")
