"""Whether a study trains its runs one by one or as batches, which is decided once and kept in the ledger."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from dropkit.core.errors import InputError, phrase
from dropkit.study.fused_trial import LANES, fusable, groups
from dropkit.study.ledger import Ledger
from dropkit.study.prepare import Prepared
from dropkit.study.result import Arm
from dropkit.study.worker import Unit

_FACT = "ways"  # in the ledger: how runs of the study were trained, the latest last, each {"fused": bool, "why": str}


@dataclass(frozen=True)
class Way:
    """How runs are trained: what workers are handed at once, as (index of the arm, seed), and sentences about it."""

    units: list[Unit]
    notes: list[str]


def choose(fused: bool | str, ready: Prepared, seeds: Sequence[int], ledger: Ledger) -> Way:
    """Decide how the study's runs are trained, as it was decided before where that is left open.

    Arms that change the recipe are trained one by one in either way.

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
    apart = [arm.name for arm in ready.arms if arm.recipe.changes()]
    notes = [_sentence(way, apart) for way in ways] + ["Both agree to float tolerance."] * (len(ways) > 1)
    return Way(_units(ready.arms, seeds, fused=ways[-1]["fused"]), notes)


def _plain(arms: Sequence[Arm]) -> list[int]:
    return [index for index, arm in enumerate(arms) if not arm.recipe.changes()]


def _units(arms: Sequence[Arm], seeds: Sequence[int], *, fused: bool) -> list[Unit]:
    """What is handed over at once, in the order of the seeds, so that a study that is stopped early has whole pairs."""
    if not fused:
        return [tuple(unit) for unit in groups(arms, seeds, lanes=1)]
    plain, places = _plain(arms), {seed: place for place, seed in enumerate(seeds)}
    batches = groups([arms[index] for index in plain], seeds) if plain else []
    together = [tuple((plain[arm], seed) for arm, seed in unit) for unit in batches]
    apart: list[Unit] = [((index, seed),) for seed in seeds for index in range(len(arms)) if index not in plain]
    return sorted(together + apart, key=lambda unit: places[unit[0][1]])


def _decide(fused: bool | str, ready: Prepared, seeds: Sequence[int]) -> dict[str, Any]:
    if fused is False:
        return {"fused": False, "why": "asked for"}
    why = fusable(ready, [ready.arms[index] for index in _plain(ready.arms)], seeds, timed=fused == "auto")
    if fused is True and why is not None:
        raise InputError("fused runs can be trained as one batch", got=phrase(why),
                         fix='Leave fused (--fused) out, or pass fused=False (--no-fused)')
    return {"fused": why is None, "why": why or ""}


def _sentence(way: dict[str, Any], apart: Sequence[str]) -> str:
    if way["fused"]:
        rest = f"; those of {', '.join(map(repr, apart))} one by one, since they change the recipe" if apart else ""
        return f"Runs were trained fused, up to {LANES} in one batch{rest}."
    return f"Runs were trained one by one, not fused: {way['why']}."
