import math

import pytest
import torch
from torch import nn

import dropkit as dk
from dropkit.variants.layers import apply_layer
from dropkit.variants.targeted import TargetedDropout, targeted_dropout, targets

FALSE_ALARM = 1e-6
KINDS = ["weight", "unit"]
kinds = pytest.mark.parametrize("kind", KINDS)


def smallest_by_sorting(weight, gamma, kind):
    """Targets by Python's own stable sort."""
    rows = weight.double().flatten(1)
    sizes = rows.abs().tolist() if kind == "weight" else [rows.norm(dim=1).tolist()]
    found = torch.zeros(len(sizes), len(sizes[0]), dtype=torch.bool)
    for row, values in enumerate(sizes):
        count = round(gamma * len(values) * 10**6) // 10**6
        for place in sorted(range(len(values)), key=values.__getitem__)[:count]:
            found[row, place] = True
    return found.view(weight.shape if kind == "weight" else (len(weight), *[1] * (weight.dim() - 1)))


@kinds
@pytest.mark.parametrize("shape", [(6, 10), (7, 3, 2), (5, 2, 3, 3), (1, 1), (3, 1)])
@pytest.mark.parametrize("gamma", [0.0, 0.1, 0.3, 0.5, 0.75, 1.0])
def test_targets_are_the_smallest(shape, gamma, kind):
    torch.manual_seed(0)
    for weight in (torch.randn(shape), torch.randint(-2, 3, shape).float(), torch.zeros(shape)):  # ties, too
        assert torch.equal(targets(weight, gamma, kind), smallest_by_sorting(weight, gamma, kind))


def test_the_count_is_exact():
    for hundredths in range(101):  # 0.29 * 100 is 28.999999999999996
        assert int(targets(torch.randn(1, 100), hundredths / 100).sum()) == hundredths


def test_weights_compete_within_their_unit():
    weight = torch.tensor([[1.0, 2.0, 3.0, 4.0], [10.0, 20.0, 30.0, 40.0]])
    assert targets(weight).tolist() == [[True, True, False, False]] * 2
    assert targets(weight, kind="unit").tolist() == [[True], [False]]


def test_nan_is_never_among_the_smallest_before_numbers():
    weight = torch.tensor([[math.nan, 3.0, math.inf, 1.0]])
    assert targets(weight, 0.5).tolist() == [[False, True, False, True]]


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_norms_of_low_precision_are_single(dtype):  # in float16 both would be infinite, and the first taken for the smaller
    weight = torch.stack([torch.full((9,), 60000.0), torch.full((9,), 50000.0)]).to(dtype)
    assert targets(weight, 0.5, "unit").tolist() == [[False], [True]]


@kinds
@pytest.mark.parametrize("shape", [(200, 30), (60, 5, 3, 3)])
def test_only_targets_drop_with_the_rate_and_nothing_is_scaled(shape, kind):
    torch.manual_seed(0)
    weight, p = torch.randn(shape), 0.3
    chosen = targets(weight, 0.5, kind)
    y = targeted_dropout(weight, p, kind=kind)
    dropped = (y == 0) if kind == "weight" else (y == 0).flatten(1).all(1).view(chosen.shape)
    assert torch.equal(torch.where(dropped, 0.0, weight), y)
    assert not bool((dropped & ~chosen).any())
    decisions = dropped[chosen].double()
    slack = math.sqrt(math.log(2 / FALSE_ALARM) / (2 * decisions.numel()))  # Hoeffding
    assert abs(float(decisions.mean()) - p) < slack
    assert bool(dropped.any())


@kinds
def test_a_rate_of_one_prunes_for_the_time_of_training_only(kind):
    weight = torch.randn(6, 10)
    y = targeted_dropout(weight, 1.0, kind=kind)
    assert torch.equal(y, torch.where(targets(weight, 0.5, kind), 0.0, weight))
    assert targeted_dropout(weight, 1.0, False, kind=kind) is weight


@kinds
def test_evaluation_neither_drops_nor_prunes(kind):  # the reference does both
    module, x, state = TargetedDropout(nn.Linear(10, 6), 0.9, 0.9, kind=kind).eval(), torch.randn(4, 10), torch.get_rng_state()
    before = module.weight.detach().clone()
    assert torch.equal(module(x), apply_layer(x, before, module.bias))
    assert torch.equal(module.weight, before)
    assert torch.equal(state, torch.get_rng_state())
    weight = torch.randn(6, 10)
    assert targeted_dropout(weight, 0.0, kind=kind) is weight


@kinds
def test_pruning_is_a_call_of_its_own(kind):
    module = TargetedDropout(nn.Conv1d(5, 6, 2), gamma=0.3, kind=kind)
    before, chosen = module.weight.detach().clone(), targets(module.weight, 0.3, kind)
    share = module.prune_()
    assert torch.equal(module.weight, torch.where(chosen, 0.0, before))
    assert share == pytest.approx(float(chosen.double().mean()), abs=1e-12)
    assert isinstance(module.weight, nn.Parameter)
    assert module.weight.requires_grad
    assert module.prune_() == share  # zeros are the smallest: nothing more goes


@kinds
def test_gradients_follow_the_mask(kind):
    weight = torch.randn(6, 10, dtype=torch.float64, requires_grad=True)
    y = targeted_dropout(weight, 0.5, kind=kind)
    y.sum().backward()
    assert torch.equal(weight.grad, (y != 0).double())

    def call(w):
        return targeted_dropout(w, 0.5, kind=kind, generator=torch.Generator().manual_seed(2)) ** 2

    spread = (torch.arange(6.0, dtype=torch.float64) + 1).view(2, 3).requires_grad_()  # no step across a tie
    assert torch.autograd.gradcheck(call, spread)
    assert torch.autograd.gradgradcheck(call, spread)


def test_dropped_infinities_are_zero():
    weight = torch.tensor([[math.inf, math.nan, -math.inf, 1.0]])
    assert targeted_dropout(weight, 1.0, gamma=1.0).tolist() == [[0.0] * 4]


@kinds
@pytest.mark.parametrize("shape", [(0, 4), (4, 0), (3, 2, 0)])
def test_empty_weights(shape, kind):
    weight = torch.empty(shape, requires_grad=True)
    y = targeted_dropout(weight, 0.5, kind=kind)
    y.sum().backward()
    assert y.shape == weight.grad.shape == shape


@kinds
def test_types_and_layouts_share_decisions(kind):
    torch.manual_seed(0)
    weight = torch.randperm(6 * 4 * 9).view(6, 4, 3, 3).float() + 1  # to 216: exact in every type
    with dk.keyed(5):
        expected = targeted_dropout(weight, 0.5, kind=kind)
    for other in (weight.half(), weight.bfloat16(), weight.double(), weight.to(memory_format=torch.channels_last)):
        with dk.keyed(5):
            y = targeted_dropout(other, 0.5, kind=kind)
        assert y.dtype is other.dtype
        assert torch.equal(y.float(), expected)


@kinds
def test_compiled_at_any_rate(kind):
    torch.compiler.reset()
    module, graphs = TargetedDropout(nn.Conv2d(2, 5, 3), 0.5, kind=kind), []
    compiled = torch.compile(module, fullgraph=True, backend=lambda g, _: graphs.append(g) or g.forward)
    x = torch.randn(2, 2, 6, 5)
    for p in (0.5, 0.1, 0.0, 1.0):
        module.p = p
        with dk.keyed(1):
            y = module(x)
        with dk.keyed(1):
            assert torch.allclose(compiled(x), y, rtol=1e-6, atol=1e-6)
    assert len(graphs) == 1


def test_settings_are_shown_and_may_change():
    module, x = TargetedDropout(nn.Linear(10, 6), 1.0, 0.2, kind="unit"), torch.randn(3, 10)
    assert repr(module) == "TargetedDropout(in_features=10, out_features=6, bias=True, p=1.0, gamma=0.2, kind='unit')"
    module.gamma = 1.0
    assert torch.equal(module(x), module.bias.expand(3, 6))
    module.gamma = 1.5
    with pytest.raises(dk.InputError, match="gamma is the fraction"):
        module(x)


@pytest.mark.parametrize(("options", "text"), [({"gamma": 1.5}, "gamma is the fraction"), ({"gamma": True}, "gamma is the"),
                                               ({"kind": "row"}, 'kind is "weight" or "unit"; got \'row\''),
                                               ({"p": 2.0}, "probability of dropping")])
def test_wrong_settings_are_refused(options, text):
    for training in (True, False):
        with pytest.raises(dk.InputError, match=text):
            targeted_dropout(torch.ones(2, 3), training=training, **options)
    with pytest.raises(dk.InputError, match=text):
        TargetedDropout(nn.Linear(3, 2), **options)


@pytest.mark.parametrize("shape", [(), (3,)])
def test_vectors_are_refused(shape):
    with pytest.raises(dk.InputError, match=r"dimensions \(outputs, inputs, ...\)"):
        targeted_dropout(torch.ones(shape))
