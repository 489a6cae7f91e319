import inspect

import pytest
import torch
from torch.nn import functional as F

import dropkit as dk
from dropkit.surgery.functional import RULES, read

X = torch.randn(4, 6, 5, 3, generator=torch.Generator().manual_seed(0))
TORCH = [function for function, rule in RULES.items() if not rule.ours and rule.always]
IDS = [f"{function.__module__}.{function.__name__}" for function in TORCH]
INPLACE = (torch.dropout_, torch.alpha_dropout_, torch.feature_alpha_dropout_, torch.feature_dropout_)


def data(function):
    return X[0].clone() if function is F.dropout1d else torch.cat([X, X], -1)[..., None].clone() \
        if function is F.dropout3d else X.clone()



def plain(y):
    return y[0] if isinstance(y, tuple) else y


def test_every_row_of_the_catalog_has_a_rule():
    assert {getattr(dk.functional, row.function.__name__) for row in dk.catalog()} <= set(RULES)
    assert all(RULES[getattr(dk.functional, row.function.__name__)].kind == row.name for row in dk.catalog())


@pytest.mark.parametrize("name", dk.functional.__all__)
def test_parameters_and_defaults_are_those_of_the_signature(name):
    rule = RULES.get(getattr(dk.functional, name))
    if rule is None:  # a loss or a helper
        assert name in ("drop_connect_moments", "edge_weights", "multi_sample_loss", "r_drop_loss", "variational_kl")
        return
    parameters = inspect.signature(getattr(dk.functional, name)).parameters
    assert list(rule.parameters) == list(parameters)
    assert rule.rate is None or rule.defaults == (parameters[rule.rate].default, parameters["training"].default)


def test_kinds_are_those_of_the_catalog():
    assert {rule.kind for rule in RULES.values()} == {row.name for row in dk.catalog()}


@pytest.mark.parametrize("function", TORCH, ids=IDS)
def test_positions_and_names_are_read_alike(function):
    x, flag = data(function), "training" if function.__name__ in dir(F) and function.__module__ == F.__name__ else "train"
    by_position = read(function, (x, 0.3, False), {})
    by_name = read(function, (), {"input": x, "p": 0.3, flag: False})
    assert by_position.arguments == by_name.arguments
    assert (by_position.p, by_position.training) == (0.3, False)


@pytest.mark.parametrize("function", [F.dropout, F.dropout1d, F.dropout2d, F.dropout3d, F.alpha_dropout,
                                      F.feature_alpha_dropout])
def test_defaults_are_torchs(function):
    call = read(function, (X,), {})
    assert (call.p, call.training) == (0.5, "alpha" not in function.__name__)


@pytest.mark.parametrize("function", TORCH, ids=IDS)
def test_in_evaluation_and_without_dropout_torch_runs(function):
    x = data(function)
    state = torch.get_rng_state()
    for call in (read(function, (x, 0.5, False), {}), read(function, (x, 0.0, True), {})):
        assert torch.equal(plain(call.dropped(call.p, "s")), x)
    assert torch.equal(plain(read(function, (x, 0.5, True), {}).without_dropout()), x)
    assert torch.equal(torch.get_rng_state(), state)


@pytest.mark.parametrize("function", TORCH, ids=IDS)
def test_the_masks_are_dropkits_with_torchs_shape(function):
    rule = RULES[function]
    ours = getattr(dk.functional, rule.kind)
    x = data(function)
    with dk.keyed(3):
        y = read(function, (x.clone(), 0.5, True), {}).dropped(0.5, "head")
    with dk.keyed(3):
        expected = ours(x, 0.5, stream="head")
    assert torch.equal(plain(y), expected)
    assert not torch.equal(expected, x)


def test_the_mask_of_native_dropout_is_the_one_used():
    y, mask = read(torch.native_dropout, (X, 0.5, True), {}).dropped(0.5, None)
    assert mask.dtype is torch.bool
    assert torch.equal(y, torch.where(mask, X * 2, 0))


@pytest.mark.parametrize("function", [F.dropout, *INPLACE])
def test_in_place_writes_into_the_input(function):
    x = X.clone()
    kwargs = {"inplace": True} if function is F.dropout else {}
    y = read(function, (x, 0.5, True), kwargs).dropped(0.5, None)
    assert y is x
    assert not torch.equal(x, X)


def test_another_rate_than_the_calls_own():
    assert torch.equal(read(F.dropout, (X, 0.1), {}).dropped(1.0, None), torch.zeros_like(X))
    assert torch.equal(read(dk.functional.dropout, (X, 0.1), {}).dropped(1.0, None), torch.zeros_like(X))
    assert torch.equal(read(F.dropout, (X, 1.0), {}).dropped(0.0, None), X)


def test_a_rate_of_zero_counts_as_a_use():
    ones = torch.ones(100)
    with dk.keyed(0):
        read(F.dropout, (ones, 0.0), {}).dropped(0.0, "a")
        second = read(F.dropout, (ones, 0.5), {}).dropped(0.5, "a")
    with dk.keyed(0):
        read(F.dropout, (ones, 0.5), {}).dropped(0.5, "a")
        assert torch.equal(read(F.dropout, (ones, 0.5), {}).dropped(0.5, "a"), second)


def test_attention_is_a_site_only_with_a_rate():
    q = torch.randn(1, 2, 3, 4)
    attend = F.scaled_dot_product_attention
    assert read(attend, (q, q, q), {}) is None
    assert read(dk.functional.scaled_dot_product_attention, (q, q, q), {}) is None
    assert read(attend, (q, q, q, None, 0.0), {}).p == 0.0
    assert read(attend, (q, q, q), {"dropout_p": 0.2}).p == 0.2


@pytest.mark.parametrize(("mask", "causal"), [(None, False), ("bool", False), ("float", False), (None, True)])
def test_attention_at_a_tiny_rate_is_torchs(mask, causal):
    """At a rate below 2^-33 nothing is dropped and the scale is 1 to twelve digits: what remains is the arithmetic."""
    generator = torch.Generator().manual_seed(0)
    q, k, v = (torch.randn(2, 2, 5, 4, generator=generator, dtype=torch.float64) for _ in range(3))
    masks = {None: None, "bool": torch.ones(5, 5, dtype=torch.bool).tril(),
             "float": torch.randn(5, 5, dtype=torch.float64, generator=generator)}
    arguments = {"attn_mask": masks[mask], "is_causal": causal, "scale": 0.7}
    y = read(F.scaled_dot_product_attention, (q, k, v), {**arguments, "dropout_p": 1e-12}).dropped(1e-12, None)
    torch.testing.assert_close(y, F.scaled_dot_product_attention(q, k, v, **arguments), rtol=1e-12, atol=1e-12)


def test_own_streams_and_generators_win():
    ones = torch.ones(50)
    with dk.keyed(1):
        mine = dk.functional.dropout(ones, stream="mine")
    with dk.keyed(1):
        assert torch.equal(read(dk.functional.dropout, (ones,), {"stream": "mine"}).dropped(0.5, "other"), mine)


def test_what_drops_nothing_is_no_call():
    assert read(torch.relu, (X,), {}) is None
