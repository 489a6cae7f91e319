"""Whether a study trains its runs one by one or as batches, which is decided once and kept in the ledger."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from dropkit.core.errors import InputError, phrase
from dropkit.study.fused_trial import LANES, fusable, groups
from dropkit.study.ledger import Ledger
from dropkit.study.prepare import Prepared
from dropkit.study.worker import Unit

_FACT = "ways"  # in the ledger: how runs of the study were trained, the latest last, each {"fused": bool, "why": str}


@dataclass(frozen=True)
class Way:
    """How runs are trained: what workers are handed at once, as (index of the arm, seed), and sentences about it."""

    units: list[Unit]
    notes: list[str]


def choose(fused: bool | str, ready: Prepared, seeds: Sequence[int], ledger: Ledger) -> Way:
    """Decide how the study's runs are trained, as it was decided before where that is left open.

    Args:
        fused: True, False or ``"auto"``.
        ready: the experiment.
        seeds: the study's.
        ledger: remembers the choice.

    Raises:
        InputError: the runs are to be fused and cannot.
    """
    ways = ledger.recall(_FACT) or []
    if fused != "auto" or not ways:
        chosen = _decide(fused, ready, seeds)
        if not (ways and ways[-1]["fused"] == chosen["fused"]):
            ways.append(chosen)
            ledger.remember(_FACT, ways)
    runs = groups(ready.arms, seeds) if ways[-1]["fused"] else groups(ready.arms, seeds, lanes=1)
    notes = [_sentence(way) for way in ways] + ["Both agree to float tolerance."] * (len(ways) > 1)
    return Way([tuple(unit) for unit in runs], notes)


def _decide(fused: bool | str, ready: Prepared, seeds: Sequence[int]) -> dict[str, Any]:
    if fused is False:
        return {"fused": False, "why": "asked for"}
    why = fusable(ready, ready.arms, seeds, timed=fused == "auto")
    if fused is True and why is not None:
        raise InputError("fused runs can be trained as one batch", got=phrase(why),
                         fix='Leave fused (--fused) out, or pass fused=False (--no-fused)')
    return {"fused": why is None, "why": why or ""}


def _sentence(way: dict[str, Any]) -> str:
    if way["fused"]:
        return f"Runs were trained fused, up to {LANES} in one batch."
    return f"Runs were trained one by one, not fused: {way['why']}."
