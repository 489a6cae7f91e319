"""What the runner does with runs that finish, fail, or are lost, on an engine that does as it is told."""

import signal
from concurrent.futures import Future
from dataclasses import replace

import pytest

from dropkit.core.errors import DropkitError
from dropkit.study import runner
from dropkit.study.ledger import LedgerError
from dropkit.study.result import Arm, Run, SiteRate
from dropkit.study.runner import Progress, RunError, clear, run_tasks
from dropkit.study.worker import Failure, Outcome

ARMS = [Arm(name, name, [SiteRate("1", "Dropout", p)]) for name, p in (("none", 0.0), ("intended", 0.5))]
RUN = Run("none", 0, "finished", 0.1, 0.9, 0.05, 0.95, 0.2, 0.9, 0.21, 0.3, 0.05, 0.2, 0.1, 0.01, None, {})


class Lost(Exception):
    pass


class Script:
    """An engine that answers each task by the next entry of its list, and then by finishing it."""

    lost = (Lost,)

    def __init__(self, answers=None, slots=2):
        self.answers, self.slots = answers or {}, slots
        self.begun, self.closed = [], False

    def submit(self, unit):
        self.begun.append(unit[0] if len(unit) == 1 else unit)
        future, queue = Future(), self.answers.get(self.begun[-1], [])
        answer = queue.pop(0) if queue else None
        if answer == "never":
            return future
        if isinstance(answer, BaseException):
            future.set_exception(answer)
        else:
            runs = [replace(RUN, arm=ARMS[arm].name, seed=seed) for arm, seed in unit]
            found = Failure(answer, "its trace\n") if answer else runs
            future.set_result(Outcome(found, 1.0))
        return future

    def close(self):
        self.closed = True


class Book:
    def __init__(self):
        self.kept, self.failed = [], []

    def keep(self, run, seconds):
        self.kept.append((run.arm, run.seed))

    def fail(self, arm, seed, error):
        self.failed.append((arm.name, seed, error))


class Silent:
    def update(self, progress):
        pass


class Pressed(Book):
    """Somebody presses Ctrl-C while the first run is being written down."""

    def keep(self, run, seconds):
        signal.raise_signal(signal.SIGINT)
        super().keep(run, seconds)


class Last:
    def update(self, progress):
        self.finished = set(progress.finished)


class Unheard(Book):
    """Somebody presses Ctrl-C while a destructor is at work, which Python lets raise nothing."""

    def keep(self, run, seconds):
        InDestructor()
        super().keep(run, seconds)


class InDestructor:
    def __del__(self):
        signal.raise_signal(signal.SIGINT)


@pytest.mark.parametrize("book", [Pressed(), Unheard()], ids=["keeping", "destructor"])
def test_what_is_shown_after_ctrl_c_is_what_is_kept(book, tmp_path):
    observer, progress = Last(), Progress(ARMS, [0, 1], 4, 2)
    before = signal.getsignal(signal.SIGINT)
    clear(tmp_path)
    with pytest.raises(KeyboardInterrupt):
        run_tasks([((0, 0),), ((1, 0),), ((0, 1),)], Script({(1, 0): ["never"]}), tmp_path, progress, observer, book)
    assert observer.finished == set(book.kept) == {("none", 0)}
    assert signal.getsignal(signal.SIGINT) is before


def run(folder, engine, seeds=3, observer=None, book=None, tasks=None):
    progress, book = Progress(ARMS, list(range(seeds)), 4, 2), book or Book()
    clear(folder)
    tasks = tasks or [((arm, seed),) for seed in range(seeds) for arm in range(len(ARMS))]
    try:
        run_tasks(tasks, engine, folder, progress, observer or Silent(), book)
        return progress, book, None
    except (DropkitError, KeyboardInterrupt) as error:
        return progress, book, error
    finally:
        assert engine.closed
        assert list((folder / "progress").iterdir()) == []


EVERY = {(arm.name, seed) for seed in range(3) for arm in ARMS}


def test_every_run_is_kept_once(tmp_path):
    progress, book, error = run(tmp_path, Script())
    assert error is None
    assert len(book.kept) == 6
    assert set(book.kept) == EVERY == set(progress.finished)
    assert progress.share == 1
    assert not (tmp_path / "worker.log").exists()


BATCHES = [((0, 0), (1, 0), (0, 1), (1, 1)), ((0, 2), (1, 2))]


def test_a_batch_is_kept_run_by_run_and_finished_ones_not_again(tmp_path):
    _, book, error = run(tmp_path, Script(), tasks=BATCHES)
    assert error is None
    assert sorted(book.kept) == sorted(EVERY)
    clear(tmp_path)
    progress, book = Progress(ARMS, [0, 1, 2], 4, 2, finished={("none", 0): RUN}), Book()
    run_tasks(BATCHES, Script(), tmp_path, progress, Silent(), book)
    assert sorted(book.kept) == sorted(EVERY - {("none", 0)})


def test_runs_of_a_batch_that_fails_are_trained_one_by_one(tmp_path):
    engine = Script({BATCHES[0]: ["ValueError: odd"], (1, 0): ["ValueError: odd"]})
    progress, book, error = run(tmp_path, engine, tasks=BATCHES)
    assert "intended, seed 0 failed: ValueError: odd" in str(error)
    assert set(book.kept) == EVERY - {("intended", 0)}
    assert progress.notes == [
        "the batch of none + intended, seeds 0, 1, failed (ValueError: odd); its runs are trained one by one"]


def test_a_worker_that_goes_with_ctrl_c_is_not_said_to_be_tried_again(tmp_path):
    """As long as it imports, a worker is not yet deaf to the signal that its group gets."""
    class Struck(Script):
        def submit(self, unit):
            signal.raise_signal(signal.SIGINT)
            return super().submit(unit)

    progress = Progress(ARMS, [0, 1, 2], 4, 2)
    clear(tmp_path)
    with pytest.raises(KeyboardInterrupt):
        run_tasks([((0, 0),)], Struck({(0, 0): [Lost()]}), tmp_path, progress, Silent(), Book())
    assert progress.notes == []
    assert progress.failed == {}


def test_a_lost_run_is_tried_again_twice(tmp_path):
    engine = Script({(0, 1): [Lost(), Lost()]})
    progress, book, error = run(tmp_path, engine)
    assert error is None
    assert sorted(book.kept) == sorted(EVERY)
    assert engine.begun.count((0, 1)) == 3
    assert progress.notes == ["the worker of none, seed 1, died; the run is tried again"]


def test_a_run_lost_three_times_has_failed_and_the_others_are_finished(tmp_path):
    engine = Script({(0, 1): [Lost(), Lost(), Lost()]})
    progress, book, error = run(tmp_path, engine)
    assert isinstance(error, RunError)
    assert "none, seed 1 failed: its worker died 3 times (out of memory, or killed). 5 runs are finished and kept" in str(error)
    assert set(book.kept) == EVERY - {("none", 1)}
    assert set(progress.failed) == {("none", 1)}
    assert progress.share == 1


def test_a_run_that_raises_is_not_tried_again_and_the_others_are_finished(tmp_path):
    engine = Script({(0, 0): ["MemoryError: full"], (1, 2): ["ValueError: odd"]})
    _, book, error = run(tmp_path, engine)
    assert "none, seed 0 failed: MemoryError: full; intended, seed 2 failed: ValueError: odd." in str(error)
    assert len(engine.begun) == 6
    assert set(book.kept) == EVERY - {("none", 0), ("intended", 2)}
    assert book.failed == [("none", 0, "MemoryError: full"), ("intended", 2, "ValueError: odd")]
    assert (tmp_path / "worker.log").read_text().count("its trace") == 2


def test_three_failures_alike_end_the_study(tmp_path):
    engine = Script({(arm, seed): [f"ValueError: row {seed} is odd"] for seed in range(9) for arm in range(2)}, slots=1)
    _, book, error = run(tmp_path, engine, seeds=9)
    assert len(engine.begun) == len(book.failed) == 3
    assert "15 runs were not begun or not finished, because 3 failed alike" in str(error)


def test_many_failures_are_counted_rather_than_listed(tmp_path):
    kinds = [f"Error{letter}: x" for letter in "abcdef"]
    engine = Script({task: [kind] for task, kind in zip([(a, s) for s in range(3) for a in range(2)], kinds, strict=True)})
    error = str(run(tmp_path, engine)[2])
    assert error.count("failed:") == 3
    assert "and 3 more" in error


class Interrupts:
    """Presses Ctrl-C at the first look, and notes whether the runs in hand are then asked to stop."""

    def __init__(self, engine, folder):
        self.engine, self.stop = engine, folder / "progress" / "stop"
        self.seen = False
        engine.close = self.look

    def look(self):
        self.seen = self.stop.exists()
        self.engine.closed = True

    def update(self, progress):
        raise KeyboardInterrupt


def test_ctrl_c_asks_runs_to_stop_and_keeps_what_has_finished(tmp_path, monkeypatch):
    monkeypatch.setattr(runner, "PATIENCE", 0.05)
    engine = Script({(1, 0): ["never"]})
    watcher = Interrupts(engine, tmp_path)
    _, book, error = run(tmp_path, engine, observer=watcher)
    assert isinstance(error, KeyboardInterrupt)
    assert watcher.seen
    assert book.kept == [("none", 0)]


def test_a_full_ledger_ends_the_study_at_once(tmp_path):
    class Full(Book):
        def keep(self, run, seconds):
            raise LedgerError("the ledger could not be written: disk full")

    engine = Script()
    _, _, error = run(tmp_path, engine, book=Full())
    assert isinstance(error, LedgerError)
    assert len(engine.begun) == 2


def test_what_a_killed_study_left_half_written_is_cleared(tmp_path):
    clear(tmp_path)
    for name in ("progress/0-0.jsonl", "progress/stop", "checkpoints/.a.pt.x.part", "checkpoints/a.pt"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    clear(tmp_path)
    assert [file.name for file in tmp_path.rglob("*.*")] == ["a.pt"]
    (tmp_path / "checkpoints" / "a.pt").unlink()
    clear(tmp_path)
    assert not (tmp_path / "checkpoints").exists()
