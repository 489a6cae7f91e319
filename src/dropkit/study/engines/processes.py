"""Runs in worker processes of this machine, each in a pool of its own, so that one that dies takes no other with it."""

from __future__ import annotations

from concurrent.futures import Future
from concurrent.futures.process import BrokenProcessPool

from loky.process_executor import ProcessPoolExecutor

from dropkit.study.checkpoint import Place
from dropkit.study.worker import Outcome, Unit, execute, initialise


class Processes:
    """An engine of ``slots`` worker processes; each lives until the end, or until it dies and is replaced.

    Args:
        payload: the experiment, packed.
        place: where progress and checkpoints go, and what the user's code prints.
        slots: how many.
    """

    lost: tuple[type[BaseException], ...] = (BrokenProcessPool,)

    def __init__(self, payload: bytes, place: Place, slots: int) -> None:
        self.slots = slots
        self._payload, self._place = payload, place
        self._pools: list[ProcessPoolExecutor | None] = [None] * slots
        self._last: list[Future[Outcome] | None] = [None] * slots

    def submit(self, unit: Unit) -> Future[Outcome]:
        """Hand runs to a process that has nothing to do."""
        slot = next(index for index, last in enumerate(self._last) if last is None or last.done())
        future: Future[Outcome] = self._pool(slot).submit(execute, None, self._place, unit)
        self._last[slot] = future
        return future

    def close(self) -> None:
        """Kill every process."""
        for pool in self._pools:
            if pool is not None:
                pool.shutdown(wait=True, kill_workers=True)

    def _pool(self, slot: int) -> ProcessPoolExecutor:
        pool, last = self._pools[slot], self._last[slot]
        if pool is not None and last is not None and isinstance(last.exception(), self.lost):
            pool.shutdown(wait=True, kill_workers=True)
            pool = None
        if pool is None:
            pool = ProcessPoolExecutor(max_workers=1, initializer=initialise,
                                       initargs=(self._payload, str(self._place.folder / "worker.log")))
        self._pools[slot] = pool
        return pool
