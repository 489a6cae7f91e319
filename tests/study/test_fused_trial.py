"""What can be fused is found out by trying, and decided once for a study."""

import pytest
import torch
from torch import nn

import dropkit as dk
from dropkit.core.errors import InputError
from dropkit.study.engines.choice import Running
from dropkit.study.fused_choice import choose
from dropkit.study.fused_trial import fusable, groups
from dropkit.study.ledger import Ledger
from dropkit.study.prepare import prepare


def layers(*inner):
    return lambda: nn.Sequential(nn.Linear(4, 8), *[make() for make in inner], nn.Dropout(0.5), nn.Linear(8, 3))


class Branching(nn.Module):
    def forward(self, x):
        return x if x.sum() > 0 else -x


class Counting(nn.Module):
    def __init__(self):
        super().__init__()
        self.register_buffer("calls", torch.zeros(()))

    def forward(self, x):
        self.calls += 1
        return x


class Drawing(nn.Module):
    def forward(self, x):
        return x + torch.randn_like(x)


def reason(model, *, timed=False, **fields):
    ready = prepare(dk.Experiment(data="iris", model=model, epochs=1, batch_size=16, **fields))
    return fusable(ready, ready.arms, (0, 1), timed=timed)


def test_ordinary_networks_can_be_fused():
    assert reason(layers(nn.ReLU)) is None


@pytest.mark.parametrize(("inner", "words"), [
    (lambda: nn.BatchNorm1d(8), "buffer of the model"), (Counting, "buffer of the model"), (Branching, "what the forward does"),
    (lambda: nn.LazyLinear(8), "lazy layer"), (Drawing, "generator of its own")])
def test_what_cannot_be_fused_says_why(inner, words):
    assert words in reason(layers(inner))


def test_callable_optimisers_are_not_fused():
    assert "callable" in reason(layers(nn.ReLU), optimizer=lambda parameters: torch.optim.SGD(parameters, lr=0.1))


def test_a_model_whose_arms_differ_in_more_than_rates_disagrees():
    """Its rate acts in another way than through a site, which only numbers can show."""
    class Scaled(nn.Module):
        def __init__(self, p=0.5):
            super().__init__()
            self.first, self.drop, self.last, self.scale = nn.Linear(4, 8), nn.Dropout(p), nn.Linear(8, 3), 1 + p

        def forward(self, x):
            return self.last(self.drop(self.first(x))) * self.scale

    assert reason(Scaled, rates={"p": 0.5}) == "a batched step does not give the numbers of single ones"


def test_arms_that_differ_in_their_layers_are_not_fused():
    assert reason(lambda p=0.5: nn.Sequential(nn.Linear(4, 8), nn.Dropout(p) if p else nn.Identity(), nn.Linear(8, 3)),
                  rates={"p": 0.5}) == "the arms' networks differ in their layers"


def test_the_trial_leaves_random_states_and_threads_alone():
    before, threads = torch.get_rng_state(), torch.get_num_threads()
    reason(layers(nn.ReLU), timed=True)
    assert torch.equal(torch.get_rng_state(), before)
    assert torch.get_num_threads() == threads


@pytest.mark.parametrize(("arms", "seeds", "lanes"), [(3, 8, 6), (2, 5, 6), (7, 3, 6), (13, 2, 6), (3, 4, 1)])
def test_groups_hold_every_run_once_and_continue_when_seeds_are_added(arms, seeds, lanes):
    found = groups(range(arms), range(seeds), lanes)
    runs = [(arm, seed) for arm in range(arms) for seed in range(seeds)]
    assert sorted(run for group in found for run in group) == runs
    assert max(map(len, found)) <= lanes
    longer = groups(range(arms), range(2 * seeds), lanes)
    whole = [group for group in found if len({seed for _, seed in group}) == max(1, lanes // arms)]
    assert longer[:len(whole)] == whole


@pytest.mark.parametrize("value", ["yes", None, 1.0, "True"])
def test_fused_is_true_false_or_auto(value):
    with pytest.raises(InputError, match="fused is True, False"):
        Running(fused=value)


def test_a_study_goes_on_as_it_was_begun(tmp_path):
    ready = prepare(dk.Experiment(data="iris", model=layers(nn.ReLU), epochs=1, batch_size=16))
    with Ledger(tmp_path, "h", "iris", {}) as ledger:
        assert max(map(len, choose(True, ready, [0, 1], ledger).units)) == 6
    with Ledger(tmp_path, "h", "iris", {}) as ledger:
        assert max(map(len, choose("auto", ready, [0, 1], ledger).units)) == 6
        single = choose(False, ready, [0, 1], ledger)
        assert [len(unit) for unit in single.units] == [1] * 6
        assert single.notes == ["Runs were trained fused, up to 6 in one batch.",
                                "Runs were trained one by one, not fused: asked for.", "Both agree to float tolerance."]
        assert max(map(len, choose("auto", ready, [0, 1], ledger).units)) == 1


def test_asking_for_what_cannot_be_fused_is_refused_with_the_reason(tmp_path):
    ready = prepare(dk.Experiment(data="iris", model=layers(lambda: nn.BatchNorm1d(8)), epochs=1, batch_size=16))
    with Ledger(tmp_path, "h", "iris", {}) as ledger:
        with pytest.raises(InputError, match="running statistics of BatchNorm"):
            choose(True, ready, [0], ledger)
        assert choose("auto", ready, [0], ledger).notes == [
            "Runs were trained one by one, not fused: training changes a buffer of the model, such as the running statistics "
            "of BatchNorm."]


def test_arms_that_change_the_recipe_are_trained_beside_the_batches(tmp_path):
    ready = prepare(dk.Experiment(data="iris", model=layers(nn.ReLU), epochs=1, batch_size=16),
                    "none,weight_decay=0.1,intended,early_stopping=3")
    with Ledger(tmp_path, "h", "iris", {}) as ledger:
        way = choose(True, ready, [7, 3, 5, 8], ledger)
    assert way.units == [((0, 7), (2, 7), (0, 3), (2, 3), (0, 5), (2, 5)), ((1, 7),), ((3, 7),), ((1, 3),), ((3, 3),),
                         ((1, 5),), ((3, 5),), ((0, 8), (2, 8)), ((1, 8),), ((3, 8),)]
    assert way.notes == ["Runs were trained fused, up to 6 in one batch; those of 'weight_decay=0.1', 'early_stopping=3' one "
                         "by one, since they change the recipe."]


def test_where_every_arm_changes_the_recipe_nothing_is_fused(tmp_path):
    ready = prepare(dk.Experiment(data="iris", model=layers(nn.ReLU), epochs=1, batch_size=16),
                    {"decay": dk.arm(weight_decay=0.1), "noise": dk.arm(noise=0.1)})
    with Ledger(tmp_path, "h", "iris", {}) as ledger:
        assert choose("auto", ready, [0, 1], ledger).notes == [
            "Runs were trained one by one, not fused: every arm changes the recipe."]


def test_a_study_of_both_kinds_gives_the_numbers_of_single_runs(tmp_path):
    experiment = dk.Experiment(data="iris", model=layers(nn.ReLU), epochs=2, batch_size=16)
    one, other = (dk.study(experiment, arms="none,intended,weight_decay=0.1", seeds=3, out=tmp_path / str(fused), fused=fused,
                           progress=False) for fused in (True, False))
    for fused, single in zip(one.runs, other.runs, strict=True):
        assert (fused.arm, fused.seed) == (single.arm, single.seed)
        assert fused.test_loss == pytest.approx(single.test_loss, rel=1e-4)
        assert (fused == single) == (fused.arm == "weight_decay=0.1")
