import math

import pytest
import torch

import dropkit as dk
from dropkit.variants.graph import DropEdge, DropNode, drop_edge, drop_node, edge_weights


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


def test_pairs_are_dropped_independently_at_the_rate():
    one_way = torch.stack((torch.arange(4000), torch.arange(4000) + 1))
    mask = drop_edge(torch.cat((one_way, one_way.flip(0)), 1), 0.3, undirected=True, return_mask=True)[1]
    there, back = mask.view(2, -1)
    assert torch.equal(there, back)
    assert abs(float((~there).double().mean()) - 0.3) < math.sqrt(math.log(2 / 1e-6) / (2 * 4000))  # Hoeffding
    neighbours = (there[1:] & there[:-1]).double()  # 2000 independent ones among them
    assert abs(float(neighbours[::2].mean()) - 0.49) < math.sqrt(math.log(2 / 1e-6) / (2 * 2000))


def test_parallel_edges_share_the_decision_of_their_pair():
    edges = torch.tensor([[0, 1, 0, 2, 2, 3], [1, 0, 1, 2, 2, 3]])
    seen = set()
    for key in range(60):
        with dk.keyed(key):
            mask = drop_edge(edges, 0.5, undirected=True, return_mask=True)[1].tolist()
        assert mask[0] == mask[1] == mask[2]
        assert mask[3] == mask[4]
        seen.add((mask[0], mask[3], mask[5]))
    assert len(seen) == 8  # each of the 8 outcomes is missing with a chance of (7/8)^60 = 3e-4, under these fixed keys not


@pytest.mark.parametrize("number", [lambda e: e, lambda e: e + 2**31, lambda e: e * 2**50, lambda e: e - 20, lambda e: e.int()],
                         ids=["as they are", "large", "huge", "negative too", "int32"])
def test_a_pair_has_the_decision_of_its_first_column_however_nodes_are_numbered(number):
    edges, first = graph(nodes=40), {}
    for column, ends in enumerate(edges.t().tolist()):
        first.setdefault(frozenset(ends), column)
    pair = torch.tensor([first[frozenset(ends)] for ends in edges.t().tolist()])
    masks = []
    for undirected in (False, True):
        with dk.keyed(5):
            masks.append(drop_edge(number(edges), 0.5, undirected=undirected, return_mask=True)[1])
    assert torch.equal(masks[1], masks[0][pair])


def test_nothing_and_everything():
    empty = torch.empty(2, 0, dtype=torch.int64)
    for undirected in (False, True):
        assert drop_edge(empty, 0.5, undirected=undirected).shape == (2, 0)
        kept, mask = drop_edge(graph(), 1.0, undirected=undirected, return_mask=True)
        assert kept.shape == (2, 0)
        assert not mask.any()
        edges = graph()
        assert drop_edge(edges, 0.0, undirected=undirected) is edges


def test_attributes_follow_the_mask():
    edges, attributes = graph(), torch.arange(3000.0)
    kept, mask = DropEdge(0.4, undirected=True, return_mask=True)(edges)
    assert torch.equal(edges[:, attributes[mask].long()], kept)


def test_weights_are_those_of_what_was_kept():
    edges = torch.cat((graph(300, 30), graph(300, 30).flip(0)), 1)
    kept = drop_edge(edges, 0.5, undirected=True)
    index, weights = edge_weights(kept, 30, self_loops=True)
    assert torch.equal(index[:, :kept.shape[1]], kept)
    dense = torch.zeros(30, 30).index_put_((index[0], index[1]), weights, accumulate=True)
    assert torch.equal(dense, dense.T)
    assert float(torch.linalg.eigvalsh(dense).abs().max()) < 1 + 1e-5  # what normalising is for


def test_weights_of_nodes_without_edges_and_of_one_way_edges():
    weights = edge_weights(torch.tensor([[0, 0, 1], [1, 2, 2]]), 4)[1]
    assert torch.allclose(weights, torch.tensor([0.0, 0.0, 0.5**0.5]))  # nothing ends in node 0
    assert edge_weights(torch.empty(2, 0, dtype=torch.int64), 3)[1].shape == (0,)
    assert edge_weights(torch.empty(2, 0, dtype=torch.int64), 3, self_loops=True)[1].tolist() == [1.0] * 3
    assert edge_weights(torch.empty(2, 0, dtype=torch.int64), 0, self_loops=True)[0].shape == (2, 0)


@pytest.mark.parametrize(("edges", "nodes"), [([[0], [3]], 3), ([[-1], [0]], 3), ([[0], [1]], -1), ([[0], [1]], 2.0),
                                              ([[0], [1]], True)])
def test_wrong_numbers_of_nodes_are_refused(edges, nodes):
    with pytest.raises(dk.InputError, match="nodes"):
        edge_weights(torch.tensor(edges), nodes)


def test_nodes_fall_independently_at_the_rate():
    y = drop_node(torch.ones(4, 1000, 3), 0.3)
    gone = (y[..., 0] == 0).double()
    assert abs(float(gone.mean()) - 0.3) < math.sqrt(math.log(2 / 1e-6) / (2 * 4000))
    assert not torch.equal(gone[0], gone[1])


def test_wrong_rates_are_refused():
    for call in (lambda: drop_edge(graph(), 1.5), lambda: DropEdge(-0.1), lambda: DropNode(2.0),
                 lambda: drop_node(torch.ones(2, 2), math.nan, training=False)):
        with pytest.raises(dk.InputError, match="probability"):
            call()
    with pytest.raises(dk.InputError, match="floating-point"):
        drop_node(torch.ones(2, 2, dtype=torch.int64))
    assert repr(DropEdge(0.3, return_mask=True)) == "DropEdge(p=0.3, return_mask=True)"
