"""The ledger keeps whole runs, for one experiment, for one writer."""

from dataclasses import replace
from pathlib import Path

import pytest

from dropkit.core.errors import InputError
from dropkit.study.folder import check_folder
from dropkit.study.ledger import NAME, Ledger, LedgerError, read_failures, read_progress
from dropkit.study.result import Arm, Bin, Run, SiteRate

ARM = Arm("intended", "the intended rates", [SiteRate("1", "Dropout", 0.5)])
PLAN = {"intended": [0, 1]}


def make_run(seed=0, metric=0.1 + 0.2):
    bins = [Bin(0.0, 1.0, 3, 0.9, 1 / 3)]
    return Run("intended", seed, "finished", 0.1, 0.9, 0.05, 0.95, 0.2, 0.9, 0.21, metric, 0.05, 0.2, 0.1, 0.01, bins,
               {"train_loss": [0.3, None, 0.1]})


def test_runs_come_back_to_the_bit(tmp_path):
    with Ledger(tmp_path / "new" / "out", "h", "digits", PLAN) as ledger:
        ledger.add(ARM, make_run(), 1.5)
    with Ledger(tmp_path / "new" / "out", "h", "digits", PLAN) as ledger:
        assert ledger.finished([ARM], [0, 1]) == {("intended", 0): (make_run(), 1.5)}


def test_runs_of_other_rates_and_seeds_do_not_count(tmp_path):
    changed = Arm("intended", "other rates", [SiteRate("1", "Dropout", 0.4)])
    with Ledger(tmp_path, "h", "digits", PLAN) as ledger:
        ledger.add(ARM, make_run(), 1.0)
        assert ledger.finished([changed], [0]) == {}
        assert ledger.finished([ARM], [1]) == {}


def test_another_experiment_is_refused_and_the_first_one_kept(tmp_path):
    with Ledger(tmp_path, "h", "digits", PLAN) as ledger:
        ledger.add(ARM, make_run(), 1.0)
    with pytest.raises(InputError, match="holds 'digits' with other data"):
        Ledger(tmp_path, "other", "wine", PLAN)
    with Ledger(tmp_path, "h", "digits", PLAN) as ledger:
        assert len(ledger.finished([ARM], [0])) == 1


def test_a_second_writer_is_refused(tmp_path):
    with Ledger(tmp_path, "h", "digits", PLAN), pytest.raises(InputError, match="one study at a time"):
        Ledger(tmp_path, "h", "digits", PLAN)


def test_places_that_hold_something_else_are_refused(tmp_path):
    (tmp_path / "thesis.txt").write_text("years of work")
    with pytest.raises(InputError, match="new, empty, or holds this study"):
        Ledger(tmp_path, "h", "digits", PLAN)
    with pytest.raises(InputError, match="the output is a folder"):
        check_folder(tmp_path / "thesis.txt", NAME, "study")
    assert [file.name for file in tmp_path.iterdir()] == ["thesis.txt"]


@pytest.mark.parametrize("place", ["/dev/null/x", "/proc/x", "x" * 300])
def test_a_place_that_cannot_be_made_is_refused(place, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError, match=r"can be made and written to.*Choose another place with --out"):
        Ledger(Path(place), "h", "digits", PLAN)


def test_a_damaged_ledger_is_named(tmp_path):
    (tmp_path / NAME).write_text("this is not a database, however long one looks at it" * 50)
    with pytest.raises(InputError, match="SQLite file that dropkit wrote"):
        Ledger(tmp_path, "h", "digits", PLAN)
    with pytest.raises(InputError, match="SQLite file that dropkit wrote"):
        read_progress(tmp_path)


def test_progress_can_be_read_while_the_ledger_is_held(tmp_path):
    with Ledger(tmp_path, "h", "digits", PLAN) as ledger:
        ledger.add(ARM, make_run(1), 1.0)
        assert read_progress(tmp_path) == ("digits", PLAN, {("intended", 1)})


def test_a_failure_is_noted_until_the_run_finishes(tmp_path):
    with Ledger(tmp_path, "h", "digits", PLAN) as ledger:
        ledger.fail(ARM, 0, "MemoryError: first")
        ledger.fail(ARM, 0, "MemoryError: the moon is full")
        ledger.fail(ARM, 1, "ValueError: odd")
        assert read_failures(tmp_path) == {("intended", 0): "MemoryError: the moon is full", ("intended", 1): "ValueError: odd"}
        ledger.add(ARM, make_run(), 1.0)
    assert read_failures(tmp_path) == {("intended", 1): "ValueError: odd"}


def test_a_full_disk_is_told_and_the_runs_before_are_safe(tmp_path):
    with Ledger(tmp_path, "h", "digits", PLAN) as ledger:
        ledger.add(ARM, make_run(0), 1.0)
        pages = ledger._db.execute("PRAGMA page_count").fetchone()[0]
        ledger._db.execute(f"PRAGMA max_page_count = {pages}")  # SQLite then says what it says of a full disk
        large = replace(make_run(1), history={"train_loss": [0.1] * 10_000})
        with pytest.raises(LedgerError, match=r"database or disk is full\. The runs in it are safe; make room"):
            ledger.add(ARM, large, 1.0)
    with Ledger(tmp_path, "h", "digits", PLAN) as ledger:
        assert ledger.finished([ARM], [0, 1]) == {("intended", 0): (make_run(0), 1.0)}
        ledger.add(ARM, large, 1.0)
        assert len(ledger.finished([ARM], [0, 1])) == 2
