"""A forward in which functional calls act although the model is evaluated."""

from __future__ import annotations

from typing import Any

from dropkit.inference.active import Active
from dropkit.surgery.functional import Call
from dropkit.surgery.modules import kind_of
from dropkit.surgery.watch import Watch, never


class Acting(Watch):
    """Answers the functional calls of a model that `prepare` has prepared, inside a ``with`` block.

    Calls of sites that act drop by dropkit's masks, others run as in evaluation. Streams are named as ``dk.swap`` names them.

    Args:
        active: what acts.
    """

    def __init__(self, active: Active) -> None:
        super().__init__(active.model, never)
        self._active = active

    def answer(self, call: Call) -> Any:
        """Answer a call that drops.

        Args:
            call: the call.
        """
        frame = self._stack()[-1]
        inside = kind_of(frame.module) is not None
        name = "" if inside else call.rule.name
        key = frame.next_key(name)
        count = key.rpartition("#")[2] if "#" in key else ""
        path = f"{frame.path}:{name}" if name else frame.path
        p, acts = call.p, call.training
        if inside:
            acts &= frame.module in self._active.modules
        elif (frame.module, key) in self._active.calls:
            known = self._active.calls[frame.module, key]
            p, acts = (p, False) if known is None else (known, True)
        if not acts:
            return call.without_dropout()
        return _forced(call).dropped(p, f"{path}:{count}" if count else path)


def _forced(call: Call) -> Call:
    """The call with its flag for training on, and not in place: what comes before may have been computed for all passes."""
    call.training = True
    if call.rule.training is not None:
        call.arguments[call.rule.training] = True
    if call.arguments.get("inplace"):
        call.arguments["inplace"] = False
    return call
