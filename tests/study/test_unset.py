"""Dropout that a study does not set is found before the first run, told once, and nothing else is."""

import random

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F

import dropkit as dk
from dropkit.study.fingerprint import fingerprint
from dropkit.study.prepare import prepare
from dropkit.study.result import load_result
from dropkit.study.unset import unset_sites, unset_words

X, LABELS = torch.randn(40, 4, generator=torch.Generator().manual_seed(0)), torch.arange(40) % 3
TOLD = "Dropout that the study does not set acts in every arm"


class Net(nn.Module):
    """One dropout module that a study sets, and what a subclass does between the layers."""

    def __init__(self, p=0.1):
        super().__init__()
        self.p, self.enter, self.norm, self.out = p, nn.Linear(4, 8), nn.BatchNorm1d(8), nn.Linear(8, 3)
        self.drop = nn.Dropout(0.1)

    def between(self, h):
        return h

    def forward(self, x):
        return self.out(self.drop(self.between(self.norm(self.enter(x)))))


class Heeds(Net):
    def between(self, h):
        return F.dropout(h, 0.9, training=self.training)


class Ignores(Net):
    def between(self, h):
        return F.dropout(h, 0.9)


class Attends(Net):
    def between(self, h):
        tokens = h.unsqueeze(-1)
        return F.scaled_dot_product_attention(tokens, tokens, tokens, dropout_p=0.2 if self.training else 0.0).squeeze(-1)


class Argument(Net):
    def between(self, h):
        return F.dropout(h, self.p, training=self.training)


class Off(Net):
    def between(self, h):
        return F.dropout(F.dropout(h, 0.9, training=False), 0.0, training=self.training)


class Follows(Net):
    def between(self, h):
        return F.dropout(h, self.drop.p, training=self.training)


class Lazy(Net):
    def __init__(self):
        super().__init__()
        self.enter = nn.LazyLinear(8)

    def between(self, h):
        return F.dropout(h, 0.9, training=self.training)


class Untraced(Net):
    """A model that fails on the few examples that it is watched on, and on no more."""

    def forward(self, x):
        if len(x) == 2 and self.training:
            raise RuntimeError("too few")
        return super().forward(F.dropout(x, 0.9, training=self.training))


class Set(nn.Sequential):
    def __init__(self, p=0.3):
        super().__init__(nn.Linear(4, 8), nn.Dropout(p), nn.Linear(8, 3))


def lines(model):
    """Where the model's own code drops."""
    return f"test_unset.py:{model.between.__code__.co_firstlineno + 1}"


def ready(model, **fields):
    return prepare(dk.Experiment(data=(X, LABELS), model=model, **fields))


@pytest.mark.parametrize(("model", "fields", "named", "remedy"), [
    (Heeds, {}, f"a call of dropout with p = 0.9 at {lines(Heeds)}.", "use dk.nn.Dropout in its place"),
    (Ignores, {}, f"a call of dropout with p = 0.9 at {lines(Ignores)}, in evaluation too.", "use dk.nn.Dropout in its place"),
    (Lazy, {}, f"a call of dropout with p = 0.9 at {lines(Lazy)}.", "use dk.nn.Dropout in its place"),
    (Argument, {}, f"a call of dropout with p = 0.1 at {lines(Argument)}.", "name it in rates={...} with all the others"),
    (Argument, {"rates": {"p": 0.3}}, "Dropout 'drop' with p = 0.1.", "name it in rates={...} beside 'p'"),
], ids=["heeds", "ignores", "lazy", "functional", "fixed module"])
def test_dropout_that_no_arm_sets_is_told_and_no_arm_is_called_without(model, fields, named, remedy):
    found = ready(model, **fields)
    caution, = found.cautions
    assert caution.startswith(f"{TOLD}, whatever its rates: {named} So the study tells what the rates that it sets are worth "
                              "on top of it. To make it part of the study, ")
    assert remedy in caution
    assert [arm.description.partition(";")[0] for arm in found.arms] == [
        "no dropout but what the study does not set", "half the intended rates", "the intended rates"]


def test_attention_with_a_rate_of_its_own_is_told():
    caution, = ready(Attends).cautions
    assert "a call of scaled_dot_product_attention with p = 0.2 at test_unset.py:" in caution
    assert "use dk.nn.ScaledDotProductAttention in its place" in caution


@pytest.mark.parametrize(("model", "fields"), [
    (Net, {}), (Off, {}), (Follows, {}), (Set, {}), (Set, {"rates": {"p": 0.3}}), (Untraced, {}),
    (lambda: nn.Sequential(nn.Unflatten(1, (4, 1)), nn.TransformerEncoderLayer(1, 1, 4, 0.1, batch_first=True), nn.Flatten(),
                           nn.Linear(4, 3)), {}),
], ids=["set", "off", "follows", "module", "argument", "untraced", "transformer"])
def test_dropout_that_the_study_sets_or_that_is_off_is_not_told(model, fields):
    found = ready(model, **fields)
    assert found.cautions == []
    assert found.arms[0].description.startswith("no dropout;")


def test_it_is_told_where_no_arm_drops_nothing_too():
    found = prepare(dk.Experiment(data=(X, LABELS), model=Heeds), {"reduced": 0.5, "intended": 1.0})
    assert lines(Heeds) in found.cautions[0]


def test_each_place_is_named_once_and_the_many_are_counted():
    class Shared(nn.Module):
        def forward(self, x):
            return F.dropout(x, 0.5, training=self.training)

    shared = unset_sites(lambda: nn.Sequential(Shared(), Shared()), X[:2])
    assert unset_words(shared, {}).count("(in 2 modules).") == 1
    many = unset_sites(lambda: nn.Sequential(*[nn.Dropout(0.1) for _ in range(10)]), X[:2])
    assert "Dropout '7' with p = 0.1 and 2 more, which dk.sites(model, inputs) lists." in unset_words(many, {})


def test_looking_moves_no_random_state_and_is_left_out_in_workers():
    experiment = dk.Experiment(data=(X, LABELS), model=Heeds)

    def states():
        return torch.get_rng_state().tolist(), random.getstate(), np.random.get_state()[1].tolist()

    before = states()
    driver = prepare(experiment)
    assert states() == before
    worker = prepare(experiment, check=False)
    assert worker.cautions == []
    assert fingerprint(worker) == fingerprint(driver)


def test_the_models_own_draws_while_it_is_watched_are_undone():
    class Draws(nn.Module):
        def forward(self, x):
            return x * random.random() * float(np.random.rand())

    def states():
        return torch.get_rng_state().tolist(), random.getstate(), np.random.get_state()[1].tolist(), np.random.get_state()[2]

    before = states()
    assert [site.name for site in unset_sites(lambda: nn.Sequential(nn.Linear(4, 4), Draws(), nn.Dropout(0.2)), X[:2])] == ["2"]
    assert states() == before


def test_experiments_with_their_own_training_are_not_watched():
    found = prepare(dk.Experiment(model=Heeds, train=lambda model, arm, seed: {"test": 0.5}, metric="accuracy"))
    assert found.cautions == []


def test_a_study_keeps_it_among_its_cautions(tmp_path):
    result = dk.study(dk.Experiment(data=(X, LABELS), model=Heeds, epochs=1), seeds=1, arms="none,intended", out=tmp_path,
                      progress=False, engine="serial", fused=False)
    assert result.cautions[0].startswith(TOLD)
    assert load_result(tmp_path).cautions == result.cautions
    assert load_result(tmp_path).arms[0].description.startswith("no dropout but what the study does not set")


def test_a_lightning_module_is_watched_by_its_forward():
    lightning = pytest.importorskip("lightning.pytorch")

    class Lit(lightning.LightningModule):
        def __init__(self):
            super().__init__()
            self.net = Heeds()

        def forward(self, x):
            return self.net(x)

    caution, = ready(Lit).cautions
    assert f"a call of dropout with p = 0.9 at {lines(Heeds)}." in caution


def test_a_verdict_does_not_speak_of_training_without_what_acts_everywhere(tmp_path):
    """Words alone: with everything else equal, they change with what the model does beside its modules."""
    said = {}
    for model in (Heeds, Off):
        result = dk.study(dk.Experiment(data=(X, LABELS), model=model, epochs=1), arms="none,intended", seeds=2,
                          out=tmp_path / model.__name__, engine="serial", progress=False)
        said[model] = result.verdict.sentence
    assert "arm 'none'" in said[Heeds]
    assert "without" not in said[Heeds]
    assert "without" in said[Off]
