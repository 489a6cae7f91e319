"""What the passes leave open: modules that did not run, randomness from elsewhere, outputs that are not tensors."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import nn

from dropkit.audit.finding import alike_path
from dropkit.audit.leaves import closed, differ
from dropkit.audit.observation import AGAIN, TRAIN, Observation, Pass
from dropkit.audit.result import Gap
from dropkit.surgery.modules import kind_of


def not_run(seen: Observation) -> Iterator[Gap]:
    """The modules that no pass ran, those of one kind in layers of one kind as one.

    A module is no gap where its parent does its work: calls a function on all its parameters, as attention does with its output
    projection, or has attention drop at its rate.

    Args:
        seen: the passes.
    """
    entered = {path for found in seen.passes.values() for path in found.entered}
    parameters = {name for found in seen.passes.values() for op in found.ops for name in op.parameters}
    rates = {(site.op.module, site.p) for found in seen.passes.values() for site in found.sites
             if site.functional and "attention" in site.kind}
    names = {id(x): name for name, x in seen.model.named_parameters()}
    kinds: dict[tuple[str, str, type], list[str]] = {}
    for path, part in seen.modules.items():
        if path in entered or not _tells(part):
            continue
        own = {names.get(id(x), "") for x in part.parameters()}
        if (path.rpartition(".")[0], getattr(part, "p", None)) in rates or (own and own <= parameters and not _drops(part)):
            continue
        why = "compiled by torch.jit: only its randomness is seen" if isinstance(part, torch.jit.ScriptModule) else (
            "it did not run")
        kinds.setdefault((alike_path(path), why, type(part)), []).append(path)
    for (alike, why, _), paths in kinds.items():
        yield Gap(f"module {paths[0]!r}" if len(paths) == 1 else f"{len(paths)} modules {alike!r}", why)


def untold(seen: Observation) -> Iterator[Gap]:
    """What the passes' outputs leave open: randomness that is not torch's, and objects that cannot be looked into.

    Args:
        seen: the passes.
    """
    first, again = seen.ran(TRAIN), seen.ran(AGAIN)
    if first is None or again is None:
        return
    if _sites(first) == _sites(again) and differ(first.output, again.output):
        yield Gap("outputs in training", "two runs from one seed differ: some random numbers are not torch's, or a pass "
                  "changes what the next one computes")
    objects = closed(first.output)
    if objects:
        yield Gap("what the model returns", f"it holds objects that cannot be looked into ({', '.join(objects)})")


def _sites(found: Pass) -> list[tuple[str, str, bool]]:
    return [(site.name, str(site.p), site.active) for site in found.sites]


def runs(part: nn.Module) -> bool:
    """Whether a module has a forward: lists of modules have none.

    Args:
        part: any module.

    Example:
        >>> runs(nn.ModuleList()), runs(nn.Sequential())
        (False, True)
    """
    return isinstance(part, torch.jit.ScriptModule) or type(part).forward is not nn.Module.forward


def _drops(part: nn.Module) -> bool:
    return any(kind_of(inner) is not None for inner in part.modules())


def _tells(part: nn.Module) -> bool:
    """Whether it matters that a module did not run: torch's own layers do what they are known for."""
    if not runs(part):
        return False
    return not type(part).__module__.startswith("torch.nn.modules") or kind_of(part) is not None or bool(list(part.children()))
