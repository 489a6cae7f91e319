"""A label at each position of an example: data, losses, scores, fused runs and whole studies."""

import math
import sys

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.nn import functional as F

import dropkit as dk
from dropkit.core.errors import InputError
from dropkit.study.data import load
from dropkit.study.fused import train_fused
from dropkit.study.objectives import loss_of, metric_of
from dropkit.study.positions import IGNORED, counted
from dropkit.study.prepare import prepare
from dropkit.study.training import train


def tokens(n=60, length=6, kinds=8, padded=True):
    """Sequences whose label is whether the token is odd, the last positions of some without one."""
    generator = torch.Generator().manual_seed(0)
    x = torch.randint(kinds, (n, length), generator=generator)
    y = x % 2
    if padded:
        y[: n // 2, -2:] = IGNORED
    return x, y


def position_wise():
    return nn.Sequential(nn.Linear(3, 16), nn.ReLU(), nn.Dropout(0.3), nn.Linear(16, 2))


def embedded():
    return nn.Sequential(nn.Embedding(8, 12), nn.Dropout(0.3), nn.Linear(12, 2))


def test_labels_of_positions_are_kept():
    x, y = tokens()
    data = load((x, y), task="sequence")
    assert (data.task, data.classes) == ("sequence", ("0", "1"))
    assert torch.equal(data.x_train, x)
    assert torch.equal(data.y_train, y)


def test_a_vocabulary_may_have_words_that_do_not_occur():
    assert load((np.ones((10, 2)), np.tile([3, 7], (10, 1))), task="sequence").classes == tuple("01234567")


def test_text_labels_are_sorted():
    data = load({"train": (np.ones((8, 2)), np.tile(["verb", "noun"], (8, 1))),
                 "test": (np.ones((2, 2)), np.tile(["adverb", "noun"], (2, 1)))}, task="sequence")
    assert data.classes == ("adverb", "noun", "verb")
    assert (data.y_train[0].tolist(), data.y_test[0].tolist()) == ([2, 1], [0, 1])


@pytest.mark.parametrize(("y", "said"), [
    (np.zeros(10, int), r"a label for each position, \(N, T\); got y of shape \(10,\)"),
    (np.tile([0, -1], (10, 1)), "-100 marks positions without one; got -1"),
    (np.tile([0.5, 1], (10, 1)), "labels are whole numbers"),
    (np.tile([1, 1], (10, 1)), "at least two classes"),
    (np.vstack([np.tile([0, 1], (9, 1)), [[-100, -100]]]), "none in number 9 of train"),
])
def test_what_is_no_sequence_target(y, said):
    with pytest.raises(InputError, match=said):
        load((np.ones((10, 2)), y), task="sequence")


def test_labels_of_positions_without_the_task_are_told_of_it():
    with pytest.raises(InputError, match="choose task='sequence' for a label a position"):
        load(tokens())


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 2**32 - 1))
def test_positions_without_a_label_count_for_nothing_and_all_others_alike(seed):
    generator = torch.Generator().manual_seed(seed)
    out = torch.randn(4, 5, 3, generator=generator, requires_grad=True)
    y = torch.randint(3, (4, 5), generator=generator)
    y[torch.rand(4, 5, generator=generator) < 0.4] = IGNORED
    y[0, 0] = 1
    kept = y != IGNORED
    loss = loss_of(dk.Experiment(data=tokens(), task="sequence"), "sequence")[1](out, y)
    torch.testing.assert_close(loss, F.cross_entropy(out[kept], y[kept]))
    loss.backward()
    assert (out.grad[~kept] == 0).all()
    found = {name: metric_of(dk.Experiment(data=tokens(), task="sequence", metric=name), "sequence")[1](out.detach(), y)
             for name in ("accuracy", "nll", "perplexity")}
    assert found["accuracy"] == pytest.approx(float((out.argmax(-1)[kept] == y[kept]).float().mean()))
    assert found["nll"] == pytest.approx(loss.item(), rel=1e-5)
    assert found["perplexity"] == pytest.approx(math.exp(found["nll"]))


def test_scores_of_a_run_are_those_of_its_positions():
    ready = prepare(dk.Experiment(data=tokens(), task="sequence", model=embedded, epochs=2))
    seen = []
    run = train(ready, ready.arms[0], 0, lambda *_: seen.append(1))
    assert len(seen) == 2
    assert run.reliability is not None
    assert sum(bar.count for bar in run.reliability) == int((ready.part(0).y_test != IGNORED).sum())
    assert run.test_loss == pytest.approx(run.nll, rel=1e-5)
    assert 0 <= run.brier <= 2
    assert run.instruments["gradient_norm"]


@pytest.mark.parametrize("dims", [1, 2])
@pytest.mark.parametrize("build", [position_wise, embedded])
def test_fused_runs_are_single_ones(build, dims):
    """The chain of layers and vmap both know positions without a label, also where these have two dimensions."""
    x, y = tokens(48)
    y[1, 1:] = IGNORED  # so that batches' positions differ in number
    if dims == 2:
        x, y = x.unflatten(1, (2, 3)), y.unflatten(1, (2, 3))
    if build is position_wise:
        x = F.one_hot(x % 3, 3).float()
    ready = prepare(dk.Experiment(data=(x, y), task="sequence", model=build, epochs=2, batch_size=7))
    runs = [(arm, seed) for seed in (0, 1) for arm in ready.arms]
    for (arm, seed), fused in zip(runs, train_fused(ready, runs), strict=True):
        single = train(ready, arm, seed)
        assert fused.history["train_loss"] == pytest.approx(single.history["train_loss"], rel=1e-4)
        assert fused.test_loss == pytest.approx(single.test_loss, rel=1e-4)


def test_the_default_network_learns_what_it_reads(tmp_path):
    """Tokens and numbers, with label smoothing and an ensemble, by the network that comes with the library."""
    result = dk.study(dk.Experiment(data=tokens(120), task="sequence", epochs=10, lr=0.02, batch_size=16),
                      arms="none,label_smoothing=0.1,members=2", seeds=2, out=tmp_path / "ids", jobs=1, progress=False)
    assert all(run.test_metric == 1.0 for run in result.runs if run.arm != "members=2")
    assert (result.summary.task, result.summary.metric) == ("sequence", "accuracy")
    assert not any("test examples" in caution for caution in result.cautions)
    x, y = tokens(120)
    numbers = dk.study(
        dk.Experiment(data=(F.one_hot(x, 8).float(), y), task="sequence", metric="perplexity", epochs=10, lr=0.02),
        seeds=2, arms="none,factor=0.1", out=tmp_path / "numbers", jobs=1, progress=False)
    assert all(1.0 <= run.test_metric < 1.1 for run in numbers.runs)
    assert not numbers.summary.higher_is_better
    assert numbers.report().stat().st_size > 0


def test_a_run_that_diverged_scores_like_the_commonest_label(tmp_path):
    x, y = tokens(60)
    y[y == 1] = 0
    y[:2, :3] = 1
    parts = dict.fromkeys(("train", "val", "test"), (x, y))
    result = dk.study(dk.Experiment(data=parts, task="sequence", model=embedded, optimizer="sgd", lr=1e30, epochs=2),
                      arms="none,intended", seeds=1, out=tmp_path, progress=False, engine="serial")
    assert result.runs[0].status == "diverged"
    assert result.runs[0].test_metric == pytest.approx(float((counted(torch.zeros(*y.shape, 2), y)[1] == 0).float().mean()))


@pytest.mark.parametrize(("model", "said"), [
    (lambda: nn.Sequential(nn.Embedding(8, 12), nn.Dropout(0.3), nn.Flatten(), nn.Linear(72, 2)), r"\(N, 6, 2\) or wider"),
    (lambda: nn.Sequential(nn.Embedding(8, 12), nn.Dropout(0.3), nn.Linear(12, 1)), r"\(N, 6, 2\) or wider, classes last"),
])
def test_outputs_of_another_shape_are_refused(model, said):
    with pytest.raises(InputError, match=said):
        prepare(dk.Experiment(data=tokens(), task="sequence", model=model))


def test_outputs_that_would_fill_the_memory_are_refused(monkeypatch):
    monkeypatch.setattr(sys.modules["dropkit.study.prepare"], "_MOST_OUTPUTS", 1000)
    with pytest.raises(InputError, match="keeps the outputs of an epoch"):
        prepare(dk.Experiment(data=tokens(), task="sequence", model=embedded))


def test_inputs_that_the_default_network_cannot_read_are_refused():
    with pytest.raises(InputError, match="Pass model= with a builder of your own"):
        prepare(dk.Experiment(data=(torch.randn(20, 3), tokens(20)[1]), task="sequence"))


@pytest.mark.parametrize(("options", "said"), [({"loss": "mse"}, "'mse' is for regression"),
                                               ({"metric": "rmse"}, "'rmse' is for regression")])
def test_losses_and_metrics_of_numbers_are_refused(options, said):
    with pytest.raises(InputError, match=said):
        prepare(dk.Experiment(data=tokens(), task="sequence", **options))
