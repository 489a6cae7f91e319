"""Call a model, and leave it as it was."""

from __future__ import annotations

import random
import sys
from collections import OrderedDict
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence
from torch.utils import _pytree as pytree

from dropkit.core.errors import InputError, phrase
from dropkit.core.streams import is_keyed, keyed
from dropkit.surgery.modules import modules_of

_CONTAINERS = (dict, OrderedDict, list, set)


def call_model(model: nn.Module, inputs: Any) -> Any:
    """Call a model on inputs as users of dropkit give them.

    Args:
        model: any module.
        inputs: a tuple or list of positional arguments, a mapping of keyword arguments, or a single argument, such as a tensor.

    Example:
        >>> call_model(nn.ReLU(), torch.tensor([-1.0])), call_model(nn.ReLU(), {"input": torch.tensor([2.0])})
        (tensor([0.]), tensor([2.]))
    """
    if isinstance(inputs, Mapping):
        return model(**inputs)
    if isinstance(inputs, tuple | list) and not isinstance(inputs, PackedSequence):
        return model(*inputs)
    return model(inputs)


def copy_inputs(inputs: Any) -> Any:
    """Inputs with tensors of their own, so that a forward may write into them.

    Args:
        inputs: as in `call_model`.

    Example:
        >>> x = torch.ones(2)
        >>> copy_inputs((x, 3))[0] is x
        False
    """
    if isinstance(inputs, Mapping) and not isinstance(inputs, dict):
        inputs = dict(inputs)
    return pytree.tree_map_only(Tensor, lambda x: x.detach().clone().requires_grad_(x.requires_grad), inputs)


def does_not_run(error: BaseException, where: str = "") -> InputError:
    """What is said of a model that raises on the inputs that it was given.

    Args:
        error: what it raised.
        where: how it was run, as in ``", here in training"``.

    Example:
        >>> str(does_not_run(TypeError("no"))).partition(". ")[0]
        'a model runs on the inputs that it is given; got TypeError: no'
    """
    return InputError(f"a model runs on the inputs that it is given{where}", got=phrase(f"{type(error).__name__}: {error}"),
                      fix="Pass inputs as a tensor, a tuple of arguments, or a dict of keyword arguments")


@contextmanager
def undisturbed(model: nn.Module) -> Iterator[None]:
    """Put a model back after forwards inside the ``with``: modes, buffers, attributes, hooks, and all random states.

    Attributes that are lists, dictionaries or sets get their items back; what lies deeper is not looked at, nor are the
    values of parameters, which no forward changes. Counts of ``dk.keyed`` do not move.

    Args:
        model: any module without lazy parameters.

    Raises:
        InputError: for a model that has not got its parameters yet.

    Example:
        >>> model = nn.BatchNorm1d(1)
        >>> with undisturbed(model.eval()):
        ...     y = model.train()(torch.randn(3, 1))
        >>> model.training, model.running_mean
        (False, tensor([0.]))
    """
    with ExitStack() as undo:
        undo.enter_context(unmoved(model))
        tensors: dict[Tensor, Tensor] = {}
        for module in model.modules():
            undo.callback(_restore, module, dict(vars(module)), _contents(module))
            tensors.update((x, x.detach().clone()) for x in _tensors(module))
        try:
            yield
        finally:
            for x, saved in tensors.items():
                if not torch.equal(x, saved):
                    x.data.copy_(saved)  # by way of data: graphs that hold the tensor find it unchanged, as it is


@contextmanager
def unmoved(model: nn.Module) -> Iterator[None]:
    """Put back what a twin of a model shares with it after forwards inside the ``with``: gradients, and all random states.

    Counts of ``dk.keyed`` do not move.

    Args:
        model: any module without lazy parameters.

    Raises:
        InputError: for a model that has not got its parameters yet.

    Example:
        >>> state = torch.get_rng_state()
        >>> with unmoved(nn.ReLU()):
        ...     _ = torch.rand(1)
        >>> torch.equal(state, torch.get_rng_state())
        True
    """
    held = [(*module._parameters.values(), *module._buffers.values()) for module in modules_of(model)]
    own = [x for tensors in held for x in tensors if x is not None]
    _refuse_lazy(own)
    with ExitStack() as undo:
        undo.enter_context(_random_states(own))
        if is_keyed():
            undo.enter_context(keyed(0))
        parameters = [x for x in own if isinstance(x, nn.Parameter)]
        grads = [(x, x.grad) for x in parameters if x.grad is not None]
        for parameter, _ in grads:
            parameter.grad = None  # a forward that takes gradients would add to it
        try:
            yield
        finally:
            for parameter in parameters:
                if parameter.grad is not None:
                    parameter.grad = None
            for parameter, grad in grads:
                parameter.grad = grad


def refuse_meta(model: nn.Module, inputs: Any) -> None:
    """Refuse what has shapes and no values, where values are to be compared.

    Args:
        model: any module.
        inputs: as in `call_model`.

    Raises:
        InputError: a parameter, a buffer or an input is on the meta device.

    Example:
        >>> refuse_meta(nn.Linear(2, 2), torch.ones(2))
    """
    named = (*model.named_parameters(), *model.named_buffers(), *(
        ("an input", x) for x in pytree.tree_leaves(inputs) if isinstance(x, Tensor)))
    on_meta = [name for name, x in named if x.is_meta]
    if on_meta:
        raise InputError("a model whose outputs are looked at has values, and its inputs, too",
                         got=phrase(f"{on_meta[0]} on the meta device"),
                         fix="Move it by model.to_empty(device='cpu'), load its weights, and pass inputs of that device")


def _refuse_lazy(tensors: list[Tensor]) -> None:
    kinds = set(map(type, tensors))  # of a few kinds: nn.Parameter's own test of instances is slow
    if any(issubclass(kind, nn.UninitializedParameter | nn.UninitializedBuffer) for kind in kinds):
        raise InputError("a model that is probed has its parameters", got=phrase("a lazy module that has not been run"),
                         fix="Run the model once on the inputs first")


def _tensors(module: nn.Module) -> list[Tensor]:
    """What a forward may write into: buffers, and tensors that are plain attributes."""
    found = (*module._buffers.values(), *vars(module).values())
    return [x for x in found if isinstance(x, Tensor) and not isinstance(x, nn.Parameter) and not x.is_meta]


def _contents(module: nn.Module) -> list[tuple[Any, Any]]:
    return [(value, value.copy()) for value in vars(module).values() if type(value) in _CONTAINERS]


def _restore(module: nn.Module, attributes: dict[str, Any], contents: list[tuple[Any, Any]]) -> None:
    vars(module).clear()
    vars(module).update(attributes)
    for container, saved in contents:
        container.clear()
        (container.extend if isinstance(container, list) else container.update)(saved)


@contextmanager
def _random_states(tensors: list[Tensor]) -> Iterator[None]:
    state = random.getstate()
    numpy = sys.modules.get("numpy")
    numpy_state = numpy.random.get_state() if numpy is not None else None
    places: dict[str, set[int]] = {}
    for x in tensors:
        if x.device.index is not None:
            places.setdefault(x.device.type, set()).add(x.device.index)
    with ExitStack() as undo:
        undo.enter_context(torch.random.fork_rng(devices=[]))
        for kind, devices in places.items():
            undo.enter_context(torch.random.fork_rng(devices=sorted(devices), device_type=kind))
        try:
            yield
        finally:
            random.setstate(state)
            if numpy is not None:
                numpy.random.set_state(numpy_state)
