import math

import pytest
import torch

import dropkit as dk
from dropkit.variants.graph import DropEdge, drop_edge, drop_node, edge_weights


def graph(count=3000, nodes=200):
    torch.manual_seed(0)
    return torch.randint(nodes, (2, count))


def test_kept_edges_stand_in_their_order():
    edges = graph()
    with dk.keyed(1):
        kept, mask = drop_edge(edges, 0.4, return_mask=True)
    assert torch.equal(kept, edges[:, mask])
    assert abs(float((~mask).double().mean()) - 0.4) < math.sqrt(math.log(2 / 1e-6) / (2 * edges.shape[1]))


def test_both_directions_share_a_decision_wherever_they_stand():
    one_way = torch.stack((torch.arange(500), torch.arange(500) + 1))
    edges = torch.cat((one_way, one_way.flip(0)), 1)[:, torch.randperm(1000)]
    kept = {tuple(edge) for edge in drop_edge(edges, 0.5, undirected=True).t().tolist()}
    assert 0 < len(kept) < 1000
    assert all((b, a) in kept for a, b in kept)


def test_self_loops_occur_once():
    edges = torch.tensor([[0, 1, 1, 2], [0, 1, 0, 2]])
    for seed in range(20):
        with dk.keyed(seed):
            kept = drop_edge(edges, 0.5, undirected=True).t().tolist()
        assert len(kept) == len({tuple(edge) for edge in kept})


def test_evaluation_returns_the_index_itself():
    edges = graph()
    assert DropEdge(0.5).eval()(edges) is edges
    kept, mask = DropEdge(0.5, return_mask=True).eval()(edges)
    assert kept is edges
    assert bool(mask.all())


def test_the_adjacency_is_normalised():
    edges = torch.tensor([[0, 1, 1, 2, 3], [1, 0, 2, 1, 3]])
    index, weights = edge_weights(edges, 5, self_loops=True)
    dense = torch.zeros(5, 5)
    dense[index[0], index[1]] = 1
    assert torch.equal(dense.diagonal(), torch.ones(5))
    assert index.shape[1] == 4 + 5  # node 3 had its loop already
    root = dense.sum(0).rsqrt()
    assert torch.allclose(weights, (root[:, None] * dense * root)[index[0], index[1]])


def test_rows_of_nodes_fall_together():
    y = drop_node(torch.ones(1000, 5), 0.5)
    assert bool((y == y[:, :1]).all())
    assert set(y.unique().tolist()) == {0.0, 2.0}


def test_wrong_indices_are_refused():
    for bad in (torch.ones(2, 3), torch.ones(3, 2, dtype=torch.int64), torch.ones(2, 3, dtype=torch.bool), [[0], [1]]):
        with pytest.raises(dk.InputError, match="edge index"):
            drop_edge(bad, 0.5)
