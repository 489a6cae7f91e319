"""One forward pass, watched: which module made which tensor, and out of which others."""

from __future__ import annotations

import sys
import warnings
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules import module as hooks
from torch.nn.parameter import is_lazy
from torch.overrides import TorchFunctionMode

from dropkit.core.errors import InputError, phrase
from dropkit.surgery.modules import unwrap, walk

_ADDITIONS = {"add", "add_", "__add__", "__radd__", "__iadd__"}


@dataclass(eq=False)
class Call:
    """One call of a module.

    Args:
        name: the module's path.
        module: the module.
        start: how many tensors there were before it.
        takes: its first argument, where that is a tensor that depends on the inputs.
        end: how many tensors there were after it.
    """

    name: str
    module: nn.Module = field(repr=False)
    start: int
    takes: Node | None = field(repr=False)
    end: int = 0


@dataclass(eq=False)
class Node:
    """A tensor that depends on the inputs, as it was after one operation.

    Args:
        index: its place in time.
        operation: the name of the function that made it; ``"input"``, or ``"identity"`` for what a module passed through.
        parents: what it was made of, as far as that depends on the inputs.
        shape: its shape.
        arguments: of the function, after the tensor.
        inside: the calls during which it was made, the outermost first.
        made_by: the calls that returned it, the innermost first, each with its position in what was returned (None for a
            tensor alone).
        used_by: what was made of it.
    """

    index: int
    operation: str
    parents: tuple[Node, ...] = field(repr=False)
    shape: torch.Size
    arguments: tuple[Any, ...] = field(repr=False, default=())
    inside: tuple[Call, ...] = field(repr=False, default=())
    made_by: list[tuple[Call, int | None]] = field(repr=False, default_factory=list)
    used_by: list[Node] = field(repr=False, default_factory=list)


@dataclass(eq=False)
class Trace:
    """What happened in a forward pass.

    Args:
        calls: the calls of modules, in the order in which they began.
        nodes: the tensors that depend on the inputs, in the order in which they were made.
        additions: sums of two such tensors: the sum and its operands.
    """

    calls: list[Call] = field(default_factory=list)
    nodes: list[Node] = field(default_factory=list)
    additions: list[tuple[Node, Node, Node]] = field(default_factory=list)


def trace(model: nn.Module, inputs: Any) -> Trace:
    """Watch one forward pass in evaluation; the model, its buffers and the random state are as before afterwards.

    Args:
        model: any module.
        inputs: a tensor, a tuple of arguments, or a dict of named arguments. A batch of two is enough.

    Raises:
        InputError: when the inputs hold no tensor or the model has layers that are not initialised yet.

    Example:
        >>> model = nn.Sequential(nn.Linear(2, 3), nn.ReLU())
        >>> watched = trace(model, torch.ones(4, 2))
        >>> [call.name for call in watched.calls], watched.nodes[-1].operation
        (['', '0', '1'], 'relu')
    """
    names = {module: name for name, module in walk(model)}
    if any(is_lazy(parameter) for parameter in model.parameters()):
        raise InputError("a model that is traced has its parameters already", got=phrase("an uninitialised lazy layer"),
                         fix="Run a batch through the model first")
    watch = _Watch(names)
    for tensor in tensors(inputs):
        watch.begin(tensor)
    if not watch.trace.nodes:
        raise InputError("inputs hold a tensor", got=inputs, fix="Pass a tensor, a tuple of arguments or a dict of named ones")
    with _undisturbed(list(names)), watch.listening(), watch:
        call(unwrap(model), inputs)
    return watch.trace


def call(model: nn.Module, inputs: Any) -> Any:
    """Call a model with one batch.

    Args:
        model: any callable.
        inputs: as in `trace`.

    Example:
        >>> call(nn.Bilinear(1, 1, 1), (torch.ones(2, 1), torch.ones(2, 1))).shape
        torch.Size([2, 1])
    """
    if isinstance(inputs, Mapping):
        return model(**inputs)
    return model(*inputs) if isinstance(inputs, tuple | list) else model(inputs)


def tensors(value: Any) -> Iterator[Tensor]:
    """Every tensor in nested tuples, lists and mappings.

    Args:
        value: any.

    Example:
        >>> len(list(tensors((torch.ones(1), {"a": [torch.ones(1)], "b": None}))))
        2
    """
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, Mapping):
        for item in value.values():
            yield from tensors(item)
    elif isinstance(value, tuple | list):
        for item in value:
            yield from tensors(item)


class _Watch(TorchFunctionMode):
    """Sees every function on tensors, and by global hooks, which leave the modules alone, every call of a module."""

    def __init__(self, names: Mapping[nn.Module, str]) -> None:
        super().__init__()
        self.names, self.trace = names, Trace()
        self.stack: list[Call] = []
        self.current: dict[int, Node] = {}
        self.alive: list[Tensor] = []  # so that no two tensors have one id
        self.own = False

    def begin(self, tensor: Tensor) -> None:
        self._add(tensor, "input", (), ())

    def __torch_function__(self, function: Any, types: Any, arguments: Any = (), named: Any = None) -> Any:
        named = named or {}
        given = [tensor for tensor in tensors((arguments, named)) if id(tensor) in self.current]
        versions = [_version(tensor) for tensor in given]
        parents = tuple(dict.fromkeys(self.current[id(tensor)] for tensor in given))
        operands = [self.current.get(id(value)) for value in arguments[:2] if isinstance(value, Tensor)]
        result = function(*arguments, **named)
        if parents and not self.own:
            name = getattr(function, "__name__", str(function))
            changed = [tensor for tensor, version in zip(given, versions, strict=True) if _version(tensor) != version]
            old = set(map(id, given))
            for tensor in {id(t): t for t in [*changed, *(t for t in tensors(result) if id(t) not in old)]}.values():
                node = self._add(tensor, name, parents, tuple(arguments[1:]))
                if name in _ADDITIONS and len(operands) == 2 and operands[0] and operands[1]:
                    self.trace.additions.append((node, operands[0], operands[1]))
        return result

    @contextmanager
    def listening(self) -> Iterator[None]:
        handles = (hooks.register_module_forward_pre_hook(self._enter), hooks.register_module_forward_hook(self._leave))
        try:
            yield
        finally:
            for handle in handles:
                handle.remove()

    def _enter(self, module: nn.Module, arguments: Any) -> None:
        if module in self.names:
            takes = self.current.get(id(arguments[0])) if arguments else None
            self.stack.append(Call(self.names[module], module, len(self.trace.nodes), takes))
            self.trace.calls.append(self.stack[-1])

    def _leave(self, module: nn.Module, arguments: Any, output: Any) -> Any:
        if module not in self.names:
            return None
        made = self.stack.pop()
        made.end = len(self.trace.nodes)
        if isinstance(output, Tensor):
            node = self.current.get(id(output))
            if node is None or node.index >= made.start:
                self._made(node, made, None)
                return None
            self.own = True
            twin = output.view_as(output)  # a tensor passed through gets an identity of its own, to tell the paths apart
            self.own = False
            self._made(self._add(twin, "identity", (node,), ()), made, None)
            return twin
        items = list(output.values()) if isinstance(output, Mapping) else output if isinstance(output, tuple | list) else ()
        for position, item in enumerate(items):
            node = self.current.get(id(item))
            if node is not None and node.index >= made.start:
                self._made(node, made, position)
        return None

    def _made(self, node: Node | None, made: Call, position: int | None) -> None:
        if node is not None:
            node.made_by.append((made, position))

    def _add(self, tensor: Tensor, operation: str, parents: tuple[Node, ...], arguments: tuple[Any, ...]) -> Node:
        node = Node(len(self.trace.nodes), operation, parents, tensor.shape, arguments, tuple(self.stack))
        for parent in parents:
            parent.used_by.append(node)
        self.trace.nodes.append(node)
        self.current[id(tensor)] = node
        self.alive.append(tensor)
        return node


@contextmanager
def _undisturbed(modules: list[nn.Module]) -> Iterator[None]:
    modes = [module.training for module in modules]
    buffers = [(buffer, buffer.clone()) for module in modules for buffer in module._buffers.values() if buffer is not None]
    devices = list(range(torch.cuda.device_count())) if torch.cuda.is_initialized() else []  # type: ignore[no-untyped-call]
    fused = torch.backends.mha.get_fastpath_enabled()
    with ExitStack() as stack:
        stack.enter_context(torch.no_grad())
        stack.enter_context(torch.random.fork_rng(devices))
        if "torch._dynamo" in sys.modules:  # parts that are compiled run as they are written
            stack.enter_context(torch.compiler.set_stance("force_eager"))
            stack.enter_context(warnings.catch_warnings())
            warnings.filterwarnings("ignore", "Using `torch.compile\\(module\\)` when there are global hooks")
        torch.backends.mha.set_fastpath_enabled(False)  # torch's fused encoder layer calls no modules
        for module in modules:
            module.training = False
        try:
            yield
        finally:
            torch.backends.mha.set_fastpath_enabled(fused)
            for module, mode in zip(modules, modes, strict=True):
                module.training = mode
            for buffer, value in buffers:
                buffer.copy_(value)


def _version(tensor: Tensor) -> int:
    return 0 if tensor.is_inference() else int(tensor._version)
