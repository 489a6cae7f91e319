"""Interception: how surgery sees, in one thread, the calls of dropout functions that a forward makes."""

from __future__ import annotations

import functools
import inspect
import threading
from collections.abc import Callable
from typing import Any, ParamSpec, Protocol, TypeVar

_Arguments = ParamSpec("_Arguments")
_Result = TypeVar("_Result")


class Interceptor(Protocol):
    """Gets the calls of dropout functions in place of the functions."""

    def handle(self, function: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Answer a call.

        Args:
            function: the public function that was called.
            args: its positional arguments.
            kwargs: the others.
        """


class _Thread(threading.local):
    """Of each thread: who gets its calls, and who watches them besides, outermost first."""

    interceptor: Interceptor | None = None
    watchers: tuple[Any, ...] = ()


THREAD = _Thread()
"""What holds in the current thread."""


def interceptable(function: Callable[_Arguments, _Result]) -> Callable[_Arguments, _Result]:
    """Let the interceptor of the thread, if there is one, answer the calls of a function.

    Only the public functions are wrapped; the modules call the functions beneath, so that a module is not taken for a call.

    Args:
        function: a function that drops.

    Example:
        >>> interceptable(abs)(-1)
        1
    """
    @functools.wraps(function)
    def call(*args: _Arguments.args, **kwargs: _Arguments.kwargs) -> _Result:
        interceptor = THREAD.interceptor
        if interceptor is None:
            return function(*args, **kwargs)
        answer: _Result = interceptor.handle(call, args, kwargs)
        return answer

    if inspect.isfunction(function):  # where pickle, which looks functions up by name, finds this one
        setattr(function, "public", call)  # noqa: B010
        call.__qualname__ = f"{function.__qualname__}.public"
    return call
