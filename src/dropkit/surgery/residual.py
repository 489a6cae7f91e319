"""Find the residual branches of a model in a trace of one forward pass."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from torch import nn

from dropkit.surgery.applied import Applied
from dropkit.surgery.modules import kind_of, unwrap
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
        begins: when the call of the block began: one that is called several times is several blocks.
        width: how many dimensions its output has.
        calls: the calls around the sum.
    """

    module: str
    block: str
    begins: int
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
    sums = {total: (left, right) for total, left, right in watched.additions}
    residual = _residual_sums(sums, notes)
    inserted = {hook.site for call in watched.calls for hook in _hooks(call.module) if isinstance(hook, Applied)}
    ends = [(total, end, [(call, position) for call, position in _returned_by(end) if call.module not in inserted])
            for total, branch in residual.items() for end in _parallel(branch, sums, residual)]
    called = Counter(call.module for call in watched.calls)
    ended = Counter(call.module for _, _, candidates in ends for call, _ in candidates)
    found: list[Branch] = []
    for total, end, candidates in ends:
        usable = [call for call, position in candidates if not position and called[call.module] == ended[call.module]]
        present = next((call.name for call, _ in _returned_by(end) if _drops_paths(call.module)), None)
        if present is not None:
            notes.append(f"the branch that ends with {present!r} has stochastic depth already: set its rate with dk.set_rate")
        elif usable:
            found.append(Branch(usable[0].name, *_block(total), len(end.shape), total.inside))
        else:
            notes.append(f"a residual branch in {_inside(total)} ends with {end.operation}() and no module of its own")
    return found, notes


def _residual_sums(sums: Mapping[Node, tuple[Node, Node]], notes: list[str]) -> dict[Node, Node]:
    """The branch of each sum that is residual."""
    residual: dict[Node, Node] = {}
    skips: dict[Node, Node] = {}
    for total, (left, right) in sums.items():
        further = _parallel_to(left, right, skips)
        branch = further or _branch_of(total, left, right, notes)
        if branch is not None:
            residual[total] = branch
            carrier = _through(right if branch is left else left)
            skips[total] = carrier if further is None else skips[carrier]
    return residual


def _parallel(branch: Node, sums: Mapping[Node, tuple[Node, Node]], residual: Mapping[Node, Node]) -> Iterator[Node]:
    """A branch, or the several that are added up before they are added to the skip connection."""
    if branch in sums and branch not in residual and not branch.made_by and len(branch.used_by) == 1:
        for operand in sums[branch]:
            yield from _parallel(operand, sums, residual)
    else:
        yield branch


def _parallel_to(left: Node, right: Node, skips: Mapping[Node, Node]) -> Node | None:
    """The operand that is a further branch beside those that a residual sum has, or None."""
    for carrier, branch in ((_through(left), right), (_through(right), left)):
        behind = _local(branch, 0)
        if carrier in skips and carrier not in behind and skips[carrier] in behind and _has_layer(
                behind - _local(skips[carrier], 0)):
            return branch
    return None


def _hooks(module: nn.Module) -> tuple[Any, ...]:
    return (*module._forward_hooks.values(), *module._forward_pre_hooks.values())


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
    if weights[0] == weights[1]:
        if not any(plain) or not weights[0]:
            return None
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
    if kind_of(module) == "drop_path":
        return True  # also at rate 0, which can be set
    return type(module).__name__ in ("DropPath", "StochasticDepth") and bool(
        next((getattr(module, name) for name in ("p", "drop_prob") if hasattr(module, name)), 1.0))


def _block(total: Node) -> tuple[str, int]:
    """The innermost module around a sum that is one of several of its kind in a container.

    Parts of a block may lie in a container too, as in T5; they are of different kinds.
    """
    items = [(outer, call) for outer, call in zip(total.inside, total.inside[1:], strict=False) if _is_item(outer, call)]
    for outer, call in reversed(items):
        if len({type(module) for module in _siblings(outer, call)}) == 1:
            return call.name, call.start
    innermost = items[-1][1] if items else total.inside[-1]
    return (innermost.name, innermost.start) if len(total.inside) > 1 else (f"sum {total.index}", total.index)


def _is_item(outer: Call, call: Call) -> bool:
    """Whether a call is that of an item of a container: of a sequence, or of a list, which is not called itself."""
    return isinstance(outer.module, nn.Sequential) or call.name.rpartition(".")[0] != outer.name


def _siblings(outer: Call, call: Call) -> list[nn.Module]:
    path = call.name.rpartition(".")[0][len(outer.name):].strip(".")
    return list(unwrap(outer.module.get_submodule(path)).children()) if path else list(outer.module.children())


def _inside(total: Node) -> str:
    return repr(total.inside[-1].name) if total.inside and total.inside[-1].name else "the model"
