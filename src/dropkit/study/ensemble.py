"""Several networks trained side by side whose outputs are averaged, for the price of one."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from dropkit.study.prepare import Prepared
from dropkit.study.result import Arm
from dropkit.study.session import Course, Session


class Averaged(nn.Module):
    """The mean of several networks' outputs: of their probabilities for classes, as logarithms, else of the outputs.

    Args:
        networks: they take the same input.
        classes: whether outputs are logits of classes.

    Shape:
        That of each network.

    Example:
        >>> Averaged([nn.Identity(), nn.Identity()], classes=True)(torch.tensor([[0.0, 0.0]])).exp()
        tensor([[0.5000, 0.5000]])
    """

    def __init__(self, networks: list[nn.Module], *, classes: bool) -> None:
        super().__init__()
        self.networks, self.classes = nn.ModuleList(networks), classes

    def forward(self, x: Tensor) -> Tensor:
        """Return the mean; log-probabilities are logits again."""
        outputs = torch.stack([network(x) for network in self.networks])
        if not self.classes:
            return outputs.mean(0)
        return torch.logsumexp(torch.log_softmax(outputs, -1), 0) - math.log(len(outputs))


class Ensemble(Course):
    """Networks with initial weights and orders of the data of their own, on one split, trained an epoch each at a time.

    Each gets the experiment's epochs divided by the number of members, so that all cost as much as a single network. An epoch
    of the ensemble is one of every member; training loss and metric are the members' mean.

    Args:
        ready: the experiment.
        arm: rates and recipe, with two members or more.
        seed: any whole number of at least 0.
    """

    def __init__(self, ready: Prepared, arm: Arm, seed: int) -> None:
        super().__init__(ready, arm, seed)
        self.members = [Session(ready, arm, seed, member) for member in range(arm.recipe.members)]
        for member in self.members:
            member.part = self.part  # one copy of the data
        self.found: list[tuple[float, float]] = []  # loss and metric of the members that have ended this epoch
        self.model = Averaged([member.model for member in self.members], classes=ready.data.task != "regression")

    def run_epoch(self, after_step: Callable[[Course], None] | None = None) -> tuple[float, float]:
        """Train every member for one epoch and return their mean loss and metric, both in training mode.

        Args:
            after_step: called after each step of a member, with the whole ensemble.
        """
        tell = None if after_step is None else lambda _: after_step(self)
        for member in self.members[len(self.found):]:  # the others had ended this epoch at the checkpoint that was restored
            self.found.append(member.run_epoch(tell))
        losses, metrics = zip(*self.found, strict=True)
        self.found = []
        self.epoch, self.step = self.members[0].epoch, self.members[0].step
        return math.fsum(losses) / len(losses), math.fsum(metrics) / len(metrics)

    def state(self) -> dict[str, Any]:
        """Return all that the rest of the run depends on."""
        return {**super().state(), "members": [member.state() for member in self.members], "found": self.found}

    def restore(self, state: dict[str, Any]) -> None:
        """Go to where `state` was taken."""
        super().restore(state)
        for member, of_member in zip(self.members, state["members"], strict=True):
            member.restore(of_member)
        self.found = list(state["found"])


def begin(ready: Prepared, arm: Arm, seed: int) -> Session | Ensemble:
    """Return the run before its first step: an ensemble where the arm has members, else a single network."""
    return Ensemble(ready, arm, seed) if arm.recipe.members > 1 else Session(ready, arm, seed)
