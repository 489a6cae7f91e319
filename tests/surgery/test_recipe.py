"""Steps of which all or none happen, and that are taken back exactly."""

import copy

import pytest
import torch
from torch import nn

import dropkit as dk
from dropkit.schedules import early, late, linear
from dropkit.surgery.recipe import PresetSchedule, Steps
from dropkit.surgery.sources import LIU


def build():
    torch.manual_seed(0)
    return nn.ModuleDict({"words": nn.Embedding(5, 4), "lstm": nn.LSTM(4, 4), "drop": nn.Dropout(0.5), "out": nn.Linear(4, 5)})


def surroundings(model):
    return [(name, id(module), list(vars(module)), list(module._modules), len(module._forward_hooks), module.training)
            for name, module in model.named_modules()]


def apply(steps):
    steps.set_rate({"drop": 0.2})
    steps.replace("words", dk.nn.EmbeddingDropout(steps.model["words"], 0.1))
    steps.replace("lstm", dk.nn.WeightDrop(steps.model["lstm"], 0.5))
    steps.insert({"words": dk.nn.Dropout(0.3), "lstm": dk.nn.Dropout(0.3)})


def test_all_steps_and_back():
    model = build()
    before, keys = surroundings(model), list(model.state_dict())
    with Steps(model) as steps:
        apply(steps)
    done = steps.done("example", LIU)
    assert [(site.name, site.kind, site.p) for site in done.sites] == [
        ("words", "embedding_dropout", 0.1), ("words.after_dropout", "dropout", 0.3), ("lstm", "weight_drop", 0.5),
        ("lstm.after_dropout", "dropout", 0.3), ("drop", "dropout", 0.2)]
    assert list(model.state_dict()) == keys
    done.undo()
    assert surroundings(model) == before
    assert model["drop"].p == 0.5
    with pytest.raises(dk.InputError, match="a preset is undone once"):
        done.undo()


def test_a_failing_step_takes_the_others_back():
    model = build()
    before = surroundings(model)

    def fail():
        with Steps(model) as steps:
            apply(steps)
            steps.insert({"nothing": dk.nn.Dropout()})

    with pytest.raises(dk.InputError, match="nothing"):
        fail()
    assert surroundings(model) == before
    assert model["drop"].p == 0.5


def test_training_survives_the_way_back():
    model = build()
    with Steps(model) as steps:
        apply(steps)
    done = steps.done("example", LIU)
    new = {name: torch.full_like(value, 2.0) for name, value in model.state_dict().items()}
    model.load_state_dict(new, assign=True)
    model.eval()
    done.undo()
    assert all(torch.equal(value, new[name]) for name, value in model.state_dict().items())
    assert not any(module.training for module in model.modules())


def test_a_shared_layer_is_replaced_everywhere():
    words = nn.Embedding(5, 4)
    model = nn.ModuleDict({"source": words, "target": words})
    with Steps(model) as steps:
        steps.replace("source", dk.nn.EmbeddingDropout(words, 0.1))
    assert model["source"] is model["target"]
    assert isinstance(model["target"], dk.nn.EmbeddingDropout)
    steps.done("example", LIU).undo()
    assert model["source"] is model["target"] is words


def test_a_model_that_is_a_layer_is_not_replaced():
    layer = nn.Embedding(5, 4)
    with pytest.raises(dk.InputError, match="a layer that is replaced is part of a model; got Embedding"):
        Steps(layer).replace("", dk.nn.EmbeddingDropout(layer, 0.1))


def test_wrapped_layers():
    model = nn.DataParallel(build())
    with Steps(model) as steps:
        steps.replace("words", dk.nn.EmbeddingDropout(model.module["words"], 0.1))
    assert isinstance(model.module["words"], dk.nn.EmbeddingDropout)


def test_the_model_is_copied_with_what_was_done():
    model = build()
    with Steps(model) as steps:
        apply(steps)
    assert [site.name for site in dk.sites(copy.deepcopy(model))] == [site.name for site in dk.sites(model)]


@pytest.mark.parametrize(("schedule", "share", "expected"), [
    (PresetSchedule("early(0.5, cutoff=50)", epochs=300, scale="top"), 0.5, early(0.25, cutoff=500)),
    (PresetSchedule("late(0.4, cutoff=50)", epochs=300), 1.0, late(0.4, cutoff=500)),
    (PresetSchedule("linear(0.0, 0.1)"), 1.0, linear(0.0, 0.1))])
def test_a_schedule_is_scaled_to_a_site_and_to_the_steps_of_an_epoch(schedule, share, expected):
    assert schedule.of(share, steps_per_epoch=10) == expected
