"""What the probe has seen of a model: passes, operations, sites, randomness. Rules read it and nothing else."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor, nn

from dropkit.audit.finding import Place
from dropkit.audit.result import Gap

TRAIN, EVAL, AGAIN = "train", "eval", "train again"


@dataclass(eq=False)
class Op:
    """One operation of a pass: a call of a torch function by the model's code.

    Args:
        index: its place in time.
        name: the function's name, such as ``"linear"``, ``"conv2d"``, ``"dropout"``, ``"batch_norm"``, ``"add"``; ``"input"``.
        module: the path of the innermost module in whose forward it was called.
        place: where in user code: the nearest frame outside torch and dropkit.
        parents: the operations that made its tensor arguments, as far as those depend on the model's inputs.
        users: the operations that took its result.
        shape: of its result (the first tensor of it).
        parameters: the names of the model's parameters among its arguments.
        site: the site that this operation is, if it drops or would drop in training.
        arguments: of the call, tensors left out, by parameter name where known.
    """

    index: int
    name: str
    module: str
    place: Place
    parents: tuple[Op, ...] = field(default=(), repr=False)
    users: list[Op] = field(default_factory=list, repr=False)
    shape: tuple[int, ...] = ()
    parameters: tuple[str, ...] = ()
    site: SiteCall | None = field(default=None, repr=False)
    arguments: Mapping[str, Any] = field(default_factory=dict, repr=False)


@dataclass(eq=False)
class SiteCall:
    """One call of something that drops, in one pass.

    Args:
        name: as in `dropkit.Site`: the module's path, or ``"path:function#n"`` for a functional call.
        kind: a catalog name, ``"attention"``, ``"recurrent"`` or ``"custom"``.
        p: the rate at which it was called.
        active: whether it dropped in this pass.
        functional: whether it is a call and no module.
        op: the operation.
        forgetful: the line that runs it inside a checkpoint without ``preserve_rng_state``, which draws another mask when it
            computes it again; None elsewhere.
    """

    name: str
    kind: str
    p: float
    active: bool
    functional: bool
    op: Op = field(repr=False)
    forgetful: Place | None = field(default=None, repr=False)


@dataclass(eq=False)
class Opaque:
    """Randomness that no known site explains.

    Args:
        operator: the dispatcher's name, such as ``"aten.bernoulli_.float"``, or ``"python random"`` and ``"numpy random"``.
        module: the path of the innermost module.
        place: the line of user code.
    """

    operator: str
    module: str
    place: Place


@dataclass(eq=False)
class Pass:
    """One forward of the model.

    Args:
        mode: ``"train"``, ``"eval"`` or ``"train again"``.
        ops: what happened, in time.
        sites: the calls of sites.
        opaque: randomness that no site explains.
        entered: the paths of the modules that ran.
        output: what the model returned, detached.
        error: what it raised, or what ended it, or None.
        varies: whether a second run of the same pass, from another seed, gave another output; None where it was not run.
    """

    mode: str
    ops: list[Op] = field(default_factory=list)
    sites: list[SiteCall] = field(default_factory=list)
    opaque: list[Opaque] = field(default_factory=list)
    entered: set[str] = field(default_factory=set)
    output: Any = None
    error: BaseException | None = None
    varies: bool | None = None


@dataclass(eq=False)
class Observation:
    """All that is known of a model.

    Args:
        model: the copy of the model that was probed.
        modules: its modules by path.
        inputs: what it was called with.
        passes: by mode; a pass that could not run is missing or has an error.
        batch_norm_inputs: by the module's path: per channel the variance of its input in training and in evaluation, each over
            a number of runs, to be compared by rule DK201: ``(train, eval)``.
        gradients: the names of the parameters that a sum of the outputs reaches in training; None where no backward was run.
        redrawn: lines that draw random numbers in the forward pass and others when the backward pass computes them again.
        gaps: what could not be observed.
    """

    model: nn.Module
    modules: dict[str, nn.Module]
    inputs: Any
    passes: dict[str, Pass] = field(default_factory=dict)
    batch_norm_inputs: dict[str, tuple[Tensor, Tensor]] = field(default_factory=dict)
    gradients: set[str] | None = None
    redrawn: list[Place] = field(default_factory=list)
    gaps: list[Gap] = field(default_factory=list)

    def ran(self, mode: str) -> Pass | None:
        """The pass of a mode if it ran without an error.

        Args:
            mode: ``"train"``, ``"eval"`` or ``"train again"``.
        """
        found = self.passes.get(mode)
        return found if found is not None and found.error is None else None

    def site_calls(self, mode: str = TRAIN) -> Iterator[SiteCall]:
        """The calls of sites in a pass; none if it did not run.

        Args:
            mode: as in `ran`.
        """
        found = self.ran(mode)
        yield from () if found is None else found.sites
