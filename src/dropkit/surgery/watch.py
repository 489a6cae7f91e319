"""Watch a model's forward: which module runs innermost, and which functions that drop it calls."""

from __future__ import annotations

import functools
import threading
from collections.abc import Callable
from contextlib import AbstractContextManager, ExitStack, nullcontext
from typing import Any, Self

import torch
from torch import nn

from dropkit.core.intercept import THREAD
from dropkit.surgery.functional import Call, read
from dropkit.surgery.mode import DropMode
from dropkit.surgery.modules import is_compiled, kind_of, modules_of, walk


class Frame:
    """One running forward.

    Args:
        path: the module's.
        module: whose forward runs.
    """

    def __init__(self, path: str, module: nn.Module) -> None:
        self.path, self.module = path, module
        self.counts: dict[str, int] = {}

    def next_key(self, function: str) -> str:
        """The name of the next call of a function in this forward.

        Args:
            function: its name.

        Example:
            >>> frame = Frame("head", nn.Identity())
            >>> frame.next_key("dropout"), frame.next_key("dropout")
            ('dropout', 'dropout#1')
        """
        count = self.counts.get(function, 0)
        self.counts[function] = count + 1
        return f"{function}#{count}" if count else function


Notice = Callable[[Frame, str, Call, float], bool]


class Watch:
    """Sees every call of a function that drops in the forwards of a model's modules, inside a ``with`` block.

    Every module's ``forward`` is wrapped and given back afterwards. Compiled parts run uncompiled meanwhile, and
    ``DataParallel`` on one device.

    Args:
        model: any module.
        notice: gets the innermost module's frame, the call's name, empty inside a module that is a site itself, the call, and
            the rate at which it will run; says whether dropout is left out.
        around: entered around the outermost forward of each thread.

    Example:
        >>> from torch.nn import functional as F
        >>> class Head(nn.Module):
        ...     def forward(self, x):
        ...         return F.dropout(x, 0.2)
        >>> import torch
        >>> with Watch(nn.Sequential(Head()), lambda frame, key, call, p: print(frame.path, key, p) or True) as watch:
        ...     y = watch.model(torch.ones(3))
        0 dropout 0.2
    """

    def __init__(self, model: nn.Module, notice: Notice,
                 around: Callable[[], AbstractContextManager[Any]] = nullcontext) -> None:
        self.model, self._notice, self._around = model, notice, around
        self._frames = threading.local()
        self._undo = ExitStack()
        self._on = False

    def __enter__(self) -> Self:
        with ExitStack() as undo:
            for part in self.model.modules():
                self._unwrapped(part, undo)
            for path, module in walk(self.model):
                if not isinstance(module, torch.jit.ScriptModule):
                    _set(module, "forward", _Watched(self, path, module, vars(module).get("forward")), undo)
            self._undo, self._on = undo.pop_all(), True
        return self

    def __exit__(self, *exception: object) -> None:
        self._on = False
        self._undo.close()

    def __deepcopy__(self, memo: Any) -> Watch:  # a copy of the model that was made inside the block ends with it
        return self

    def __reduce__(self) -> tuple[Any, ...]:  # and a pickled one is not watched
        return Watch, (nn.Identity(), never)

    def handle(self, function: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Answer a call as an `Interceptor` does.

        Args:
            function: what was called.
            args: its positional arguments.
            kwargs: the others.
        """
        call = read(function, args, kwargs)
        THREAD.interceptor = None
        try:
            return getattr(function, "__wrapped__", function)(*args, **kwargs) if call is None else self.answer(call)
        finally:
            THREAD.interceptor = self

    def answer(self, call: Call) -> Any:
        """Answer a call that drops: as it is written, or without dropout if one of the thread's watchers wants it so.

        Args:
            call: the call.
        """
        return call.without_dropout() if tell(call, call.p) else call.as_written()

    def innermost(self) -> Frame | None:
        """The frame of the forward that runs in this thread, or None."""
        stack = self._stack()
        return stack[-1] if stack else None

    def notices(self, call: Call, p: float) -> bool:
        """Tell of a call; see `tell`.

        Args:
            call: the call.
            p: the rate at which it will run.
        """
        frame: Frame = self._stack()[-1]
        key = "" if kind_of(frame.module) is not None else frame.next_key(call.rule.name)
        return self._notice(frame, key, call, p)

    def run(self, path: str, module: nn.Module, forward: Callable[..., Any], args: Any, kwargs: Any) -> Any:
        """Run a module's forward, watched.

        Args:
            path: the module's.
            module: whose forward it is.
            forward: what to call.
            args: its positional arguments.
            kwargs: the others.
        """
        if not self._on:
            return forward(*args, **kwargs)
        stack, outer = self._stack(), (THREAD.interceptor, THREAD.watchers)
        outermost = not stack
        stack.append(Frame(path, module))
        try:
            THREAD.interceptor = self
            if not outermost:
                return forward(*args, **kwargs)
            THREAD.watchers = (*outer[1], self)
            with self._around(), DropMode(self):
                return forward(*args, **kwargs)
        finally:
            stack.pop()
            THREAD.interceptor, THREAD.watchers = outer

    def _stack(self) -> list[Frame]:
        if not hasattr(self._frames, "stack"):
            self._frames.stack = []
        stack: list[Frame] = self._frames.stack
        return stack

    @staticmethod
    def _unwrapped(part: nn.Module, undo: ExitStack) -> None:
        """Keep wrappers from running anything but the modules themselves: compiled code, or replicas on several devices."""
        if is_compiled(part):
            _set(part, "forward", part.get_submodule("_orig_mod"), undo)
        if vars(part).get("_compiled_call_impl") is not None:  # of model.compile()
            _set(part, "_compiled_call_impl", None, undo)
        if isinstance(part, nn.DataParallel):
            _set(part, "device_ids", part.device_ids[:1], undo)


def tell(call: Call, p: float) -> bool:
    """Tell all watchers of the thread of a call, and return whether one of them wants it to run without dropout.

    Args:
        call: the call.
        p: the rate at which it will run.

    Example:
        >>> import torch
        >>> tell(read(torch.dropout, (torch.ones(2), 0.5, True), {}), 0.5)
        False
    """
    return any([watch.notices(call, p) for watch in THREAD.watchers])  # a list: every one is told


class _Watched:
    """A module's forward while it is watched."""

    def __init__(self, watch: Watch, path: str, module: nn.Module, own: Callable[..., Any] | None) -> None:
        self.watch, self.path, self.module, self.own = watch, path, module, own
        functools.update_wrapper(self, own or type(module).forward.__get__(module), updated=())  # some read its signature

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        forward = self.own or type(self.module).forward.__get__(self.module)
        return self.watch.run(self.path, self.module, forward, args, kwargs)


def is_watched(model: nn.Module) -> bool:
    """Tell whether a model is inside a `Watch`, as within ``dk.disabled``.

    Args:
        model: any module.

    Example:
        >>> with Watch(nn.ReLU(), never) as watch:
        ...     is_watched(watch.model)
        True
    """
    return any(isinstance(vars(module).get("forward"), _Watched) for module in modules_of(model))


def _set(module: nn.Module, name: str, value: Any, undo: ExitStack) -> None:
    attributes = vars(module)
    undo.callback(attributes.__setitem__, name, attributes[name]) if name in attributes else undo.callback(
        attributes.pop, name, None)
    attributes[name] = value


def never(frame: Frame, key: str, call: Call, p: float) -> bool:
    """A notice that leaves every call as it is.

    Args:
        frame: the innermost module's.
        key: the call's name.
        call: the call.
        p: its rate.
    """
    return False
