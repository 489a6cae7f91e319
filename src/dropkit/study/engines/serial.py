"""Runs in this process, one after the other: breakpoints work, and a worker that misbehaves can be looked at."""

from __future__ import annotations

import _thread
import signal
import threading
from collections.abc import Iterator
from concurrent.futures import Future
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from dropkit.study.aside import as_in_a_worker
from dropkit.study.checkpoint import Place
from dropkit.study.worker import Outcome, Unit, execute

_PATIENCE = 3.0  # seconds after Ctrl-C that a run has for a last checkpoint, as in the other engines


class Serial:
    """An engine that has finished a run when `submit` returns.

    Args:
        payload: the experiment, packed.
        place: where progress and checkpoints go.
    """

    slots = 1
    lost: tuple[type[BaseException], ...] = ()

    def __init__(self, payload: bytes, place: Place) -> None:
        self._payload, self._place = payload, place

    def submit(self, unit: Unit) -> Future[Outcome]:
        """Train the runs and return them.

        Raises:
            KeyboardInterrupt: after Ctrl-C, once the run has written a checkpoint, or 3 seconds later where it writes none.
        """
        future: Future[Outcome] = Future()
        with as_in_a_worker(), _stopped_by_a_file(self._place.stop):
            future.set_result(execute(self._payload, self._place, unit))
        return future

    def close(self) -> None:
        """Do nothing: there is nothing to end."""


@contextmanager
def _stopped_by_a_file(file: Path) -> Iterator[None]:
    """Let signals that would raise KeyboardInterrupt make ``file``, and raise at the end; a second one raises at once."""
    mine = threading.current_thread() is threading.main_thread()  # no other thread may have handlers
    known = [number for number in (signal.SIGINT, signal.SIGTERM) if signal.getsignal(number) is signal.default_int_handler]
    timers: list[threading.Timer] = []

    def ask(*_: Any) -> None:
        restore()
        timers.append(threading.Timer(_PATIENCE, _thread.interrupt_main))
        timers[0].start()
        with suppress(OSError):  # on a full disk there is no checkpoint to wait for either
            file.touch()

    def restore() -> None:
        for number in known if mine else ():
            signal.signal(number, signal.default_int_handler)

    for number in known if mine else ():
        signal.signal(number, ask)
    try:
        yield
    finally:
        restore()
        for timer in timers:
            timer.cancel()
    if timers:
        raise KeyboardInterrupt
