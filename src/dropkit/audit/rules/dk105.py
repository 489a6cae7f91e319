"""DK105: recomputation that draws another mask."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from dropkit.audit.finding import Finding
from dropkit.audit.observation import TRAIN, Observation
from dropkit.audit.rule import Rule


def check(seen: Observation) -> Iterator[Finding]:
    """Find sites that run inside a checkpoint which keeps no random state."""
    redrawn = {(place.file, place.line) for place in seen.redrawn}
    for site in {site.name: site for site in seen.site_calls(TRAIN)}.values():
        if site.active and site.forgetful is not None:
            where = replace(site.forgetful, module=site.name.partition(":")[0])
            yield RULE.finding(f"the site {site.name!r} runs inside a checkpoint with preserve_rng_state=False: its mask is "
                               "another when the backward pass computes it again", where,
                               subject=site.name, evidence={"p": site.p})
        elif site.active and (site.op.place.file, site.op.place.line) in redrawn:
            yield RULE.finding(f"the backward pass computes the site {site.name!r} again and draws another mask", site.op.place,
                               "Restore the state of the random number generators around the second computation, as "
                               "torch.utils.checkpoint does", subject=site.name, evidence={"p": site.p})


RULE = Rule(
    id="DK105",
    title="a checkpoint computes dropout again with another mask",
    why="Activation checkpointing runs the forward a second time in the backward pass. Without the random state of the first "
        "time the masks differ, and the gradients belong to another function than the loss.",
    fix="Leave `preserve_rng_state` at its default, True. Or make masks a function of the step with `dk.keyed`, and pass "
        "`context_fn=dk.checkpoint_contexts`.",
    severity="error",
    confidence="high",
    bad="""
import torch
from torch import nn
from torch.utils.checkpoint import checkpoint


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.body, self.head = nn.Sequential(nn.Linear(64, 64), nn.ReLU(), nn.Dropout(0.5)), nn.Linear(64, 2)

    def forward(self, x):
        x = checkpoint(self.body, x, use_reentrant=False, preserve_rng_state=False)  # here
        return self.head(x)


def build():
    return Net()


def inputs():
    return torch.ones(4, 64)
""",
    good="""
import torch
from torch import nn
from torch.utils.checkpoint import checkpoint


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.body, self.head = nn.Sequential(nn.Linear(64, 64), nn.ReLU(), nn.Dropout(0.5)), nn.Linear(64, 2)

    def forward(self, x):
        x = checkpoint(self.body, x, use_reentrant=False)
        return self.head(x)


def build():
    return Net()


def inputs():
    return torch.ones(4, 64)
""",
    references=("PyTorch documentation, torch.utils.checkpoint.checkpoint: preserve_rng_state.",),
    check=check)
