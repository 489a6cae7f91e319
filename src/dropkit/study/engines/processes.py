"""Runs in worker processes of this machine, each in a pool of its own, so that one that dies takes no other with it."""

from __future__ import annotations

import gc
from concurrent.futures import Future
from concurrent.futures.process import BrokenProcessPool

from loky.process_executor import ProcessPoolExecutor

from dropkit.study.checkpoint import Place
from dropkit.study.worker import Outcome, Unit, begin, execute


class Processes:
    """An engine of ``slots`` worker processes; each lives until the end, or until it dies and is replaced.

    Args:
        payload: the experiment, packed.
        place: where progress and checkpoints go, and what the user's code prints.
        slots: how many.
        ahead: how many begin at once, to be ready when there is work; the others begin with their first.
    """

    lost: tuple[type[BaseException], ...] = (BrokenProcessPool,)

    def __init__(self, payload: bytes, place: Place, slots: int, ahead: int = 0) -> None:
        self.slots = slots
        self._payload, self._place = payload, place
        self._pools: list[ProcessPoolExecutor | None] = [None] * slots
        self._last: list[Future[Outcome] | None] = [None] * slots
        for slot in range(ahead):
            self._pool(slot)

    def submit(self, unit: Unit) -> Future[Outcome]:
        """Hand runs to a process that has nothing to do."""
        slot = next(index for index, last in enumerate(self._last) if last is None or last.done())
        try:
            future = self._hand(slot, unit)
        except self.lost:  # the process died with its last runs, or while it had none
            self._end(slot)
            future = self._hand(slot, unit)
        self._last[slot] = future
        return future

    def close(self) -> None:
        """Kill every process."""
        for slot in range(self.slots):
            self._end(slot)

    def _hand(self, slot: int, unit: Unit) -> Future[Outcome]:
        future: Future[Outcome] = self._pool(slot).submit(execute, None, self._place, unit)
        return future

    def _pool(self, slot: int) -> ProcessPoolExecutor:
        pool = self._pools[slot]
        if pool is None:
            log = str(self._place.folder / "worker.log")
            pool = self._pools[slot] = ProcessPoolExecutor(max_workers=1, initializer=gc.disable)
            pool.submit(begin, log, self._payload)  # as initial arguments they would be waited for until all is imported
        return pool

    def _end(self, slot: int) -> None:
        pool, self._pools[slot] = self._pools[slot], None
        if pool is not None:
            pool.shutdown(wait=True, kill_workers=True)
