"""Runs in this process, one after the other: breakpoints work, and a worker that misbehaves can be looked at."""

from __future__ import annotations

import random
from collections.abc import Iterator
from concurrent.futures import Future
from contextlib import contextmanager

import numpy as np
import torch

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
        with _as_in_a_worker():
            future.set_result(execute(self._payload, self._place, unit))
        return future

    def close(self) -> None:
        """Do nothing: there is nothing to end."""


@contextmanager
def _as_in_a_worker() -> Iterator[None]:
    """One thread, as workers have, so that sums come out alike; the caller's threads and random states come back."""
    threads, python, numpy = torch.get_num_threads(), random.getstate(), np.random.get_state()
    torch.set_num_threads(1)
    try:
        with torch.random.fork_rng(devices=[]):
            yield
    finally:
        torch.set_num_threads(threads)
        random.setstate(python)
        np.random.set_state(numpy)
