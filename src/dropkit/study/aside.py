"""Doing something in this process as a worker would, without a trace."""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch


@contextmanager
def as_in_a_worker() -> Iterator[None]:
    """One thread, as workers have, so that sums come out alike; the caller's threads and random states come back.

    Example:
        >>> before = torch.get_num_threads()
        >>> with as_in_a_worker():
        ...     torch.get_num_threads()
        1
        >>> torch.get_num_threads() == before
        True
    """
    threads, python, numpy = torch.get_num_threads(), random.getstate(), np.random.get_state()
    torch.set_num_threads(1)
    try:
        with torch.random.fork_rng(devices=[]):
            yield
    finally:
        torch.set_num_threads(threads)
        random.setstate(python)
        np.random.set_state(numpy)
