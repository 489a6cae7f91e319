"""Between torch's recurrent modules and the variational ones, in place and back."""

from __future__ import annotations

from torch import nn

from dropkit.core.errors import InputError, phrase
from dropkit.variants.recurrent_module import RecurrentSites, check_plain, remove
from dropkit.variants.variational_rnn import VariationalGRU, VariationalLSTM, VariationalRNN, install_variational

_KINDS: dict[type[nn.RNNBase], type[RecurrentSites]] = {nn.LSTM: VariationalLSTM, nn.GRU: VariationalGRU,
                                                        nn.RNN: VariationalRNN}


def make_variational(module: nn.RNNBase, *, input_p: float | None = None, recurrent_p: float | None = None,
                     output_p: float | None = None, tied: bool = True, per: str = "step") -> nn.RNNBase:
    """Turn one of torch's recurrent modules into the variational one, in place.

    It stays the same object, with its parameters, hooks and mode, and drops between layers at the rate that it has. With the
    defaults it computes what it did before, by masks of the contract, and has no other site.

    Args:
        module: exactly an ``nn.LSTM``, ``nn.GRU`` or ``nn.RNN``.
        input_p: as in `VariationalLSTM`; None for no site there, where 0 makes one whose rate can be set later.
        recurrent_p: as in `VariationalLSTM`, or None.
        output_p: as in `VariationalLSTM`, or None.
        tied: as in `VariationalLSTM`.
        per: as in `VariationalLSTM`. Default here: ``"step"``, torch's own law between layers.

    Returns:
        The module.

    Raises:
        InputError: for another module, a rate outside [0, 1] or an unknown ``per``. Nothing is changed then.

    Example:
        >>> lstm = nn.LSTM(3, 4, num_layers=2, dropout=0.5)
        >>> make_variational(lstm) is lstm, type(lstm).__name__, lstm.between_dropout
        (True, 'VariationalLSTM', Dropout(p=0.5, inplace=False))
    """
    kind = _KINDS[type(check_plain(module))]
    install_variational(module, kind, module.dropout, input_p, recurrent_p, output_p, tied, per)
    return module


def make_plain(module: nn.RNNBase) -> nn.RNNBase:
    """Turn a variational module into torch's, in place; undoes `make_variational`.

    Args:
        module: exactly a `VariationalLSTM`, `VariationalGRU` or `VariationalRNN`.

    Returns:
        The module. Its rate between layers is torch's from now on.

    Raises:
        InputError: for another module, or one with a rate or setting that torch's lacks. Nothing is changed then.

    Example:
        >>> type(make_plain(VariationalLSTM(3, 4))).__module__
        'torch.nn.modules.rnn'
    """
    twin = check_variational(module)
    return remove(module, twin)  # type: ignore[arg-type]


def is_variational(module: nn.Module) -> bool:
    """Tell whether a module is one that `make_plain` takes.

    Args:
        module: any.

    Example:
        >>> is_variational(VariationalGRU(3, 4)), is_variational(nn.GRU(3, 4))
        (True, False)
    """
    return type(module) in _KINDS.values()


def check_variational(module: nn.Module) -> type[nn.RNNBase]:
    """The class of torch that a variational module can become, or the error that says why it cannot.

    Args:
        module: as in `make_plain`.

    Raises:
        InputError: as in `make_plain`.

    Example:
        >>> check_variational(VariationalGRU(3, 4)).__name__
        'GRU'
    """
    twin = next((plain for plain, ours in _KINDS.items() if type(module) is ours), None)
    if twin is None or not isinstance(module, RecurrentSites):
        raise InputError("what becomes torch's is a VariationalLSTM, VariationalGRU or VariationalRNN", got=module,
                         fix="Pass such a module")
    for name in ("input_p", "recurrent_p", "output_p"):
        if getattr(module, name) != 0:
            raise InputError(f"torch's {twin.__name__} has no {name}", got=getattr(module, name), fix="Set it to 0 first")
    if module.dropout != 0 and module.num_layers > 1 and _per(module) != "step":
        raise InputError(f"torch's {twin.__name__} draws a new mask between layers at each step",
                         got=phrase(f"per={_per(module)!r}"),
                         fix="Set the rate between layers to 0 first, or keep dropkit's module")
    return twin


def _per(module: RecurrentSites) -> str:
    return str(getattr(module, "per", "step"))
