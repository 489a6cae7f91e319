"""Walks over the operations of a pass: what stands before and after a site, on which path, and what becomes the output."""

from __future__ import annotations

from collections.abc import Collection, Iterator

from torch import Tensor

from dropkit.audit.leaves import closed, leaves
from dropkit.audit.observation import TRAIN, Observation, Op, Pass, SiteCall

VIEWS = frozenset(("view", "reshape", "flatten", "unflatten", "squeeze", "unsqueeze", "transpose", "permute", "contiguous", "t",
                   "get", "getitem", "to", "type", "float", "half", "clone", "chunk", "split", "unbind", "expand", "type_as",
                   "swapaxes"))
ACTIVATIONS = frozenset(("relu", "relu6", "leaky_relu", "elu", "selu", "celu", "gelu", "silu", "mish", "hardtanh", "hardswish",
                         "prelu", "tanh", "sigmoid", "softplus", "hardsigmoid", "logsigmoid"))
SOFTMAX = frozenset(("softmax", "log_softmax"))
MAX_POOLS = frozenset(("max_pool1d", "max_pool2d", "max_pool3d", "adaptive_max_pool1d", "adaptive_max_pool2d",
                       "max_pool1d_with_indices", "max_pool2d_with_indices", "max_pool3d_with_indices"))
NORMS = frozenset(("batch_norm", "layer_norm", "group_norm", "instance_norm", "rms_norm"))
ADDS = frozenset(("add", "iadd", "radd"))
CONVOLUTIONS = frozenset(f"conv{transposed}{n}d" for n in (1, 2, 3) for transposed in ("", "_transpose"))
ELEMENTWISE = frozenset(("dropout", "alpha_dropout", "gaussian_dropout", "uniform_dropout"))
CHANNELS = frozenset(("dropout1d", "dropout2d", "dropout3d", "feature_alpha_dropout"))
PATHS = frozenset(("drop_path", "stochastic_depth"))
POOLS = MAX_POOLS | {"avg_pool1d", "avg_pool2d", "avg_pool3d", "adaptive_avg_pool2d"}
LAYERS = CONVOLUTIONS | {"linear", "addmm", "matmul", "bilinear"}
RESIZERS = frozenset(("interpolate", "upsample", "pixel_shuffle"))
JOINS = frozenset(("cat", "concat", "concatenate", "stack", "hstack", "vstack"))
PLAIN = VIEWS | ACTIVATIONS


class Graph:
    """The operations of a pass with their ancestors.

    Args:
        found: the pass.
    """

    def __init__(self, found: Pass) -> None:
        self.found, self.ops = found, found.ops
        self._adds = [op for op in self.ops if op.name in ADDS and len(op.parents) == 2]
        self._above: list[int] = []  # bit i of element k: operation i is an ancestor of k; integers, as passes have thousands
        for op in self.ops:
            bits = 0
            for parent in op.parents:
                bits |= self._above[parent.index] | 1 << parent.index
            self._above.append(bits)

    def sites(self, kinds: Collection[str] | None = None) -> Iterator[SiteCall]:
        """The calls that dropped, whose operation is known.

        Args:
            kinds: of sites. Default: all.
        """
        for site in self.found.sites:
            if site.active and site.p > 0 and site.op.index >= 0 and (kinds is None or site.kind in kinds):
                yield site

    def above(self, op: Op, other: Op) -> bool:
        """Whether an operation is an ancestor of another.

        Args:
            op: the earlier one.
            other: the later one.
        """
        return bool(self._above[other.index] >> op.index & 1)

    def residual(self, op: Op) -> tuple[Op, Op] | None:
        """The stream and the branch that an addition joins: the stream is an ancestor of the branch; None where it is not so.

        Args:
            op: any operation.
        """
        if op.name not in ADDS or len(op.parents) != 2:
            return None
        first, second = op.parents
        if self.above(first, second):
            return first, second
        return (second, first) if self.above(second, first) else None

    def residuals(self, after: Op) -> Iterator[tuple[Op, Op, Op]]:
        """The later additions that join a stream and a branch, each with the two.

        Args:
            after: any operation.
        """
        for op in self._adds:
            pair = self.residual(op) if op.index > after.index else None
            if pair is not None:
                yield op, *pair

    def bypassed(self, op: Op) -> bool:
        """Whether a later addition joins the operation's path with one around it, as the branch of a residual block.

        Args:
            op: any operation.
        """
        for later in self._adds:
            if later.index > op.index:
                through = [op is parent or self.above(op, parent) for parent in later.parents]
                around = later.parents[through[0]]
                shared = self._above[around.index] & self._above[op.index]
                if through[0] != through[1] and (shared or self.above(around, op)):
                    return True
        return False

    def outputs(self) -> set[Op] | None:
        """The operations that made what the model returns, told by shape, the latest first; None where that cannot be told."""
        if closed(self.found.output):
            return None
        open_ends = [op for op in reversed(self.ops) if not op.users and op.name != "input"]
        found: set[Op] = set()
        for leaf in leaves(self.found.output):
            if isinstance(leaf, Tensor):
                found.update([op for op in open_ends if op not in found and op.shape == tuple(leaf.shape)][:1])
        return found


def graph(seen: Observation) -> Graph | None:
    """The graph of the pass in training; None if that did not run.

    Args:
        seen: what the probe has seen.
    """
    found = seen.ran(TRAIN)
    return None if found is None else Graph(found)


def source(op: Op, skip: Collection[str] = PLAIN) -> Op | None:
    """The operation whose result reaches another through nothing but some that are skipped; None where there are several.

    Args:
        op: the later one.
        skip: names of operations. Default: views and activations.
    """
    while len(op.parents) == 1:
        op = op.parents[0]
        if op.name not in skip or op.site is not None:
            return op
    return None


def sinks(op: Op, skip: Collection[str] = PLAIN) -> Iterator[Op]:
    """The operations that take a result, through nothing but some that are skipped.

    Args:
        op: the earlier one.
        skip: as in `source`.
    """
    for user in op.users:
        if user.name in skip and user.site is None:
            yield from sinks(user, skip)
        else:
            yield user


def ends(op: Op, skip: Collection[str] = PLAIN) -> Iterator[Op]:
    """The operations without users that a result reaches through nothing but some that are skipped.

    Args:
        op: the earlier one; itself, if it has no users.
        skip: as in `source`.
    """
    if not op.users:
        yield op
    for user in op.users:
        if user.name in skip and user.site is None:
            yield from ends(user, skip)


def each(sites: Iterator[SiteCall]) -> list[SiteCall]:
    """One call of each site, the first.

    Args:
        sites: calls.
    """
    found: dict[str, SiteCall] = {}
    for site in sites:
        found.setdefault(site.name, site)
    return list(found.values())


def label(site: SiteCall) -> str:
    """A site's name as a message has it.

    Args:
        site: one of its calls.
    """
    return f"(model){site.name}" if not site.name or site.name.startswith(":") else site.name
