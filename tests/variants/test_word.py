import math

import pytest
import torch

import dropkit as dk
from dropkit.variants.dropout import dropout
from dropkit.variants.word import WordDropout, word_dropout

INTEGERS = [torch.uint8, torch.int8, torch.int16, torch.int32, torch.int64]


def hoeffding(count):
    """How far the mean of independent values in [0, 1] strays from its expectation, but for one time in a million."""
    return math.sqrt(math.log(2 / 1e-6) / (2 * count))


@pytest.mark.parametrize("dtype", INTEGERS)
def test_tokens_are_kept_or_unknown_and_keep_their_type(dtype):
    torch.manual_seed(0)
    tokens = torch.randint(10, 100, (40, 50), dtype=dtype)
    y = word_dropout(tokens, 0.4, unknown=3)
    assert y.dtype is dtype
    assert bool(((y == tokens) | (y == 3)).all())
    assert abs(float((y == 3).double().mean()) - 0.4) < hoeffding(2000)


def test_the_mask_is_that_of_dropout():
    tokens = torch.randint(1, 9, (6, 7))
    with dk.keyed(1):
        y = word_dropout(tokens, 0.3, unknown=0)
    with dk.keyed(1):
        assert torch.equal(y == 0, dropout(torch.ones(6, 7), 0.3) == 0)


def test_special_tokens_and_padding_are_never_replaced():
    torch.manual_seed(2)
    tokens = torch.randint(0, 6, (100, 30))
    special = (tokens == 0) | (tokens == 2) | (tokens == 5)
    y = word_dropout(tokens, 1.0, unknown=9, protected=(0, 2, 5))
    assert torch.equal(y, torch.where(special, tokens, 9))
    z = word_dropout(tokens, 0.5, unknown=9, protected=(0, 2, 5))
    assert torch.equal(z[special], tokens[special])
    assert abs(float((z[~special] == 9).double().mean()) - 0.5) < hoeffding(int((~special).sum()))


@pytest.mark.parametrize("shape", [(4, 6), (6,), (4, 1), (1, 1), ()])
def test_only_places_of_the_mask_are_replaced(shape):
    torch.manual_seed(3)
    tokens = torch.randint(2, 9, (4, 6))
    for mask in (torch.rand(shape) < 0.5, torch.ones(shape, dtype=torch.bool), torch.zeros(shape, dtype=torch.bool)):
        y = word_dropout(tokens, 1.0, unknown=1, protected=(4,), mask=mask)
        assert torch.equal(y, torch.where(mask & (tokens != 4), 1, tokens))


def test_protection_leaves_other_decisions_alone():
    tokens = torch.randint(2, 9, (20, 30))
    outcomes = []
    for protected in ((), (4, 5)):
        with dk.keyed(4):
            outcomes.append(word_dropout(tokens, 0.5, unknown=0, protected=protected))
    free = (tokens != 4) & (tokens != 5)
    assert torch.equal(outcomes[0][free], outcomes[1][free])


def test_tokens_themselves_are_left_alone():
    tokens = torch.arange(50)
    before = tokens.clone()
    word_dropout(tokens, 0.9, unknown=7)
    assert torch.equal(tokens, before)
    assert word_dropout(tokens, 0.9, False, unknown=7) is tokens
    assert word_dropout(tokens, 0.0, unknown=7) is tokens


@pytest.mark.parametrize("shape", [(), (0,), (3, 0)])
def test_small_shapes_pass(shape):
    y = word_dropout(torch.ones(shape, dtype=torch.int64), 1.0, unknown=5)
    assert y.shape == shape
    assert bool((y == 5).all())


def test_modules_pass_their_settings_on():
    tokens, mask = torch.randint(0, 9, (10, 12)), torch.rand(10, 12) < 0.7
    module = WordDropout(0.4, unknown=3, protected=[0, 1])
    with dk.keyed(5):
        y = module(tokens, mask)
    with dk.keyed(5):
        assert torch.equal(y, word_dropout(tokens, 0.4, unknown=3, protected=(0, 1), mask=mask))
    assert bool((y != tokens).any())
    assert repr(module) == "WordDropout(p=0.4, unknown=3, protected=(0, 1))"


@pytest.mark.parametrize(("tokens", "settings", "text"), [
    *((torch.ones(3, dtype=dtype), {}, "tokens are a tensor of integers") for dtype in
      (torch.float32, torch.bool, torch.complex64)),
    ([1, 2], {}, r"tokens are a tensor of integers; got \[1, 2\]"),
    (torch.ones(3, dtype=torch.int64), {"unknown": 1.5}, "tokens have integer numbers"),
    (torch.ones(3, dtype=torch.int64), {"protected": (1, "2")}, "tokens have integer numbers"),
    (torch.ones(3, dtype=torch.int64), {"protected": (True,)}, "tokens have integer numbers"),
    (torch.ones(3, dtype=torch.int64), {"protected": 1}, "tokens have integer numbers; got 1"),
    (torch.ones(3, dtype=torch.uint8), {"unknown": 256}, "a number that torch.uint8 holds; got 256"),
    (torch.ones(3, dtype=torch.int8), {"unknown": -129}, "a number that torch.int8 holds; got -129"),
    (torch.ones(3, dtype=torch.int64), {"mask": torch.ones(3)}, "mask is a bool tensor.*; got torch.float32"),
    (torch.ones(3, dtype=torch.int64), {"mask": [True] * 3}, "mask is a bool tensor"),
    (torch.ones(3, dtype=torch.int64), {"mask": torch.ones(2, dtype=torch.bool)}, r"mask broadcasts to the tokens; got \(2,\)"),
    (torch.ones(3, dtype=torch.int64), {"mask": torch.ones(2, 3, dtype=torch.bool)}, "mask broadcasts to the tokens"),
    (torch.ones(3, dtype=torch.int64), {"p": 2}, r"in \[0, 1\]; got 2"),
])
def test_errors(tokens, settings, text):
    with pytest.raises(dk.InputError, match=text):
        word_dropout(tokens, **settings)


@pytest.mark.parametrize("settings", [{"unknown": None}, {"unknown": True}, {"protected": (0.5,)}, {"protected": 3}, {"p": -1}])
def test_modules_refuse_at_once(settings):
    with pytest.raises(dk.InputError):
        WordDropout(**settings)
