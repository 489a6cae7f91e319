import itertools
import math
from fractions import Fraction

import pytest
import torch

import dropkit as dk
from dropkit.variants.patch import PatchDropout, patch_dropout


def hoeffding(count):
    """How far the mean of independent values in [0, 1] strays from its expectation, but for one time in a million."""
    return math.sqrt(math.log(2 / 1e-6) / (2 * count))


def numbered(count, length, width=2):
    """Tokens that tell their example and place."""
    places = torch.arange(count)[:, None] * 1000.0 + torch.arange(length)
    return places[..., None].expand(count, length, width).contiguous()


@pytest.mark.parametrize("p", ["0.1", "0.15", "0.25", "0.29", "0.3", "0.5", "0.57", "0.7", "0.9", "0.95", "0.99", "1.0"])
@pytest.mark.parametrize("prefix", [0, 1, 3])
def test_the_count_is_exact_in_decimal(p, prefix):
    # The floats 10 * (1 - 0.9) and 100 * (1 - 0.29) lie just beside 1 and 71.
    for rest in (1, 2, 3, 7, 10, 20, 100, 196, 1000):
        expected = max(1, math.floor(rest * (1 - Fraction(p))))
        assert patch_dropout(torch.zeros(1, prefix + rest, 1), float(p), prefix=prefix).shape == (1, prefix + expected, 1)


def test_a_rate_that_went_through_sums_counts_as_what_is_meant():
    assert 0.1 + 0.2 > 0.3
    assert patch_dropout(torch.zeros(1, 10, 1), 0.1 + 0.2, prefix=0).shape == (1, 7, 1)


@pytest.mark.parametrize("prefix", [0, 2])
@pytest.mark.parametrize("ordered", [False, True])
def test_tokens_are_kept_whole_and_once(prefix, ordered):
    torch.manual_seed(0)
    x = numbered(50, 12)
    y, places = patch_dropout(x, 0.5, prefix=prefix, ordered=ordered, return_indices=True)
    assert torch.equal(places[:, :prefix], torch.arange(prefix).expand(50, prefix))
    assert torch.equal(y, x.gather(1, places[..., None].expand(-1, -1, 2)))
    chosen = places[:, prefix:]
    assert bool((chosen >= prefix).all())
    assert all(len(set(row)) == len(row) == (12 - prefix) // 2 for row in chosen.tolist())
    rising = bool((chosen.diff(dim=1) > 0).all())
    assert rising is ordered
    assert not torch.equal(chosen[0], chosen[1])


def test_every_subset_is_equally_likely():
    torch.manual_seed(1)
    count = 20000
    _, places = patch_dropout(torch.zeros(count, 6, 1), 0.5, return_indices=True, prefix=2)
    pairs = list(itertools.combinations(range(2, 6), 2))
    shares = torch.tensor([(places[:, 2:] == torch.tensor(pair)).all(1).double().mean() for pair in pairs])
    assert float(shares.sum()) == pytest.approx(1)
    assert bool(((shares - 1 / 6).abs() < hoeffding(count)).all())


def test_every_order_is_equally_likely_when_unordered():
    torch.manual_seed(2)
    count = 20000
    _, places = patch_dropout(torch.zeros(count, 4, 1), 0.5, return_indices=True, prefix=0, ordered=False)
    for pair in itertools.permutations(range(4), 2):
        share = float((places == torch.tensor(pair)).all(1).double().mean())
        assert abs(share - 1 / 12) < hoeffding(count)


def test_ordered_and_unordered_keep_the_same_tokens():
    kept = []
    for ordered in (True, False):
        with dk.keyed(3):
            kept.append(patch_dropout(torch.zeros(8, 30, 1), 0.4, ordered=ordered, return_indices=True)[1])
    assert torch.equal(kept[0], kept[1].sort(1).values)


def test_gradients_go_where_tokens_came_from():
    torch.manual_seed(4)
    x = torch.randn(5, 9, 3, requires_grad=True)
    y, places = patch_dropout(x, 0.5, return_indices=True)
    weights = torch.randn_like(y)
    grad, = torch.autograd.grad((y * weights).sum(), x)
    expected = torch.zeros_like(x).scatter(1, places[..., None].expand_as(weights), weights)
    assert torch.equal(grad, expected)


def test_nothing_else_than_places_is_saved():
    x, saved = torch.ones(8, 50, 256, requires_grad=True), []
    with torch.autograd.graph.saved_tensors_hooks(lambda t: saved.append(t) or t, lambda t: t):
        y = patch_dropout(x, 0.5)
    assert isinstance(y, torch.Tensor)
    assert sum(t.untyped_storage().nbytes() for t in saved) <= 8 * y.shape[0] * y.shape[1]


@pytest.mark.parametrize("x", [numbered(4, 12, 6)[:, ::2, ::3], numbered(4, 6, 2).transpose(0, 2).contiguous().transpose(0, 2),
                               numbered(1, 6, 2).expand(4, 6, 2)])
def test_strides_do_not_matter(x):
    kept = []
    for data in (x, x.contiguous()):
        with dk.keyed(5):
            kept.append(patch_dropout(data, 0.5))
    assert torch.equal(*kept)


@pytest.mark.parametrize(("shape", "prefix", "kept"), [((0, 9, 4), 1, 5), ((3, 9, 0), 1, 5), ((3, 2, 4), 2, 2),
                                                     ((3, 0, 4), 0, 0)])
def test_empty_data_passes(shape, prefix, kept):
    x = torch.ones(shape, requires_grad=True)
    y = patch_dropout(x, 0.5, prefix=prefix)
    assert y.shape == (shape[0], kept, shape[2])
    assert torch.autograd.grad(y.sum(), x)[0].shape == shape


def test_nothing_to_do_returns_the_input_and_no_places():
    x = numbered(2, 5)
    for p, training in ((0.0, True), (0.5, False)):
        assert patch_dropout(x, p, training) is x
        y, places = patch_dropout(x, p, training, return_indices=True)
        assert y is x
        assert places is None


def test_modules_pass_their_settings_on():
    x = numbered(4, 9)
    module = PatchDropout(0.25, prefix=0, ordered=False, return_indices=True)
    with dk.keyed(6):
        y, places = module(x)
    with dk.keyed(6):
        z, expected = patch_dropout(x, 0.25, prefix=0, ordered=False, return_indices=True)
    assert torch.equal(y, z)
    assert torch.equal(places, expected)
    assert repr(module) == "PatchDropout(p=0.25, prefix=0, ordered=False, return_indices=True)"
    module.p = 0.75
    assert module(x)[0].shape == (4, 2, 2)


@pytest.mark.parametrize(("x", "settings", "text"), [
    (torch.ones(4, 5), {}, r"shape \(N, L, D\) with L at least 1; got \(4, 5\)"),
    (torch.ones(1, 4, 5, 5), {}, r"shape \(N, L, D\)"),
    (torch.ones(1, 2, 5), {"prefix": 3}, "with L at least 3"),
    (torch.ones(1, 9, 5, dtype=torch.int64), {}, "floating-point data; got torch.int64"),
    *((torch.ones(1, 9, 5), {"prefix": bad}, f"prefix is a number of tokens.*; got {bad}") for bad in (-1, 1.0, True)),
    (torch.ones(1, 9, 5), {"p": -0.5}, r"in \[0, 1\]; got -0.5"),
])
def test_errors(x, settings, text):
    with pytest.raises(dk.InputError, match=text):
        patch_dropout(x, **settings)
    with pytest.raises(dk.InputError, match="prefix is"):
        PatchDropout(prefix=-2)
