"""Stochastic depth and graphs against what two libraries' formulas and a few lines of PyTorch do."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from dropkit.variants.drop_path import drop_path, drop_path_add
from dropkit.variants.graph import drop_edge, drop_node
from harness import Bar, Case, compare, write

P = 0.1
Call = Callable[[Tensor], Tensor]


def timm_path(x: Tensor) -> Tensor:
    """Timm's formula: a mask an example, divided by the probability of keeping, times the branch."""
    mask = x.new_empty(x.shape[0], *(1,) * (x.dim() - 1)).bernoulli_(1 - P).div_(1 - P)
    return x * mask


def torchvision_depth(x: Tensor) -> Tensor:
    """Torchvision's formula: the same in another order."""
    noise = torch.empty(x.shape[0], *(1,) * (x.dim() - 1), dtype=x.dtype, device=x.device).bernoulli_(1 - P)
    noise.div_(1 - P)
    return x * noise


def masked_rows(x: Tensor) -> Tensor:
    """A mask a row of node features."""
    return x * x.new_empty(x.shape[0], 1).bernoulli_(1 - P).div_(1 - P)


def selected(edges: Tensor) -> Tensor:
    """Keep edges as one writes it in PyTorch."""
    return edges[:, torch.rand(edges.shape[1]) >= P]


def selected_pairs(edges: Tensor) -> Tensor:
    """Keep pairs of directions: decide for one of them, then add the other; self loops set aside, so that none doubles."""
    source, target = edges
    one_way, loops = edges[:, source < target], edges[:, source == target]
    one_way = one_way[:, torch.rand(one_way.shape[1]) >= P]
    loops = loops[:, torch.rand(loops.shape[1]) >= P]
    return torch.cat((one_way, one_way.flip(0), loops), 1)


def both(title: str, x: Tensor, calls: dict[str, Call]) -> list[Case]:
    """Time the forward pass, then forward and backward; dropkit is held to each rival."""
    leaf, grad = x.clone().requires_grad_(), torch.ones_like(x)

    def step(call: Call) -> None:
        leaf.grad = None
        call(leaf).backward(grad)

    bars = [Bar("dropkit", name, 1.0) for name in calls if name != "dropkit"]
    return [compare(f"{title}, forward", {name: lambda call=call: call(x) for name, call in calls.items()}, bars),
            compare(f"{title}, forward + backward", {name: lambda call=call: step(call) for name, call in calls.items()}, bars)]


def residual(x: Tensor) -> list[Case]:
    """Time a dropped branch with its addition, fused and not."""
    skip = torch.randn_like(x)
    return both(f"drop_path + residual, {tuple(x.shape)}", x, {
        "residual + x * mask": lambda x: skip + timm_path(x),
        "residual + dropkit": lambda x: skip + drop_path(x, P),
        "dropkit": lambda x: drop_path_add(x, skip, P)})


def graph(nodes: int, edges: int) -> Tensor:
    """Return an undirected graph: every edge in both directions, in a random order."""
    one_way = torch.randint(nodes, (2, edges // 2))
    return torch.cat((one_way, one_way.flip(0)), 1)[:, torch.randperm(edges // 2 * 2)]


def cases() -> list[Case]:
    """Run every case."""
    torch.manual_seed(0)
    found = []
    for shape in ((64, 197, 384), (32, 64, 28, 28)):
        x = torch.randn(shape)
        found += both(f"DropPath, {shape}", x, {"timm": timm_path, "torchvision": torchvision_depth,
                                                "dropkit": lambda x: drop_path(x, P)})
        found += residual(x)
    found += both("DropNode, (20000, 128)", torch.randn(20_000, 128), {"masked rows": masked_rows,
                                                                       "dropkit": lambda x: drop_node(x, P)})
    edges = graph(20_000, 200_000)
    bars = [Bar("dropkit", "select", 1.0)]
    found.append(compare("DropEdge, 200000 edges", {"select": lambda: selected(edges), "dropkit": lambda: drop_edge(edges, P)},
                         bars))
    found.append(compare("DropEdge in pairs, 200000 edges", {
        "select pairs": lambda: selected_pairs(edges), "dropkit": lambda: drop_edge(edges, P, undirected=True)}))
    return found


if __name__ == "__main__":
    write("Depth and graphs", "depth", cases(),
          f"p = {P}, float32, one thread. Timm and torchvision stand for their formulas. Ratios under 1 are faster. Selected "
          "pairs come out in another order than they stood in; dropkit keeps the order, and pairs that stand anywhere.")
