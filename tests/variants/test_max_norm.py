import pytest
import torch
from torch import nn

import dropkit as dk
from dropkit.variants.max_norm import max_norm_


@pytest.mark.parametrize(("shape", "dim"), [((4, 6), 0), ((4, 3, 5), 0), ((3, 4, 5, 5), 1)])
def test_norms_are_bound_and_directions_kept(shape, dim):
    weight = torch.randn(shape) * 3
    before = weight.clone()
    max_norm_(weight, 2.0, dim)
    rows, old = weight.movedim(dim, 0).flatten(1), before.movedim(dim, 0).flatten(1)
    assert float(rows.norm(dim=1).max()) <= 2.0 * (1 + 1e-6)
    assert torch.allclose(torch.cosine_similarity(rows, old), torch.ones(len(rows)))
    short = old.norm(dim=1) <= 2
    assert torch.equal(rows[short], old[short])


def test_agrees_with_torch_renorm():
    weight = torch.randn(6, 20)
    assert torch.allclose(max_norm_(weight.clone(), 3.0), torch.renorm(weight, 2, 0, 3.0), atol=1e-5)


def test_zero_rows_and_half_precision_are_safe():
    assert torch.equal(max_norm_(torch.zeros(2, 3)), torch.zeros(2, 3))
    weight = torch.full((1, 4096), 100.0, dtype=torch.float16)
    assert bool(max_norm_(weight, 1.0).isfinite().all())


def test_it_follows_the_optimiser_until_removed():
    model = nn.Sequential(nn.Linear(4, 8), nn.LayerNorm(8), nn.ConvTranspose1d(8, 2, 1))
    optimizer = torch.optim.SGD(model.parameters(), lr=10.0)
    handle = dk.MaxNorm(model, c=0.5).attach(optimizer)

    def step():
        model.zero_grad()
        model[0](torch.ones(2, 4)).sum().backward()
        optimizer.step()
        return float(model[0].weight.detach().norm(dim=1).max())

    assert step() <= 0.5 * (1 + 1e-6)
    assert bool((model[1].weight == 1).all())
    handle.remove()
    assert step() > 0.5


def test_wrong_arguments_are_refused():
    with pytest.raises(dk.InputError, match="above 0"):
        max_norm_(torch.ones(2, 2), 0.0)
    with pytest.raises(dk.InputError, match="that match"):
        dk.MaxNorm(nn.Sequential(nn.ReLU()))
