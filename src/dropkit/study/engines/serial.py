"""Runs in this process, one after the other: breakpoints work, and a worker that misbehaves can be looked at."""

from __future__ import annotations

from concurrent.futures import Future

from dropkit.study.aside import as_in_a_worker
from dropkit.study.checkpoint import Place
from dropkit.study.worker import Outcome, Unit, execute


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
        """Train the runs and return them."""
        future: Future[Outcome] = Future()
        with as_in_a_worker():
            future.set_result(execute(self._payload, self._place, unit))
        return future

    def close(self) -> None:
        """Do nothing: there is nothing to end."""
