"""A user's own training function, and LightningModules: paired, on keyed masks, scored and judged like any run."""

import random

import numpy as np
import pytest
import torch
from torch import nn

import dropkit as dk
from dropkit.core.errors import InputError
from dropkit.study.custom import fit_of
from dropkit.study.prepare import prepare
from dropkit.study.training import train
from dropkit.study.tuning.worker import blind, evaluate


def build():
    return nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Dropout(0.5), nn.Linear(8, 3))


def own(function, **fields):
    return prepare(dk.Experiment(model=build, train=function, metric="accuracy", **fields))


def scores(model, arm, seed):
    return {"test": 0.75, "val": 0.5, "train": 1.0}


def test_a_run_holds_what_the_function_returned():
    ready = own(scores)
    run = train(ready, ready.arm("intended"), 3)
    assert (run.arm, run.seed, run.status) == ("intended", 3, "finished")
    assert (run.test_metric, run.val_metric, run.train_eval_metric, run.gap) == (0.75, 0.5, 1.0, 0.25)


def test_the_function_gets_the_arms_rates_and_alike_random_states():
    seen = []

    def spy(model, arm, seed):
        draws = (torch.rand(1).item(), random.random(), np.random.rand())
        seen.append((arm.name, model[2].p, model[0].weight[0, 0].item(), draws))
        return {"test": 0.5}
    ready = own(spy)
    for arm in ready.arms:
        for seed in (0, 1):
            train(ready, arm, seed)
    assert [(name, p) for name, p, *_ in seen[::2]] == [("none", 0.0), ("reduced", 0.25), ("intended", 0.5)]
    assert seen[0][2:] == seen[2][2:] == seen[4][2:]  # one seed: the same weights and draws in every arm
    assert seen[0][2:] != seen[1][2:]


def test_masks_are_keyed_and_fresh_at_each_step():
    masks = []

    def spy(model, arm, seed):
        before = torch.get_rng_state()
        masks.append([model.train()[2](torch.ones(200)) for _ in range(2)])
        assert torch.equal(torch.get_rng_state(), before)  # dropout has drawn nothing from torch's generator
        return {"test": 0.5}
    ready = own(spy)
    for seed in (0, 0, 1):
        train(ready, ready.arm("intended"), seed)
    assert not torch.equal(masks[0][0], masks[0][1])
    assert all(torch.equal(one, other) for one, other in zip(masks[0], masks[1], strict=True))
    assert not torch.equal(masks[0][0], masks[2][0])


def test_an_accuracy_in_percent_is_refused():
    ready = own(lambda model, arm, seed: {"test": 93.0})
    with pytest.raises(InputError, match=r"share in \[0, 1\].*Divide percentages by 100"):
        train(ready, ready.arms[0], 0)


@pytest.mark.parametrize("returned", [None, 0.5, {"val": 0.5}, {"test": 0.5, "loss": 1.0}, {"test": float("nan")},
                                      {"test": "x"}])
def test_other_returns_are_refused(returned):
    ready = own(lambda model, arm, seed: returned)
    with pytest.raises(InputError, match=r"train returns|finite numbers"):
        train(ready, ready.arms[0], 0)


@pytest.mark.parametrize("fields", [
    {"train": scores, "metric": "accuracy"}, {"train": scores, "model": build}, {"train": 3, "model": build, "metric": "nll"},
    {"train": scores, "model": build, "metric": "bleu"}, {"train": scores, "model": build, "metric": "nll", "data": "iris"},
    {}])
def test_an_experiment_that_cannot_be_is_refused(fields):
    with pytest.raises(InputError):
        dk.Experiment(**fields)


def test_a_metric_of_any_name_has_a_direction():
    assert own(scores).higher_is_better
    ready = prepare(dk.Experiment(model=build, train=scores, metric="bleu", higher_is_better=True))
    assert (ready.metric_name, ready.higher_is_better) == ("bleu", True)


def test_what_only_dropkits_loop_does_is_refused():
    with pytest.raises(InputError, match="an arm changes rates and model, not how it is trained; got label_smoothing"):
        prepare(dk.Experiment(model=build, train=scores, metric="accuracy"),
                {"none": 0.0, "smooth": dk.arm(1.0, label_smoothing=0.1)})


def test_a_tuning_takes_the_validation_metric():
    ready = blind(own(scores))
    assert evaluate(ready, {"2": 0.3}, 0).value == 0.5
    with pytest.raises(InputError, match="returns no 'val'"):
        evaluate(blind(own(lambda model, arm, seed: {"test": 0.5})), {"2": 0.3}, 0)


def test_a_plain_module_is_trained_by_dropkit():
    assert fit_of(build()) is None


@pytest.mark.slow
def test_a_study_of_an_own_training_has_a_verdict_and_a_report(tmp_path):
    def drops(model, arm, seed):
        noise = torch.randn(1, generator=torch.Generator().manual_seed(seed)).item()
        return {"test": 0.8 + 0.1 * model[2].p + 0.01 * noise, "val": 0.8}
    result = dk.study(dk.Experiment(model=build, train=drops, metric="accuracy", name="mine"), seeds=5, out=tmp_path / "out",
                      jobs=1, progress=False)
    assert result.verdict.kind == "helps"
    assert result.table().loc["intended", "difference"] == pytest.approx(0.05)
    page = result.report().read_text(encoding="utf-8")
    assert "mine" in page
    assert "the training function" in page
