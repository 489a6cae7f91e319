"""Every change of a recipe acts as it says, and leaves arms paired."""

import math

import pytest
import torch
from torch import nn
from torch.nn import functional as F

import dropkit as dk
from dropkit.core.errors import InputError
from dropkit.study import instruments
from dropkit.study.ensemble import Averaged, Ensemble, begin
from dropkit.study.prepare import prepare
from dropkit.study.remodel import variants
from dropkit.study.training import train

from .studied import watched

ALL = ('none,intended,weight_decay=0.001,early_stopping=2,batch_norm,noise=0.1,max_norm=3,label_smoothing=0.1,members=2,'
       'variant=gaussian_dropout,schedule="curriculum(1.0)",classic,leave-one-out')


def build():
    return nn.Sequential(nn.Linear(4, 16), nn.ReLU(), nn.Dropout(0.5), nn.Linear(16, 16), nn.ReLU(), nn.Dropout(0.25),
                         nn.Linear(16, 3))


def ready(arms, **fields):
    return prepare(dk.Experiment(**{"data": "iris", "model": build, "epochs": 4, "batch_size": 16, **fields}), arms)


def session(arms, name, seed=0, **fields):
    found = ready(arms, **fields)
    return begin(found, found.arm(name), seed)


def test_weights_split_order_and_masks_are_the_same_in_every_arm():
    found = ready(ALL)
    plain = begin(found, found.arms[0], 3)
    before = {name: tensor.clone() for name, tensor in plain.model.state_dict().items()}
    plain.run_epoch()
    for arm in found.arms[1:]:
        other = begin(found, arm, 3)
        other = other.members[0] if isinstance(other, Ensemble) else other
        state = other.model.state_dict()
        assert all(torch.equal(tensor, state[name]) for name, tensor in before.items()), arm.name
        assert all(torch.equal(getattr(other.part, name), getattr(plain.part, name)) for name in ("x_train", "y_val", "x_test"))
        other.run_epoch()
        assert torch.equal(other.order.get_state(), plain.order.get_state()), arm.name
        assert other.masks == plain.masks


def test_fields_that_change_nothing_leave_the_run_as_it_is_to_the_bit():
    found = ready({"none": 0.0, "plain": 1.0, "waits": dk.arm(1.0, early_stopping=9), "wide": dk.arm(1.0, max_norm=1e9),
                   "still": dk.arm(1.0, schedule="constant(1.0)"), "zero": dk.arm(1.0, weight_decay=0.0)})
    runs = {arm.name: train(found, arm, 0) for arm in found.arms}
    assert all(run.history == runs["plain"].history for name, run in runs.items() if name != "none")
    assert runs["plain"].history != runs["none"].history


def test_weight_decay_replaces_the_experiments():
    decays = [begin(found, arm, 0).optimizer.weight_decay
              for found in [ready("none,weight_decay=0.003", weight_decay=0.1)] for arm in found.arms]
    assert decays == [0.1, 0.003]


def test_label_smoothing_is_minimised_and_the_plain_loss_recorded():
    run = session("none,label_smoothing=0.2", "label_smoothing=0.2")
    x, y = run.part.x_train[:8], run.part.y_train[:8]
    outputs = run.model(x)
    gradient = torch.autograd.grad(F.cross_entropy(outputs, y, label_smoothing=0.2), run.model[0].weight)[0]
    loss, seen = run.run_step(x, y)
    assert torch.equal(seen, outputs)
    assert torch.equal(loss, F.cross_entropy(outputs, y))
    assert torch.equal(run.model[0].weight.grad, gradient)


def test_max_norm_holds_after_every_step():
    run, free = session("none,max_norm=0.3", "max_norm=0.3"), session("none,max_norm=0.3", "none")
    run.run_epoch()
    free.run_epoch()
    largest = [max(layer.weight.norm(dim=1).max().item() for layer in one.model if isinstance(layer, nn.Linear))
               for one in (run, free)]
    assert largest[0] <= 0.3 * (1 + 1e-5) < largest[1]


def noise_data():
    generator = torch.Generator().manual_seed(0)
    return torch.randn(200, 4, generator=generator), torch.randint(3, (200,), generator=generator)


def test_early_stopping_ends_where_a_run_of_the_best_epochs_length_ends():
    fields = {"data": noise_data(), "lr": 0.02}
    found = ready("none,early_stopping=3", epochs=30, **fields)
    run = train(found, found.arms[1], 0)
    losses = run.history["val_loss"]
    best = losses.index(min(losses)) + 1
    assert len(losses) == best + 3 < 30
    assert run.val_loss == min(losses)
    plain = ready("none,intended", epochs=best, **fields)
    known = train(plain, plain.arms[0], 0)
    assert (run.test_loss, run.test_metric, run.nll, run.gap) == (known.test_loss, known.test_metric, known.nll, known.gap)
    assert found.arms[1].description.endswith("at most 30 epochs of 8 steps, 240 steps in all")


def test_a_run_that_diverges_is_not_saved_by_early_stopping():
    found = ready("none,early_stopping=3", optimizer="sgd", lr=1e30)
    assert train(found, found.arms[1], 0).status == "diverged"


def test_noise_is_a_function_of_seed_and_step_and_is_off_in_evaluation(monkeypatch):
    monkeypatch.setattr(instruments, "measure", lambda *_: {})  # they look at training mode without noise
    seen = []
    found = ready("none,noise=0.5", model=watched(build, seen))
    inputs = {}
    for arm in found.arms:
        for attempt in range(2):
            seen.clear()
            torch.manual_seed(attempt)
            train(found, arm, 0)
            inputs[arm.name, attempt] = list(seen)
    assert all(torch.equal(a, b) for (_, a), (_, b) in zip(inputs["noise=0.5", 0], inputs["noise=0.5", 1], strict=True))
    added = {training: torch.cat([(noisy - clean).flatten() for (mode, noisy), (_, clean) in
                                  zip(inputs["noise=0.5", 0], inputs["none", 0], strict=True) if mode == training])
             for training in (True, False)}
    assert not added[False].any()
    # Of n values the standard deviation's own is about .5 / sqrt(2 n); 5 of them: false alarm 6e-7.
    assert abs(added[True].std() - 0.5) < 5 * 0.5 / math.sqrt(2 * added[True].numel())


def test_batch_norm_is_of_its_layers_type():
    class Double(nn.Sequential):
        def forward(self, x):
            return super().forward(x.double())
    run = session("none,batch_norm", "batch_norm", model=lambda: Double(*build()).double())
    assert run.model.get_submodule("0.batch_norm").weight.dtype == torch.float64


def test_max_norm_leaves_frozen_weights_as_they_are():
    def frozen():
        model = build()
        model[0].weight.requires_grad_(False)
        return model
    run = session("none,max_norm=0.1", "max_norm=0.1", model=frozen)
    before = run.model[0].weight.clone()
    run.run_epoch()
    assert torch.equal(run.model[0].weight, before)
    assert before.norm(dim=1).max() > 0.1
    assert run.model[3].weight.norm(dim=1).max() < 0.1 * (1 + 1e-5)


def test_batch_norm_stands_behind_every_layer_but_the_last():
    run = session("none,batch_norm", "batch_norm")
    assert [name for name, module in run.model.named_modules() if isinstance(module, nn.BatchNorm1d)] == [
        "0.batch_norm", "3.batch_norm"]
    out = run.model.train()[0](run.part.x_train)
    assert out.mean(0).abs().max() < 1e-5
    assert (out.var(0, unbiased=False) - 1).abs().max() < 1e-2  # the normalisation's eps beside small variances
    assert run.model.eval()[0](run.part.x_train).mean(0).abs().max() > 1e-3  # running statistics, before any step


def test_batch_norm_of_convolutions_and_of_features_that_stand_last():
    from dropkit.study.recipe import Recipe
    from dropkit.study.remodel import remodel
    model = nn.Sequential(nn.Conv2d(1, 4, 3), nn.Flatten(2), nn.Linear(36, 5), nn.Linear(5, 2))
    model = remodel(model, Recipe(batch_norm=True))
    assert isinstance(model[0].batch_norm, nn.BatchNorm2d)
    assert isinstance(model[2].batch_norm, nn.BatchNorm1d)
    out = model[:3](torch.randn(6, 1, 8, 8, generator=torch.Generator().manual_seed(0)))
    assert out.shape == (6, 4, 5)
    assert out.mean((0, 1)).abs().max() < 1e-5


@pytest.mark.parametrize("name", sorted(set(variants()) & {"gaussian_dropout", "alpha_dropout", "drop_path", "locked_dropout"}))
def test_a_variant_takes_the_place_of_dropout(name):
    run = session(f"none,variant={name}", f"variant={name}")
    assert [site.kind for site in dk.sites(run.model)] == [name, name]
    assert [(module.p, module.stream) for module in (run.model[2], run.model[5])] == [(0.5, "2"), (0.25, "5")]
    run.run_epoch()


def test_a_shared_module_stays_shared_and_a_bare_one_is_replaced():
    from dropkit.study.recipe import Recipe
    from dropkit.study.remodel import remodel
    shared = dk.nn.Dropout(0.5)
    model = remodel(nn.Sequential(shared, nn.ReLU(), shared), Recipe(variant="gaussian_dropout"))
    assert model[0] is model[2]
    assert isinstance(remodel(dk.nn.Dropout(0.3), Recipe(variant="gaussian_dropout")), dk.nn.GaussianDropout)


def test_classic_scaling_multiplies_in_evaluation():
    run = session("classic", "classic")
    assert torch.equal(run.model.eval()[2](torch.ones(4)), torch.full((4,), 0.5))
    assert set(run.model.train()[2](torch.ones(1000)).tolist()) == {0.0, 1.0}


def test_a_schedule_multiplies_the_rates_of_every_step():
    run = session("none,schedule=linear(0.0,1.0)", "schedule=linear(0.0,1.0)", epochs=2)
    steps, seen = 2 * 6, []
    step = run.run_step

    def watched(x, y):
        found = step(x, y)
        seen.append((run.model[2].p, run.model[5].p))
        return found

    run.run_step = watched
    run.run_epoch()
    run.run_epoch()
    assert seen == [(0.5 * (k / steps), 0.25 * (k / steps)) for k in range(steps)]
    run.rates.set(6)  # rates follow from the step alone
    assert run.model[2].p == 0.25


def test_an_ensemble_averages_probabilities_and_its_first_member_is_the_single_network():
    found = ready("none,members=2")
    both = begin(found, found.arms[1], 0)
    for _ in range(2):
        both.run_epoch()
    assert both.over
    alone = begin(found, found.arms[0], 0)
    alone.run_epoch()
    alone.run_epoch()
    first, second = (member.model.eval() for member in both.members)
    assert all(torch.equal(tensor, alone.model.state_dict()[name]) for name, tensor in first.state_dict().items())
    assert not torch.equal(first[0].weight, second[0].weight)
    x = both.part.x_test
    assert torch.allclose(both.model(x).exp(), (first(x).softmax(1) + second(x).softmax(1)) / 2, atol=1e-6)
    run = train(found, found.arms[1], 0)
    assert len(run.history["val_loss"]) == 2
    assert run.test_loss == found.loss(both.model(x), both.part.y_test).item()


def test_an_ensemble_of_regressions_averages_outputs():
    x = torch.randn(5, 3, generator=torch.Generator().manual_seed(0))
    mean = Averaged([nn.Identity(), nn.Flatten(), nn.Tanh()], classes=False)
    assert torch.equal(mean(x), torch.stack([x, x, x.tanh()]).mean(0))


def test_members_that_stop_early_go_back_together():
    found = ready({"none": 0.0, "four": dk.arm(members=2, early_stopping=1)}, epochs=40, data=noise_data(), lr=0.02)
    run = train(found, found.arms[1], 0)
    assert run.val_loss == min(run.history["val_loss"])
    assert len(run.history["val_loss"]) < 20


class Routed(nn.Module):
    def __init__(self, p=0.3):
        super().__init__()
        self.p, self.first, self.second = p, nn.Linear(4, 8), nn.Linear(8, 3)

    def forward(self, x):
        return self.second(F.dropout(self.first(x), self.p, self.training))


@pytest.mark.parametrize(("arms", "fields", "words"), [
    ("none,weight_decay=0.1", {"optimizer": lambda parameters: torch.optim.SGD(parameters, lr=0.1)}, "where dropkit makes"),
    ("none,label_smoothing=0.1", {"loss": lambda outputs, y: F.cross_entropy(outputs, y)},
     "label_smoothing is for cross entropy"),
    ("none,label_smoothing=0.1", {"data": "diabetes", "model": None}, "label_smoothing is for cross entropy"),
    ("none,members=5", {}, "5 members in 4 epochs, in arm 'members=5'"),
    ("none,batch_norm", {"batch_size": 1}, "two examples a batch"),
    ("none,batch_norm", {"model": lambda: nn.Sequential(nn.Dropout(0.5), nn.Linear(4, 3))}, "layer before the last"),
    ("none,batch_norm", {"model": lambda: nn.Sequential(nn.Linear(4, 8), nn.BatchNorm1d(8), nn.Dropout(0.5), nn.Linear(8, 3))},
     "a model that has none"),
    ("none,schedule=1.0", {"model": Routed, "rates": {"p": 0.3}}, "a schedule moves the rates of dropout modules"),
    ("none,variant=gaussian_dropout", {"model": Routed, "rates": {"p": 0.3}}, "needs element-wise dropout modules"),
    ("classic", {"model": Routed, "rates": {"p": 0.3}}, "classic scaling needs element-wise dropout modules"),
    ("none,variant=drop_connect", {}, "takes the place of element-wise dropout"),
])
def test_a_recipe_that_does_not_fit_is_refused_before_the_first_run(arms, fields, words):
    with pytest.raises(InputError) as caught:
        ready(arms, **fields)
    assert words in str(caught.value)


def test_noise_needs_numbers():
    class Embedded(nn.Module):
        def __init__(self):
            super().__init__()
            self.net = nn.Sequential(nn.Embedding(9, 4), nn.Flatten(), nn.Dropout(0.5), nn.Linear(8, 2))

        def forward(self, x):
            return self.net(x)

    tokens = torch.randint(9, (40, 2), generator=torch.Generator().manual_seed(0))
    with pytest.raises(InputError, match="noise is added to floating-point inputs"):
        ready("none,noise=0.1", data=(tokens, tokens[:, 0] % 2), model=Embedded)


def test_what_arms_spend_is_said():
    found = {arm.name: arm.description for arm in ready("none,members=2,early_stopping=1").arms}
    assert found == {
        "none": "no dropout; 4 epochs of 6 steps, 24 steps in all",
        "members=2": "no dropout, ensemble of 2 at equal cost; 2 networks, each 2 epochs of 6 steps, 24 steps in all",
        "early_stopping=1": "no dropout, early stopping after 1 epochs; at most 4 epochs of 6 steps, 24 steps in all"}
