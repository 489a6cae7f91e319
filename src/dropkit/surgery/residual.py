"""Find the residual branches of a model in a trace of one forward pass."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field

from torch import nn

from dropkit.surgery.sites import kind_of, unwrap
from dropkit.surgery.trace import Call, Node, Trace

HOMOGENEOUS = frozenset({"relu", "relu_", "leaky_relu", "leaky_relu_", "prelu", "rrelu"})
"""Activations that commute with factors above 0, so that dropping before them is the same as after them."""

# What commutes with dropping whole examples, where the first dimension stays the batch.
_SCALING = HOMOGENEOUS | {"mul", "mul_", "__mul__", "__rmul__", "__imul__", "div", "__truediv__", "neg", "identity", "clone",
                          "contiguous", "to", "type_as", "float", "half", "bfloat16"}
_RESHAPING = {"view", "reshape", "flatten", "unflatten", "unsqueeze", "squeeze"}
_NONLINEAR = HOMOGENEOUS | {"gelu", "silu", "silu_", "sigmoid", "tanh", "softmax", "exp", "elu", "mish", "hardswish",
                            "softplus", "log", "sqrt"}
_PRODUCTS = {"linear", "conv1d", "conv2d", "conv3d", "matmul", "__matmul__", "__rmatmul__", "bmm", "einsum",
             "scaled_dot_product_attention", "multi_head_attention_forward"}


@dataclass(frozen=True)
class Branch:
    """A residual branch.

    Args:
        module: the path of the module that it ends with.
        block: the path of the block that it belongs to.
        width: how many dimensions its output has.
        calls: the calls around the sum.
    """

    module: str
    block: str
    width: int
    calls: tuple[Call, ...] = field(repr=False)


def residual_branches(watched: Trace) -> tuple[list[Branch], list[str]]:
    """The residual branches of a model, in the order in which they are added, and what cannot be told.

    A sum is residual when one operand, the skip connection, is what the other was computed from, or is a plain projection of
    that (convolution or linear layer, norm, pooling) with fewer layers than the other, the branch, which has a layer at
    least. The branch's last module is the innermost one that returned it and is called nowhere but at the ends of branches;
    scaling, reshaping and ReLU after that module are looked through.

    Args:
        watched: what `dropkit.surgery.trace.trace` returned.

    Returns:
        Branches, and a sentence for each sum that may be residual.

    Example:
        >>> import torch
        >>> from dropkit.surgery.trace import trace
        >>> layer = nn.TransformerEncoderLayer(4, 1, 4, batch_first=True)
        >>> [branch.module for branch in residual_branches(trace(layer, torch.ones(2, 3, 4)))[0]]
        ['dropout1', 'dropout2']
    """
    notes: list[str] = []
    ends: list[tuple[Node, list[tuple[Call, int | None]], Node]] = []
    for total, left, right in watched.additions:
        branch = _branch_of(total, left, right, notes)
        if branch is not None:
            ends.append((total, list(_returned_by(branch)), branch))
    called = Counter(call.module for call in watched.calls)
    ended = Counter(call.module for _, candidates, _ in ends for call, _ in candidates)
    found: list[Branch] = []
    for total, candidates, branch in ends:
        usable = [call for call, position in candidates if not position and called[call.module] == ended[call.module]]
        present = next((call.name for call, _ in candidates if _drops_paths(call.module)), None)
        if present is not None:
            notes.append(f"the branch that ends with {present!r} has stochastic depth already: set its rate with dk.set_rate")
        elif usable:
            found.append(Branch(usable[0].name, _block(total), len(branch.shape), total.inside))
        else:
            notes.append(f"a residual branch in {_inside(total)} ends with {branch.operation}() and no module of its own")
    return found, notes


def _branch_of(total: Node, left: Node, right: Node, notes: list[str]) -> Node | None:
    if _through(left) is _through(right) or left.shape != right.shape:  # a bias, a position or a condition that is broadcast
        return None
    for skip, branch in ((left, right), (right, left)):
        if _through(skip) in _local(branch, 0):
            return branch if _has_layer(_local(branch, 0) - _local(skip, 0)) and branch.index >= _start(total) else None
    return _projected(total, left, right, notes)


def _projected(total: Node, left: Node, right: Node, notes: list[str]) -> Node | None:
    start = _start(total)
    common = _local(left, start) & _local(right, start)
    if not common:
        return None
    source = max(common, key=lambda node: node.index)
    regions = [_region(operand, source, start) for operand in (left, right)]
    if any(region is None for region in regions):
        return None
    one, other = (region or set() for region in regions)
    plain = [_is_projection(region) for region in (one, other)]
    weights = [_weights(region) for region in (one, other)]
    if weights[0] == weights[1] and any(plain):
        notes.append(f"a sum in {_inside(total)} adds two paths of the same depth: which is the branch cannot be told")
        return None
    shallow = weights.index(min(weights))
    return (right, left)[shallow] if plain[shallow] else None


def _through(node: Node) -> Node:
    while node.operation == "identity":
        node = node.parents[0]
    return node


def _local(node: Node, start: int) -> set[Node]:
    """The node and what it was made of, as far back as the tensors that were there at the start."""
    seen: set[Node] = set()
    queue = [node]
    while queue:
        last = queue.pop()
        if last not in seen:
            seen.add(last)
            queue.extend(last.parents if last.index >= start else ())
    return seen


def _region(node: Node, source: Node, start: int) -> set[Node] | None:
    """What lies between a source and a node; None where a path from what the source was made of goes past it."""
    earlier = _local(source, start) - {source}
    seen: set[Node] = set()
    queue = [node]
    while queue:
        last = queue.pop()
        if last in earlier:
            return None
        if last is not source and last not in seen and last.index >= start:
            seen.add(last)
            queue.extend(last.parents)
    return seen


def _is_projection(region: set[Node]) -> bool:
    single = all(len([parent for parent in node.parents if parent in region]) <= 1 for node in region)
    return single and not any(node.operation in _NONLINEAR for node in region)


def _weights(region: set[Node]) -> int:
    return len({call for node in region for call, _ in node.made_by if call.module._parameters})


def _has_layer(region: set[Node]) -> bool:
    return _weights(region) > 0 or any(node.operation in _PRODUCTS for node in region)  # weights may be a function's argument


def _start(total: Node) -> int:
    """Where the call began in which a sum belongs; a module that only adds does not count."""
    for call in reversed(total.inside):
        if call.end - call.start > 1:
            return call.start
    return 0


def _returned_by(branch: Node) -> Iterator[tuple[Call, int | None]]:
    node = branch
    while len(node.used_by) == 1:  # what is used elsewhere too must not be dropped there
        yield from node.made_by
        if len(node.parents) != 1 or not _keeps_examples(node):
            return
        node = node.parents[0]


def _keeps_examples(node: Node) -> bool:
    if node.operation in _SCALING:
        return node.shape == node.parents[0].shape
    if node.operation in _RESHAPING:
        return node.shape[:1] == node.parents[0].shape[:1]
    moved = [item for argument in node.arguments for item in (argument if isinstance(argument, tuple | list) else (argument,))]
    if node.operation == "permute":
        return moved[:1] == [0]
    rank = len(node.shape)
    return node.operation in ("transpose", "swapaxes") and all(isinstance(dim, int) and dim % rank != 0 for dim in moved[:2])


def _drops_paths(module: nn.Module) -> bool:
    if type(module).__name__ not in ("DropPath", "StochasticDepth") and kind_of(module) != "drop_path":
        return False
    return bool(next((getattr(module, name) for name in ("p", "drop_prob") if hasattr(module, name)), 1.0))


def _block(total: Node) -> str:
    """The innermost module around a sum that is one of several of its kind in a container.

    Parts of a block may lie in a container too, as in T5; they are of different kinds.
    """
    items = [(outer, call) for outer, call in zip(total.inside, total.inside[1:], strict=False) if _is_item(outer, call)]
    for outer, call in reversed(items):
        if len({type(module) for module in _siblings(outer, call)}) == 1:
            return call.name
    if items:
        return items[-1][1].name
    return total.inside[-1].name if len(total.inside) > 1 else f"sum {total.index}"


def _is_item(outer: Call, call: Call) -> bool:
    """Whether a call is that of an item of a container: of a sequence, or of a list, which is not called itself."""
    return isinstance(outer.module, nn.Sequential) or call.name.rpartition(".")[0] != outer.name


def _siblings(outer: Call, call: Call) -> list[nn.Module]:
    path = call.name.rpartition(".")[0][len(outer.name):].strip(".")
    return list(unwrap(outer.module.get_submodule(path)).children()) if path else list(outer.module.children())


def _inside(total: Node) -> str:
    return repr(total.inside[-1].name) if total.inside and total.inside[-1].name else "the model"
