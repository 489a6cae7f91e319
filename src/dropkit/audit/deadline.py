"""An end for code that may run for ever, whatever it is doing: in any thread, without a signal."""

from __future__ import annotations

import ctypes
import threading
from collections.abc import Iterator
from contextlib import contextmanager

from dropkit.core.errors import FAILURES

_AGAIN = 1.0  # seconds from one interruption to the next: code that is interrupted in a callback goes on


class Unfinished(BaseException):
    """Ends what does not end by itself. Not an `Exception`: models catch those."""

    def __str__(self) -> str:
        return " ".join(map(str, self.args)) or "it runs for too long"


ENDED: tuple[type[BaseException], ...] = (*FAILURES, Unfinished)  # what a run of a user's code may end with


@contextmanager
def ended_after(seconds: float, grace: float = 0.0) -> Iterator[None]:
    """End the ``with`` after a time, also a loop of Python code alone; a call into C is ended where it returns.

    Another thread raises the exception in this one, so that the process' signal handlers and timers stay as they are.

    Args:
        seconds: until the end.
        grace: more seconds, for what looks at the time itself and ends in good order.

    Raises:
        Unfinished: the time is over.

    Example:
        >>> with ended_after(60):
        ...     sum(range(10))
        45
    """
    watch = _Watch(threading.get_ident(), seconds + grace)
    try:
        try:
            watch.start()
            yield
        finally:
            watch.stop()
    except Unfinished as error:
        watch.stop()  # the exception may have come just before the other one
        raise error if error.args else Unfinished(f"it runs for longer than {seconds:g} s") from None


class _Watch(threading.Thread):
    """Interrupts a thread after a time, and again until it is stopped."""

    def __init__(self, watched: int, seconds: float) -> None:
        super().__init__(name="dropkit-deadline", daemon=True)
        self.watched, self.seconds = watched, seconds
        self.over, self.lock = threading.Event(), threading.Lock()

    def run(self) -> None:
        """Wait, and interrupt; see `threading.Thread.run`."""
        wait = self.seconds
        while not self.over.wait(wait):
            with self.lock:
                if not self.over.is_set():
                    _raise_in(self.watched, Unfinished)
            wait = _AGAIN

    def stop(self) -> None:
        """Let the thread go on undisturbed: an exception that is on its way is called back."""
        try:
            self._stopped()
        except Unfinished:  # it arrived just now, and the next one would a second later
            self._stopped()

    def _stopped(self) -> None:
        self.over.set()
        with self.lock:
            _raise_in(self.watched, None)


def _raise_in(thread: int, error: type[BaseException] | None) -> None:
    """Have an exception raised in a thread at its next instruction, or call back one that is to be raised."""
    ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(thread), None if error is None else ctypes.py_object(error))
