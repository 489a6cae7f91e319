"""Rule DK304: an audit that is given a builder looks whether its rates reach the sites."""

from functools import partial

import pytest
import torch
from torch import nn

import dropkit as dk
from dropkit.audit.audit import audit
from dropkit.audit.builders import rate_arguments
from dropkit.audit.rules import dk304
from dropkit.audit.rules.dk304 import rates_reach

X = torch.ones(8, 16)


class Net(nn.Module):
    def __init__(self, dropout, hidden=0.2, path=nn.Identity):
        super().__init__()
        self.inner, self.first, self.second = nn.Linear(16, 64), nn.Dropout(dropout), nn.Dropout(hidden)
        self.path, self.head = path(), nn.Linear(64, 4)

    def forward(self, x):
        return self.head(self.second(self.path(self.first(torch.relu(self.inner(x))))))


class Skip(nn.Module):
    def __init__(self, p):
        super().__init__()
        self.p = p

    def forward(self, x):
        return x if self.training and torch.rand(()) < self.p else x + 1


def found(build, **options):
    return [(one.severity, one.subject) for one in audit(build, X, select=["DK304"], **options).findings]


@pytest.mark.parametrize(("source", "severities"), [(dk304.RULE.bad, ["error"]), (dk304.RULE.good, [])], ids=["bad", "good"])
def test_the_rule_s_twins(source, severities):
    scope = {"__name__": "audited"}
    exec(compile(source, "audited.py", "exec"), scope)
    assert [one.severity for one in rates_reach(scope["build"], scope["inputs"]())] == severities
    assert [severity for severity, _ in found(scope["build"])] == severities
    assert found(scope["build"]()) == []  # a model tells nothing of its builder


def test_a_rate_that_nothing_follows_is_an_error_at_the_sites_that_follow_none():
    assert found(lambda dropout=0.1: Net(0.5)) == [("error", "first")]  # and second: one line, one finding
    assert found(lambda dropout=0.1, hidden_dropout=0.1: Net(dropout)) == [("error", "second")]
    assert found(lambda dropout=0.1, hidden_dropout=0.1: Net(dropout, dropout)) == [("error", "hidden_dropout")]
    assert found(lambda dropout=0.1: nn.Linear(16, 4)) == [("error", "dropout")]


def test_a_constant_beside_a_rate_that_is_followed_is_a_note():
    assert found(lambda dropout=0.1: Net(dropout)) == [("note", "second")]
    assert found(lambda dropout=0.1: Net(dropout, 0.0)) == []
    assert found(lambda dropout=0.1: Net(dropout, dropout)) == []


def test_a_rate_that_acts_where_no_site_is_known_is_followed():
    assert found(lambda layer_drop=0.1: Net(0.0, 0.0, partial(Skip, layer_drop))) == []
    assert found(lambda layer_drop=0.1: Net(0.0, 0.0, partial(Skip, 0.1))) == [("error", "first")]


def test_a_class_is_a_builder_and_its_rate_needs_no_default():
    assert found(Net) == [("note", "second")]
    assert found(partial(Net, 0.1), rates=["hidden"]) == [("note", "first")]


def test_what_a_configuration_may_not_use_is_a_note():
    assert found(lambda **fields: Net(0.1, 0.1), rates=["classifier_dropout"]) == [("note", "first")]


def test_arguments_that_are_rates():
    def build(a, dropout, attn_drop=0, drop_last=False, dropouts=(0.1,), drop_seed=7, keep=0.5, *, drop_path_rate=0.2): ...

    assert rate_arguments(build) == ("dropout", "attn_drop", "drop_path_rate")
    assert rate_arguments(build, ["keep"]) == ("keep",)
    with pytest.raises(dk.InputError, match="rates are arguments of the builder"):
        rate_arguments(build, ["p"])


def test_a_builder_that_fails_is_said():
    with pytest.raises(dk.InputError, match=r"Linear\(\) builds a model; got TypeError"):
        audit(nn.Linear, X)
    with pytest.raises(dk.InputError, match=r"a torch.nn.Module; got int"):
        audit(lambda: 3, X)
    with pytest.raises(dk.InputError, match="rates are arguments of a builder"):
        audit(nn.ReLU(), X, rates=["dropout"])

    def fragile(dropout=0.1):
        return nn.Dropout(1 / dropout if dropout == 0.6 else dropout)

    (gap,) = audit(fragile, X).coverage.gaps
    assert gap.what == "rule DK304"
    assert "fragile(dropout=0.6)" in gap.why


def test_the_random_state_stays():
    state = torch.get_rng_state()
    rates_reach(lambda dropout=0.1: Net(dropout), X)
    assert torch.equal(state, torch.get_rng_state())
