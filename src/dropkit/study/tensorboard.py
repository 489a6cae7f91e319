"""A study's runs as scalars for TensorBoard."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

from dropkit.core.errors import InputError, MissingExtraError
from dropkit.study.result import Run


class Board:
    """Writes each run into a folder of its own, ``<arm>-seed-<seed>``, as TensorBoard reads it.

    Args:
        folder: made if it is missing.

    Raises:
        MissingExtraError: the extra ``tensorboard`` is not installed.
    """

    def __init__(self, folder: Path) -> None:
        try:
            from torch.utils.tensorboard import SummaryWriter
        except ImportError as error:
            raise MissingExtraError("tensorboard", "tensorboard") from error
        self.folder, self._writer = folder, SummaryWriter

    def write(self, run: Run) -> None:
        """Write a finished run's history, instruments and scores; what was there of it goes."""
        place = self.place(run)
        shutil.rmtree(place, ignore_errors=True)
        writer = self._writer(str(place))
        for tag, value, epoch in scalars(run):
            writer.add_scalar(tag, value, epoch)
        writer.close()

    def catch_up(self, runs: Iterable[Run]) -> None:
        """Write those of the runs that are not there yet."""
        for run in runs:
            if not self.place(run).exists():
                self.write(run)

    def place(self, run: Run) -> Path:
        """Return the folder of a run."""
        return self.folder / f"{quote(run.arm, safe='')}-seed-{run.seed}"


def board_in(wanted: str | os.PathLike[str] | bool, out: Path) -> Board | None:
    """Return the board that a study was asked for, None for False.

    Args:
        wanted: a folder, or True for ``tensorboard`` in the study's own.
        out: the study's folder.

    Raises:
        InputError: the folder is a file.
        MissingExtraError: the extra ``tensorboard`` is not installed.
    """
    if wanted is False or wanted is None:
        return None
    if wanted is not True and not isinstance(wanted, str | os.PathLike):
        raise InputError("tensorboard is True, False or the path of a folder", got=wanted, fix="Pass True")
    folder = out / "tensorboard" if wanted is True else Path(wanted)
    if folder.exists() and not folder.is_dir():
        raise InputError("tensorboard is a folder, or True for one in the study's own", got=str(folder),
                         fix="Choose another folder")
    return Board(folder)


def scalars(run: Run) -> Iterator[tuple[str, float, int]]:
    """Yield tag, value and epoch of everything that a run has measured; values that are not finite are left out."""
    for name, values in run.history.items():
        yield from _series(f"history/{name}", values, range(1, len(values) + 1))
    epochs = run.instruments.get("epoch", [])
    for name, found in run.instruments.items():
        if isinstance(found, dict):
            for layer, values in found.items():
                yield from _series(f"{name}/{layer}", values, epochs)
        elif isinstance(found, list) and name != "epoch":
            yield from _series(f"instruments/{name}", found, epochs)
        elif isinstance(found, float):
            yield f"instruments/{name}", found, 1
    ends = max(1, len(run.history.get("train_loss", [])))
    for name in ("test_loss", "test_metric", "gap", "nll", "brier", "ece"):
        yield from _series(f"score/{name}", [getattr(run, name)], [ends])


def _series(tag: str, values: Any, epochs: Iterable[int]) -> Iterator[tuple[str, float, int]]:
    return ((tag, value, epoch) for value, epoch in zip(values, epochs, strict=False) if value is not None)
