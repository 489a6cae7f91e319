"""Turn dropout off for a while."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from fnmatch import fnmatchcase

from torch import nn

from dropkit.core.errors import InputError, phrase
from dropkit.surgery.functional import Call
from dropkit.surgery.modules import kind_of, walk
from dropkit.surgery.rates import nearest
from dropkit.surgery.scripted import drawing_scripts, is_active
from dropkit.surgery.watch import Frame, Watch


@contextmanager
def disabled(model: nn.Module, where: str = "*") -> Iterator[None]:
    """Run a model without its dropout inside the ``with``: of modules, of attention, between recurrent layers, of calls.

    Training stays training: batch normalisation goes on counting, and no module's mode changes between forwards. Calls of
    ``F.dropout``, ``F.scaled_dot_product_attention`` and their like are met during the forward of the model or of one of its
    modules; what is turned off draws nothing from the random state. Random numbers that a forward draws in ways that dropkit
    does not know, such as transformers' ``layerdrop`` or the noise of an autoencoder, are drawn as before.

    Contexts nest, and each turns off more. The block holds for all threads that run the model meanwhile. Compiled models run
    uncompiled inside, and ``DataParallel`` on one device. A checkpointed forward is recomputed in the backward pass, which
    therefore belongs inside as well.

    Args:
        model: any module.
        where: a glob of site names, those of `dk.sites` with inputs, such as ``"encoder.*"`` or ``"*:dropout"``.

    Raises:
        InputError: when ``model`` is not a module; for a scripted module that drops, here or at a forward inside; and at the
            end of the block when forwards ran in which ``where`` matched the name of no site.

    Example:
        >>> import torch
        >>> model = nn.Sequential(nn.Dropout(0.5), nn.ReLU())
        >>> with disabled(model):
        ...     model(torch.ones(4)), model[0].training
        (tensor([1., 1., 1., 1.]), True)
    """
    if not isinstance(where, str):
        raise InputError("where is a glob of site names", got=where, fix='Pass a str such as "encoder.*"')
    named = {name: module for name, module in walk(model) if kind_of(module) is not None}
    found = [module for name, module in named.items() if fnmatchcase(name, where)]
    seen, matched = dict.fromkeys(named), bool(found)

    def notice(frame: Frame, key: str, call: Call, p: float) -> bool:
        nonlocal matched
        name = f"{frame.path}:{key}" if key else frame.path
        seen[name] = None
        matches = fnmatchcase(name, where)
        matched |= matches
        return matches

    scripts = [(name, module) for name, module in drawing_scripts(model) if _reaches(where, name, module)]
    _refuse_active(scripts)
    quiet = _Quiet(found, scripts)
    with Watch(model, notice, quiet.now):
        yield
    if not matched and where != "*" and quiet.ran:
        raise InputError("where matches the name of a site that runs", got=where, fix=nearest(where, seen))


def _reaches(where: str, name: str, module: nn.Module) -> bool:
    """Whether a glob matches a module, or one inside it."""
    return any(fnmatchcase(".".join(filter(None, (name, inner))), where) for inner, _ in module.named_modules())


def _refuse_active(scripts: list[tuple[str, nn.Module]]) -> None:
    for name, module in scripts:
        if is_active(module):
            raise InputError("a model whose dropout is turned off is written in Python",
                             got=phrase(f"a scripted or traced module at {name!r}, which drops"),
                             fix="Pass the model as it was before torch.jit, or evaluate that module")


class _Quiet:
    """Keeps modules from dropping while a forward runs in any thread; scripted ones, which cannot be, are refused."""

    def __init__(self, modules: list[nn.Module], scripts: list[tuple[str, nn.Module]]) -> None:
        self._modules, self._scripts = modules, scripts
        self._lock, self._running, self.ran = threading.Lock(), 0, False
        self._saved: list[tuple[nn.Module, str, object]] = []

    @contextmanager
    def now(self) -> Iterator[None]:
        """Keep them quiet; the first to enter turns them off and the last to leave turns them on."""
        _refuse_active(self._scripts)
        with self._lock:
            self._running, self.ran = self._running + 1, True
            if self._running == 1:
                self._saved = [(module, *_off(module)) for module in self._modules]
        try:
            yield
        finally:
            with self._lock:
                self._running -= 1
                if self._running == 0:
                    for module, name, value in self._saved:
                        vars(module)[name] = value


def _off(module: nn.Module) -> tuple[str, object]:
    # Attention and recurrent modules stay in training and get a rate of 0: cuDNN refuses the backward pass of an LSTM in
    # evaluation, and attention would take another kernel.
    name, value = ("dropout", 0.0) if isinstance(module, nn.MultiheadAttention | nn.RNNBase) else ("training", False)
    before = vars(module)[name]
    vars(module)[name] = value
    return name, before
