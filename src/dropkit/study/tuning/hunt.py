"""Keep workers busy with trials: seeds of one trial first, the next trial where a worker would idle."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import FIRST_COMPLETED, Future, wait
from concurrent.futures.process import BrokenProcessPool

from dropkit.study.runner import GLANCE, RunError
from dropkit.study.tuning.record import Trial
from dropkit.study.tuning.search import Asked, Search
from dropkit.study.tuning.worker import Outcome
from dropkit.study.worker import Failure

Submit = Callable[[Mapping[str, float], int], "Future[Outcome | Failure]"]  # (rate of each site, seed)
ALIKE = 3
"""So many trials in a row that raise the same error end a tuning."""


class Hunt:
    """Trials in hand and the runs that are under way.

    Args:
        search: asks and is told.
        submit: begins a run and returns its future.
        jobs: runs under way at a time, at least 1. With one, everything repeats to the bit.
    """

    def __init__(self, search: Search, submit: Submit, jobs: int) -> None:
        self._search, self._submit, self._jobs = search, submit, jobs
        self._open: dict[int, Asked] = {}
        self._todo: list[tuple[int, int]] = []  # (index of the trial, seed), in order
        self._running: dict[Future[Outcome | Failure], tuple[int, int]] = {}
        self._errors: list[str] = []

    def go(self, trials: int, due: Callable[[], None] = lambda: None) -> Iterator[Trial | str]:
        """Work until ``trials`` trials are done; yield each as it finishes, or the error of one that raised.

        Args:
            trials: how many, with those that had been finished before.
            due: called several times a second, when all that has ended is written down; may raise, to end the work.

        Raises:
            RunError: three trials in a row raised the same error, or a worker process died.
        """
        while self._fill(trials):
            done, _ = wait(self._running, timeout=GLANCE, return_when=FIRST_COMPLETED)
            for future in sorted(done, key=self._running.__getitem__):
                index, seed = self._running.pop(future)
                if index in self._open:  # else it was pruned or has failed meanwhile
                    yield from self._take(self._open[index], seed, _result(future))
            due()

    def _fill(self, trials: int) -> bool:
        while len(self._running) < self._jobs:
            if not self._todo:
                asked = self._search.ask(trials)
                if asked is None:
                    break
                self._open[asked.index] = asked
                self._todo = [(asked.index, seed) for seed in self._search.space.seeds]
            index, seed = self._todo.pop(0)
            self._running[self._submit(self._rates(self._open[index]), seed)] = index, seed
        return bool(self._running)

    def _rates(self, asked: Asked) -> dict[str, float]:
        return {site: asked.rates[group.label] for group in self._search.space.groups for site in group.sites}

    def _take(self, asked: Asked, seed: int, found: Outcome | Failure) -> Iterator[Trial | str]:
        if isinstance(found, Failure):
            self._close(asked)
            self._search.fail(asked, found.error)
            self._errors.append(found.error)
            yield found.error
            if len(self._errors) >= ALIKE and len(set(self._errors[-ALIKE:])) == 1:
                raise RunError(f"{ALIKE} trials in a row failed: {found.error}. Finished trials are kept; "
                               "the same command goes on once the cause is mended.")
            return
        asked.diverged += found.diverged
        asked.seconds += found.seconds
        hopeless = self._search.note(asked, seed, found.value)
        if hopeless or len(asked.values) == len(self._search.space.seeds):
            self._close(asked)
            self._errors.clear()
            yield self._search.finish(asked)

    def _close(self, asked: Asked) -> None:
        del self._open[asked.index]
        self._todo = [(index, seed) for index, seed in self._todo if index != asked.index]


def _result(future: Future[Outcome | Failure]) -> Outcome | Failure:
    try:
        return future.result()
    except BrokenProcessPool as error:
        raise RunError("a worker process died (out of memory, or killed). Finished trials are kept; run the same command to "
                       "go on, with fewer --jobs if memory is short.") from error
