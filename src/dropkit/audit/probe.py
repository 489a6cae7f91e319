"""Watch a model's forward: which operations it makes, which of them drop, and which random numbers nothing explains."""

from __future__ import annotations

import inspect
import linecache
import os
import random
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from types import FrameType
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules import module as hooks
from torch.overrides import TorchFunctionMode
from torch.utils import _pytree as pytree
from torch.utils._python_dispatch import TorchDispatchMode

from dropkit.audit.finding import Place
from dropkit.audit.observation import Op, Opaque, Pass, SiteCall
from dropkit.core.intercept import THREAD
from dropkit.surgery.calls import call_model, copy_inputs
from dropkit.surgery.functional import Call, read
from dropkit.surgery.modules import kind_of, rate_attribute, walk

_LIBRARIES = tuple(os.path.join(os.path.dirname(os.path.abspath(file)), "")
                   for file in (torch.__file__, os.path.dirname(os.path.dirname(__file__))))


def watch(model: nn.Module, inputs: Any, mode: str, seed: int = 0) -> Pass:
    """Run a model once and tell what happened; random states are put back by the caller.

    Args:
        model: any module, in the modes that it is to run in.
        inputs: as in `dropkit.surgery.calls.call_model`.
        mode: what the pass is called.
        seed: of all generators.

    Returns:
        The pass; with the error where the model raised.

    Example:
        >>> found = watch(nn.Sequential(nn.Linear(2, 2), nn.Dropout(0.5)), torch.ones(1, 2), "train")
        >>> [op.name for op in found.ops], [site.name for site in found.sites]
        (['input', 'linear', 'dropout'], ['1'])
    """
    seen = _Seen(model, Pass(mode))
    torch.manual_seed(seed)
    random.seed(seed)
    if "numpy" in sys.modules:
        sys.modules["numpy"].random.seed(seed)
    given = copy_inputs(inputs)
    for tensor in pytree.tree_leaves(given):
        if isinstance(tensor, Tensor):
            seen.add(tensor, "input", (), {})
    with seen.watching():
        try:
            output = call_model(model, given)
        except Exception as error:
            seen.found.error = error
        else:
            seen.found.output = output
    seen.found.output = pytree.tree_map_only(Tensor, lambda x: x.detach().clone(), seen.found.output)
    return seen.found


class _Seen(TorchFunctionMode):
    """Records operations; the dispatcher's view beneath tells of randomness."""

    def __init__(self, model: nn.Module, found: Pass) -> None:
        super().__init__()
        self.found = found
        self._paths = {module: path for path, module in walk(model)}
        self._parameters = {id(x): name for name, x in model.named_parameters()}
        self._kinds = {module: kind_of(module) for module in self._paths}
        self._stack: list[nn.Module] = []
        self._counts: list[dict[str, int]] = [{}]
        self._began: list[int] = []
        self._ops: dict[int, Op] = {}
        self._alive: list[Any] = []  # so that no two tensors have one id
        self._explained = 0  # how many known sites run
        self._calling = False

    @contextmanager
    def watching(self) -> Iterator[None]:
        with ExitStack() as undo:
            undo.callback(setattr, THREAD, "interceptor", THREAD.interceptor)
            THREAD.interceptor = self
            for handle in (hooks.register_module_forward_pre_hook(self._enter),
                           hooks.register_module_forward_hook(self._leave, always_call=True)):
                undo.callback(handle.remove)
            undo.enter_context(_Randomness(self._drew))
            undo.enter_context(self)
            yield

    def handle(self, function: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Answer a call of one of dropkit's functions as an `Interceptor` does."""
        run = getattr(function, "__wrapped__", function)
        return self._noted(function, run, args, kwargs)

    def __torch_function__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return self._noted(function, function, args, kwargs or {})

    def add(self, tensor: Tensor, name: str, parents: tuple[Op, ...], arguments: Mapping[str, Any],
            parameters: tuple[str, ...] = ()) -> Op:
        """Note an operation by its result."""
        op = Op(len(self.found.ops), name, self._path(), place(), parents, [], tuple(tensor.shape), parameters, None, arguments)
        for parent in parents:
            parent.users.append(op)
        self.found.ops.append(op)
        self._ops[id(tensor)] = op
        self._alive.append(tensor)
        return op

    def _noted(self, function: Any, run: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        if self._calling:  # inside a call that drops, whose result is what counts
            return run(*args, **kwargs)
        call = None if self._explained else read(function, args, kwargs)
        given = [x for x in pytree.tree_leaves((args, kwargs)) if isinstance(x, Tensor)]
        parents = tuple(dict.fromkeys(self._ops[id(x)] for x in given if id(x) in self._ops))
        versions = {id(x): _version(x) for x in given}
        self._calling = call is not None
        try:
            result = run(*args, **kwargs)
        finally:
            self._calling = False
        if parents or call is not None:
            self._results(function, args, kwargs, given, versions, parents, result, call)
        return result

    def _results(self, function: Any, args: Any, kwargs: Any, given: list[Tensor], versions: dict[int, int],
                 parents: tuple[Op, ...], result: Any, call: Call | None) -> None:
        name = str(getattr(function, "__name__", function))
        named = {key: value for key, value in _named(function, args, kwargs).items() if not isinstance(value, Tensor)}
        parameters = tuple(self._parameters[id(x)] for x in given if id(x) in self._parameters)
        changed = [x for x in given if _version(x) != versions[id(x)]]
        made = [x for x in pytree.tree_leaves(result) if isinstance(x, Tensor) and id(x) not in versions]
        op = None
        for tensor in changed + made:
            op = self.add(tensor, name, parents, named, parameters)
        if call is not None and (op is not None or parents):  # without one it returned its input, as in evaluation
            self._site(call, op or parents[0], op is not None)

    def _site(self, call: Call, op: Op, own: bool) -> None:
        counts = self._counts[-1]
        number = counts.get(call.rule.name, 0)
        counts[call.rule.name] = number + 1
        name = f"{self._path()}:{call.rule.name}" + (f"#{number}" if number else "")
        p = float(call.p)
        found = SiteCall(name, call.rule.kind, p, bool(call.training) and p != 0, True, op, place())
        self.found.sites.append(found)
        if own:
            op.site = found

    def _enter(self, module: nn.Module, args: Any) -> None:
        if module in self._paths:
            self._began.append(len(self.found.ops))
            self._stack.append(module)
            self._counts.append({})
            self.found.entered.add(self._paths[module])
            self._explained += self._kinds[module] is not None

    def _leave(self, module: nn.Module, args: Any, output: Any) -> None:
        if module not in self._paths or not self._stack or self._stack[-1] is not module:
            return
        self._stack.pop()
        self._counts.pop()
        began = self._began.pop()
        kind = self._kinds[module]
        if kind is None:
            return
        self._explained -= 1
        tensors = [x for x in pytree.tree_leaves(output) if isinstance(x, Tensor) and id(x) in self._ops]
        if tensors:
            p = float(getattr(module, rate_attribute(module) or "p", float("nan")))
            op = self._ops[id(tensors[0])]
            found = SiteCall(self._paths[module], kind, p, module.training and p != 0, False, op, place())
            self.found.sites.append(found)
            if op.index >= began:
                op.site = found

    def _drew(self, operator: str) -> None:
        if not self._explained and not self._calling:
            self.found.opaque.append(Opaque(operator, self._path(), place()))

    def _path(self) -> str:
        return self._paths[self._stack[-1]] if self._stack else ""


class _Randomness(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Tells of operations that draw random numbers, whoever calls them."""

    def __init__(self, tell: Callable[[str], None]) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._tell = tell

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if torch.Tag.nondeterministic_seeded in func.tags and _acts(func, args, kwargs or {}):
            self._tell(str(func))
        return func(*args, **kwargs or {})


def _acts(func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> bool:
    """Fused operations that could drop are called in evaluation, too: with a rate or a flag that keeps them from it."""
    values = {argument.name: value for argument, value in zip(func._schema.arguments, args, strict=False)} | kwargs
    rate = values.get("dropout_p", values.get("dropout", values.get("p", 1.0)))
    return bool(values.get("train", True)) and rate != 0


def place() -> Place:
    """The nearest line of user code: outside torch, dropkit and Python's own library."""
    frame: FrameType | None = sys._getframe(1)
    while frame is not None:
        file = frame.f_code.co_filename
        if not file.startswith((*_LIBRARIES, "<frozen")) and os.path.basename(file) != "contextlib.py":
            return Place(None, file, frame.f_lineno, linecache.getline(file, frame.f_lineno).strip())
        frame = frame.f_back
    return Place()


def _named(function: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> dict[str, Any]:
    try:
        bound = inspect.signature(function).bind_partial(*args, **kwargs)
    except (TypeError, ValueError):
        return dict(kwargs)
    return dict(bound.arguments)


def _version(x: Tensor) -> int:
    return 0 if x.is_inference() else int(x._version)
