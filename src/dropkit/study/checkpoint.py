"""Checkpoints within a run: tensors and plain numbers in a file that is whole or not there, and no pickled code."""

from __future__ import annotations

import hashlib
import io
import json
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch

from dropkit.core.errors import DropkitError
from dropkit.core.files import write_atomically
from dropkit.study.ensemble import begin
from dropkit.study.ledger import arm_key
from dropkit.study.prepare import Prepared
from dropkit.study.result import Arm
from dropkit.study.session import Course

EVERY = 5.0
"""Seconds between two checkpoints of a run, unless the study says otherwise."""

_FORMAT = "dropkit checkpoint 1"
_SHARE = 20  # a checkpoint that took a second to write is followed by 20 without one: 5 % of the time at most
_LOOK = 0.2  # seconds between two looks for the sign to stop


class Stopped(DropkitError):
    """The driver asked the run to stop; its state is in a checkpoint."""


@dataclass(frozen=True)
class Place:
    """Where the runs of a study leave their progress and checkpoints.

    ``experiment`` is the experiment's fingerprint and ``data`` its data's, which what a worker reads is held against.
    """

    folder: Path
    experiment: str
    data: str
    every: float = EVERY

    @property
    def stop(self) -> Path:
        """The file whose presence asks every run to stop."""
        return self.folder / "progress" / "stop"

    def checkpoint(self, arm: Arm, seed: int) -> Path:
        """Return the file of a run's checkpoint."""
        key = hashlib.sha256(f"{arm.name} {arm_key(arm)}".encode()).hexdigest()[:16]
        return self.folder / "checkpoints" / f"{key}-{seed}.pt"


@dataclass(frozen=True)
class Mark:
    """The first line of a checkpoint: whose it is, how far the run was, and what the rest must hash to."""

    format: str
    experiment: str
    arm: str
    seed: int
    epoch: int
    step: int
    digest: str


def save(place: Place, session: Course) -> None:
    """Write the checkpoint of a session in place of its last one.

    Raises:
        OSError: the disk is full, or the folder cannot be written; the last checkpoint is then as it was.
    """
    body = io.BytesIO()
    torch.save(session.state(), body)
    mark = Mark(_FORMAT, place.experiment, session.arm.name, session.seed, session.epoch, session.step,
                hashlib.sha256(body.getbuffer()).hexdigest())
    file = place.checkpoint(session.arm, session.seed)
    file.parent.mkdir(exist_ok=True)
    write_atomically(file, json.dumps(asdict(mark)).encode() + b"\n" + body.getvalue())


def load(place: Place, arm: Arm, seed: int) -> dict[str, Any] | None:
    """Return the state in a run's checkpoint, or None where there is none.

    Raises:
        ValueError: the file is damaged, or belongs to another experiment or run.
    """
    try:
        head, _, body = place.checkpoint(arm, seed).read_bytes().partition(b"\n")
    except FileNotFoundError:
        return None
    mark = _mark(head)
    if (mark.experiment, mark.arm, mark.seed) != (place.experiment, arm.name, seed):
        raise ValueError("it belongs to another experiment or run")
    if hashlib.sha256(body).hexdigest() != mark.digest:
        raise ValueError("it is damaged")
    state: dict[str, Any] = torch.load(io.BytesIO(body), weights_only=True)
    return state


def marks(folder: Path) -> list[Mark]:
    """Return the first lines of all sound-looking checkpoints in a study's folder."""
    found = []
    for file in sorted((folder / "checkpoints").glob("*.pt")):
        try:
            with file.open("rb") as lines:
                found.append(_mark(lines.readline(10_000)))
        except (OSError, ValueError):  # just replaced or deleted, or damaged: nothing that can be told
            continue
    return found


def _mark(head: bytes) -> Mark:
    try:
        mark = Mark(**json.loads(head))
    except (ValueError, TypeError) as error:
        raise ValueError("it is damaged") from error
    if mark.format != _FORMAT:
        raise ValueError("another version of dropkit wrote it")
    return mark


class Keeper:
    """Takes up one run where its last checkpoint left it, and leaves others on its way.

    Called after each step and each epoch with the session, it writes a checkpoint when the last is ``place.every`` seconds old,
    and when the driver asks the run to stop.

    Args:
        place: the study's.
    """

    def __init__(self, place: Place) -> None:
        self.place = place
        self.notes: list[str] = []
        self._pause = place.every
        self._saved = self._looked = time.monotonic()

    def begin(self, ready: Prepared, arm: Arm, seed: int) -> Course:
        """Return the run's session, where the last checkpoint left it; at its beginning if there is none that serves."""
        session = begin(ready, arm, seed)
        try:
            state = load(self.place, arm, seed)
            if state is not None:
                session.restore(state)
        except Exception as error:  # whatever a strange file or a user's load_state_dict raises, the run can begin anew
            self._note(f"the checkpoint of {arm.name}, seed {seed}, was not used and the run began anew: {_line(error)}")
            return begin(ready, arm, seed)
        return session

    def __call__(self, session: Course) -> None:
        """Write a checkpoint if one is due.

        Raises:
            Stopped: the driver asked the run to stop.
        """
        now = time.monotonic()
        stop = now - self._looked >= min(_LOOK, self.place.every) and self._stop_asked(now)
        if stop or now - self._saved >= self._pause:
            self._save(session)
        if stop:
            raise Stopped(f"{session.arm.name}, seed {session.seed}, was stopped in epoch {session.epoch + 1}")

    def _stop_asked(self, now: float) -> bool:
        self._looked = now
        return self.place.stop.exists()

    def _save(self, session: Course) -> None:
        begun = time.monotonic()
        try:
            save(self.place, session)
        except Exception as error:  # a full disk, or state that cannot be written: the run itself is sound and goes on
            self._note(f"no checkpoint of {session.arm.name}, seed {session.seed}, could be written: {_line(error)}")
        self._saved = time.monotonic()
        self._pause = max(self.place.every, _SHARE * (self._saved - begun)) if self.place.every else 0.0

    def _note(self, text: str) -> None:
        if text not in self.notes:
            self.notes.append(text)


def _line(error: Exception) -> str:
    return " ".join(f"{type(error).__name__}: {error}".split())[:300]
