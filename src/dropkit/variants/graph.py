"""Dropout on graphs: edges of an index, and rows of node features."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import torch
from torch import Tensor

from dropkit.core.errors import InputError, phrase
from dropkit.core.streams import FRESH
from dropkit.variants.draw import acting_rate, draw_keep
from dropkit.variants.dropout import dropout
from dropkit.variants.site import RateSite

_PAIRED = 1 << 31
"""Two node numbers below this make one int64."""


def drop_edge(edge_index: Tensor, p: float | Tensor = 0.2, training: bool = True, *, undirected: bool = False,
              return_mask: bool = False, generator: torch.Generator | None = None,
              stream: str | None = None) -> Tensor | tuple[Tensor, Tensor]:
    """Drop edges of a graph at random in training.

    Of the E columns of the index each is dropped with probability p. With ``undirected`` the columns (i, j) and (j, i)
    share one decision, wherever they stand; a self loop (i, i) has one of its own, and occurs as often as it was given.

    Args:
        edge_index: integer node numbers, sources above targets.
        p: probability of dropping an edge, in [0, 1]. Default: 0.2.
        training: whether to drop. Default: True.
        undirected: whether both directions of an edge share one decision. Default: False.
        return_mask: whether to return the mask of what was kept as well, for attributes of edges. Default: False.
        generator: draw the seed from here.
        stream: the site's name under ``dk.keyed``.

    Returns:
        The kept columns in their order, or the index itself where nothing is to be done; with ``return_mask`` a pair.

    Raises:
        InputError: for a rate outside [0, 1], or an index that is not integer or not of shape (2, E).

    Shape:
        edge_index: (2, E). Output: (2, kept), and (E,) for the mask.

    Use:
        Once an epoch or a forward pass on the graph that a graph network convolves over, against over-fitting and
        over-smoothing in deep ones. Renormalise the adjacency after it (`edge_weights`).

    Rates:
        0.2 to 0.8 in the paper's searches; begin at 0.2.

    Evidence:
        The paper reports better accuracy of several graph networks on citation graphs, more so for deeper ones.

    Example:
        >>> edges = torch.tensor([[0, 1, 1, 2, 3], [1, 0, 2, 1, 3]])
        >>> drop_edge(edges, 1.0).shape, drop_edge(edges, training=False) is edges
        (torch.Size([2, 0]), True)

    References:
        Rong, Huang, Xu, Huang: "DropEdge: towards deep graph convolutional networks on node classification", ICLR 2020.
    """
    _check_edges(edge_index)
    rate = acting_rate(p, training, generator, stream)
    if rate is None:
        everything = torch.ones(edge_index.shape[1], dtype=torch.bool, device=edge_index.device) if return_mask else None
        return edge_index if everything is None else (edge_index, everything)
    keep = draw_keep((edge_index.shape[1],), rate, generator, stream, device=edge_index.device, rows=FRESH)
    if undirected and keep.numel():
        keep = keep[_first_of_each_pair(edge_index)]
    kept = edge_index[:, keep]
    return (kept, keep) if return_mask else kept


class DropEdge(RateSite):
    """Drop edges of a graph at random in training; `drop_edge` as a module.

    Args:
        p: probability of dropping an edge, in [0, 1]. Default: 0.2.
        undirected: whether both directions of an edge share one decision.
        return_mask: whether to return the mask of what was kept as well.

    Raises:
        InputError: for a rate outside [0, 1].

    Shape:
        Input: (2, E). Output: (2, kept), with ``return_mask`` also (E,).

    Example:
        >>> DropEdge(0.2, undirected=True)
        DropEdge(p=0.2, undirected=True)
    """

    extras: ClassVar[Mapping[str, Any]] = {"undirected": False, "return_mask": False}

    def __init__(self, p: float = 0.2, *, undirected: bool = False, return_mask: bool = False) -> None:
        super().__init__()
        self.p, self.undirected, self.return_mask = p, undirected, return_mask

    def forward(self, edge_index: Tensor) -> Tensor | tuple[Tensor, Tensor]:
        """Drop in training mode; see `drop_edge`.

        Args:
            edge_index: integer node numbers, (2, E).
        """
        return drop_edge(edge_index, self.current_rate(), self.training, undirected=self.undirected,
                         return_mask=self.return_mask, stream=self.stream)


def edge_weights(edge_index: Tensor, nodes: int, *, self_loops: bool = False) -> tuple[Tensor, Tensor]:
    """The symmetrically normalised adjacency of a graph, ``D^-1/2 A D^-1/2``, as a weight for each edge.

    Args:
        edge_index: integer node numbers in [0, nodes).
        nodes: how many nodes there are, at least 0.
        self_loops: whether to add a self loop to each node that has none.

    Returns:
        The index, with the added loops at its end, and the weights; 0 where a node has no degree. The degree D of a node
        is the number of edges that end in it.

    Raises:
        InputError: for an index that is not integer, not of shape (2, E) or not in [0, nodes).

    Shape:
        edge_index: (2, E). Outputs: (2, E') and (E',).

    Example:
        >>> edge_weights(torch.tensor([[0, 1], [1, 0]]), nodes=2)[1]
        tensor([1., 1.])
        >>> edge_weights(torch.tensor([[0, 1, 1], [1, 0, 1]]), nodes=2, self_loops=True)[0].shape
        torch.Size([2, 4])
    """
    _check_edges(edge_index)
    _check_nodes(edge_index, nodes)
    if self_loops:
        has_loop = torch.zeros(nodes, dtype=torch.bool, device=edge_index.device)
        has_loop[edge_index[0, edge_index[0] == edge_index[1]]] = True
        new = (~has_loop).nonzero().view(1, -1).to(edge_index.dtype)
        edge_index = torch.cat((edge_index, new.expand(2, -1)), 1)
    degree = torch.bincount(edge_index[1], minlength=nodes).to(torch.get_default_dtype())
    root = torch.where(degree > 0, degree.rsqrt(), 0.0)
    return edge_index, root[edge_index[0]] * root[edge_index[1]]


def drop_node(x: Tensor, p: float | Tensor = 0.5, training: bool = True, *, generator: torch.Generator | None = None,
              stream: str | None = None) -> Tensor:
    """Drop all features of single nodes at random in training.

    ``y = x * m / (1 - p)`` with one entry of the mask m for each row of x; x holds node features and p is the rate.

    Args:
        x: node features, floating-point data.
        p: probability of dropping a node's features, in [0, 1]. Default: 0.5.
        training: whether to drop. Default: True.
        generator: draw the seed from here.
        stream: the site's name under ``dk.keyed``.

    Returns:
        A tensor like x; x itself where nothing is to be done.

    Raises:
        InputError: for a rate outside [0, 1], or integer data in training.

    Shape:
        x: (..., nodes, features). Output: as x.

    Use:
        On the input features of graph networks, before propagation, so that nodes learn to rely on their neighbourhood.

    Rates:
        0.5.

    Evidence:
        The paper uses it with a rate of 0.5 to make several views of a citation graph for consistency training.

    Example:
        >>> y = drop_node(torch.ones(5, 3))
        >>> bool((y == y[:, :1]).all())
        True

    References:
        Feng, Zhang, Dong, Han, Luan, Xu, Yang, Kharlamov, Tang: "Graph random neural networks for semi-supervised
        learning on graphs", NeurIPS 2020.
    """
    return dropout(x, p, training, share_dims=(-1,), generator=generator, stream=stream)


class DropNode(RateSite):
    """Drop all features of single nodes at random in training; `drop_node` as a module.

    Args:
        p: probability of dropping a node's features, in [0, 1]. Default: 0.5.

    Raises:
        InputError: for a rate outside [0, 1].

    Shape:
        Input: (..., nodes, features). Output: as the input.

    Example:
        >>> DropNode(0.3)
        DropNode(p=0.3)
    """

    def __init__(self, p: float = 0.5) -> None:
        super().__init__()
        self.p = p

    def forward(self, input: Tensor) -> Tensor:
        """Drop in training mode; see `drop_node`.

        Args:
            input: node features.
        """
        return drop_node(input, self.current_rate(), self.training, stream=self.stream)


def _check_edges(edge_index: Any) -> None:
    wrong = not isinstance(edge_index, Tensor) or edge_index.dim() != 2 or edge_index.shape[0] != 2
    if wrong or edge_index.is_floating_point() or edge_index.is_complex() or edge_index.dtype is torch.bool:
        got = phrase(f"{edge_index.dtype} of shape {tuple(edge_index.shape)}") if isinstance(edge_index, Tensor) else edge_index
        raise InputError("an edge index holds integers in the shape (2, E)", got=got,
                         fix="Pass sources in the first row and targets in the second")


def _check_nodes(edge_index: Tensor, nodes: Any) -> None:
    if isinstance(nodes, bool) or not isinstance(nodes, int) or nodes < 0:
        raise InputError("nodes is a number of nodes, at least 0", got=nodes, fix="Pass an int such as len(features)")
    if edge_index.numel() and (int(edge_index.min()) < 0 or int(edge_index.max()) >= nodes):
        raise InputError("an edge index holds node numbers in [0, nodes)", fix="Number the nodes from 0 and count them all",
                         got=phrase(f"{int(edge_index.min())} to {int(edge_index.max())} with {nodes} nodes"))


def _first_of_each_pair(edge_index: Tensor) -> Tensor:
    """For each column the first column that joins the same two nodes, in either direction."""
    ends = edge_index.long()
    if int(ends.min()) < 0 or int(ends.max()) >= _PAIRED:
        ends = torch.unique(ends, return_inverse=True)[1]
    low, high = ends.amin(0), ends.amax(0)
    _, group = torch.unique(low * (high.max() + 1) + high, return_inverse=True)
    columns = torch.arange(edge_index.shape[1], device=edge_index.device)
    first = torch.full_like(columns, edge_index.shape[1]).scatter_reduce(0, group, columns, "amin")
    return first[group]
