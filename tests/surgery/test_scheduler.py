"""A model's rates along schedules: what is set, what is left, and runs that are cut in two."""

import copy
import json
import sys
import warnings
from pathlib import Path

import pytest
import torch
from torch import nn

import dropkit as dk
from dropkit import schedules as s

sys.path.insert(0, str(Path(__file__).parent))
import nets


def rates(model):
    return {site.name: site.p for site in dk.sites(model)}


def paths(depth=4):
    return nn.Sequential(*[nn.Sequential(nn.Linear(4, 4), dk.nn.DropPath(0.1), nn.Dropout(0.3)) for _ in range(depth)])


@pytest.mark.parametrize("name", nets.CASES)
def test_every_site_has_the_rate_of_every_step(name):
    model = nets.CASES[name][0]()
    before, schedule = rates(model), s.linear(0.0, 0.8, steps=8)
    with dk.RateScheduler(model, schedule) as scheduler:
        for t in range(10):
            assert scheduler.step_number == t
            assert rates(model) == scheduler.rates == dict.fromkeys(before, schedule(t))
            scheduler.step()
    assert rates(model) == before


def test_rates_inside_torch_modules_take_effect():
    for name in ("lstm", "gru", "encoder"):
        build, x = nets.CASES[name]
        model = build()
        scheduler = dk.RateScheduler(model, s.piecewise([0.0, 0.9], [1]))
        assert torch.equal(model(x), model(x)), name
        with pytest.warns(dk.RateJumpWarning):
            scheduler.step()
        assert not torch.equal(model(x), model(x)), name


def test_other_sites_are_left_alone():
    model = paths()
    scheduler = dk.RateScheduler(model, s.annealed(0.4), where="drop_path", steps=4)
    model[2][2].p = 0.7  # a hand of the user's, at a site that is not scheduled
    scheduler.step()
    assert rates(model) == {f"{i}.{j}": 0.4 * 0.75 if j == 1 else 0.7 if i == 2 else 0.3 for i in range(4) for j in (1, 2)}
    scheduler.finish()
    assert [rates(model)[name] for name in ("0.1", "2.2", "3.2")] == [0.1, 0.7, 0.3]


def test_several_schedules_by_pattern():
    model = paths()
    scheduler = dk.RateScheduler(model, {"dropout": "linear(0.0, 0.1)", "drop_path": s.constant(0.2), "3.*": 0.05,
                                         "3.2": lambda t: t / 50}, steps=10)
    for _ in range(5):
        scheduler.step()
    assert [rates(model)[f"{i}.1"] for i in range(4)] == [0.2, 0.2, 0.2, 0.05]
    assert [rates(model)[f"{i}.2"] for i in range(4)] == [0.05, 0.05, 0.05, 0.1]


def test_where_may_be_a_list():
    model = paths()
    scheduler = dk.RateScheduler(model, 0.9, where=["0.*", "3.1"])
    assert set(scheduler.rates) == {"0.1", "0.2", "3.1"}


@pytest.mark.parametrize("rule", ["paper", "linspace", "zero_based"])
def test_rates_grow_with_depth(rule):
    model, schedule = paths(), s.linear(0.0, 0.3, steps=10)
    scheduler = dk.RateScheduler(model, schedule, where="drop_path", depth=rule)
    for t in range(12):
        assert tuple(scheduler.rates.values()) == dk.depth_rates(schedule(t), 4, rule)
        assert [rates(model)[f"{i}.1"] for i in range(4)] == [s.at_depth(schedule, i, 4, rule)(t) for i in range(4)]
        scheduler.step()


def test_sites_of_one_block_share_its_depth():
    model = paths()
    scheduler = dk.RateScheduler(model, 0.4, depth="paper")
    for i, rate in enumerate(dk.depth_rates(0.4, 4)):
        assert [rates(model)[f"{i}.{j}"] for j in (1, 2)] == [rate, rate]
    scheduler.finish()
    assert rates(model) == rates(paths())


def test_a_shared_module_is_set_once():
    model, sets = nets.Shared(), []

    class Watched(nn.Dropout):
        def __setattr__(self, name, value):
            if name == "p" and "_modules" in vars(self):
                sets.append(value)
            super().__setattr__(name, value)

    model.drop.__class__ = Watched
    dk.RateScheduler(model, 0.25)
    assert sets == [0.25]
    assert model.head[1].p == 0.25


def test_wrappers_do_not_show():
    model = nn.DataParallel(paths())
    assert dk.RateScheduler(model, 0.2, where="1.1").rates == {"1.1": 0.2}


class Counted:
    """A compiled model, and how many graphs were compiled for it."""

    def __init__(self, model):
        self.graphs = 0

        def backend(graph, _):
            self.graphs += 1
            return graph.forward

        torch._dynamo.reset()
        self.call = torch.compile(model, backend=backend, fullgraph=True)


def test_a_compiled_model_follows_without_being_compiled_again():
    model, x = dk.swap(paths()), torch.ones(3, 4)
    counted = Counted(model)
    scheduler = dk.RateScheduler(counted.call, s.join([0.0, s.linear(0.0, 1.0)], [2]), steps=6, max_rise=1.0)
    seen = []
    for step in range(7):
        with dk.keyed(5, step=step):
            compiled = counted.call(x)
        with dk.keyed(5, step=step):
            assert torch.equal(compiled, model(x))
        seen.append(model[0][1].p)
        scheduler.step()
    assert seen == [0.0, 0.0, 0.0, 0.25, 0.5, 0.75, 1.0]
    assert counted.graphs == 1


class Run:
    """A small training run with keyed masks, whose state is all in files."""

    def __init__(self):
        torch.manual_seed(3)
        layers = [nn.Linear(6, 16), nn.ReLU(), nn.Dropout(0.5), nn.Linear(16, 16), nn.ReLU(), nn.Dropout(0.2), nn.Linear(16, 3)]
        self.model = dk.swap(nn.Sequential(*layers))
        self.optimizer = torch.optim.AdamW(self.model.parameters(), lr=0.01)
        self.scheduler = dk.RateScheduler(self.model, {"2": "warm_up(cosine(0.5, 0.1), 8)", "5": "curriculum(0.3)"}, steps=40)

    def train(self, steps):
        for _ in range(steps):
            step = self.scheduler.step_number
            data = torch.Generator().manual_seed(step)
            x, target = torch.randn(32, 6, generator=data), torch.randint(3, (32,), generator=data)
            with dk.keyed(11, step=step):
                loss = nn.functional.cross_entropy(self.model(x), target)
            self.optimizer.zero_grad()
            loss.backward()
            self.optimizer.step()
            self.scheduler.step()

    def save(self, file):
        torch.save({name: getattr(self, name).state_dict() for name in ("model", "optimizer", "scheduler")}, file)

    def load(self, file):
        for name, state in torch.load(file, weights_only=True).items():  # plain data: nothing else would be read
            getattr(self, name).load_state_dict(state)


@pytest.mark.parametrize("cut", [0, 1, 7, 8, 23, 39, 40])
def test_a_resumed_run_has_the_same_weights_bit_for_bit(cut, tmp_path):
    straight, first, second = Run(), Run(), Run()
    straight.train(40)
    first.train(cut)
    first.save(tmp_path / "run.pt")
    second.load(tmp_path / "run.pt")
    second.train(40 - cut)
    for name, weight in straight.model.state_dict().items():
        assert torch.equal(weight, second.model.state_dict()[name]), name
    assert second.scheduler.rates == straight.scheduler.rates == rates(second.model)
    second.scheduler.finish()
    assert rates(second.model) == {"2": 0.5, "5": 0.2}


def test_rates_matter_to_that_run():
    """What the test above compares would differ without the scheduler's state."""
    straight, other = Run(), Run()
    straight.train(12)
    other.train(6)
    other.scheduler = dk.RateScheduler(other.model, 0.9, start=6)
    other.train(6)
    assert not torch.equal(straight.model[0].weight, other.model[0].weight)


def test_the_state_is_json_and_rates_from_before_survive():
    model = paths()
    scheduler = dk.RateScheduler(model, "linear(0, 0.5)", where="drop_path", steps=10, depth="paper")
    scheduler.step()
    state = json.loads(json.dumps(scheduler.state_dict()))
    assert state == scheduler.state_dict()
    assert state["schedules"] == {"drop_path": "linear(0.0, 0.5, steps=10)"}
    dk.set_rate(fresh := paths(), 0.0)  # built otherwise than the first one was
    other = dk.RateScheduler(fresh, "linear(0, 0.5)", where="drop_path", steps=10, depth="paper")
    other.load_state_dict(state)
    assert other.rates == scheduler.rates
    assert [fresh[i][1].p for i in range(4)] == [model[i][1].p for i in range(4)]
    other.finish()
    assert [fresh[0][1].p, fresh[0][2].p] == [0.1, 0.0]


def test_functions_of_the_step_have_no_text_but_a_state():
    first, second = (dk.RateScheduler(nn.Dropout(), lambda t: min(t, 10) / 20) for _ in range(2))
    first.step()
    assert first.state_dict()["schedules"] == {"*": None}
    second.load_state_dict(first.state_dict())
    assert second.rates == {"": 0.05}


@pytest.mark.parametrize("change", [
    {"schedules": {"drop_path": "annealed(0.5, steps=10)"}}, {"schedules": {"*": "linear(0.0, 0.5, steps=10)"}}, {"step": -1},
    {"before": {"0.1": 0.1}}, {"before": None}, {"depth": "paper"}, {"steps": 11}, {"other": 1}, {"step": 1.5},
])
def test_another_schedulers_state_is_refused_and_changes_nothing(change):
    model = paths()
    scheduler = dk.RateScheduler(model, "linear(0, 0.5)", where="drop_path", steps=10)
    before, state = rates(model), scheduler.state_dict()
    with pytest.raises(dk.InputError):
        scheduler.load_state_dict({**state, "step": 5, **change})
    assert rates(model) == before
    assert scheduler.state_dict() == state


def test_the_rates_of_before_are_checked_too():
    scheduler = dk.RateScheduler(nn.Dropout(), 0.1)
    with pytest.raises(dk.InputError, match="before"):
        scheduler.load_state_dict({**scheduler.state_dict(), "before": {"": 2.0}})


def test_starting_in_the_middle():
    model = nn.Sequential(nn.Dropout(0.5))
    scheduler = dk.RateScheduler(model, s.linear(0, 1), steps=10, start=9)
    assert rates(model) == {"0": 0.9}
    scheduler.step()
    assert rates(model) == {"0": 1.0}


def test_it_is_restored_after_an_error_and_takes_no_steps_then():
    model = paths()
    with pytest.raises(RuntimeError, match="mine"), dk.RateScheduler(model, 0.9) as scheduler:
        raise RuntimeError("mine")
    assert rates(model) == rates(paths())
    scheduler.finish()
    with pytest.raises(dk.InputError, match=r"finished takes no more steps; got step 1\."):
        scheduler.step()


def jumps(schedule, steps=None, run=20, **options):
    """The steps at which a run warns."""
    found, scheduler = [], dk.RateScheduler(nn.Sequential(nn.Dropout(), nn.Dropout()), schedule, steps=steps, **options)
    for _ in range(run):
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            scheduler.step()
        found += [scheduler.step_number] * len(caught)
        assert all(w.category is dk.RateJumpWarning and w.filename == __file__ for w in caught)
    return found


@pytest.mark.parametrize(("schedule", "steps", "options", "expected"), [
    (s.late(0.5, 15), 20, {}, [15]), (s.late(0.5, 10), 20, {}, []), (s.late(0.5, 11), 20, {}, [11]),  # half is not late
    (s.late(0.5, 5), None, {}, [5]), (s.late(0.5, 1), None, {}, [1]),  # with no length every rise after a lower rate counts
    (s.late(0.1, 15), 20, {}, []), (s.late(0.5, 15), 20, {"max_rise": 0.5}, []), (s.late(0.11, 15), 20, {}, [15]),
    (s.late(0.5, 12, ramp=5), 20, {}, []), (s.piecewise([0.3, 0.4], [15]), 20, {}, []),  # 0.4 - 0.3 is above 0.1 in floats
    (s.early(0.5, 15, form="constant"), 20, {}, []), (s.linear(0.0, 1.0), 20, {}, []),
    (s.piecewise([0.0, 0.2, 0.0, 0.5], [12, 13, 14]), 20, {}, [12]),  # once
    (s.late(0.9, 15), 20, {"start": 15}, []),
])
def test_a_late_jump_up_is_warned_about_once(schedule, steps, options, expected):
    assert jumps(schedule, steps, **options) == expected


def test_the_warning_names_the_gradual_way():
    scheduler = dk.RateScheduler(nn.Sequential(nn.Dropout()), s.late(0.5, 1))
    with pytest.warns(dk.RateJumpWarning, match=r"site '0' jumps from 0 to 0\.5 at step 1: .*late\(\.\.\., ramp=\)"):
        scheduler.step()
    other = dk.RateScheduler(nn.Sequential(nn.Dropout()), s.late(0.5, 1))
    other.load_state_dict(scheduler.state_dict())
    assert other.state_dict()["warned"]


@pytest.mark.parametrize(("arguments", "rule"), [
    ({"schedule": s.linear(0, 1)}, "knows its length"), ({"schedule": "linear(0, 1)"}, "knows its length"),
    ({"schedule": "linier(0, 1)"}, "nearest are linear"), ({"schedule": 1.5}, "rate is a prob"),
    ({"schedule": None}, "schedule is one of"), ({"schedule": s.linear}, "schedule is one of"),
    ({"schedule": lambda t: 7}, r"the rate of '\*' at step 0"), ({"schedule": {"9": 0.1}}, "matches a site"),
    ({"schedule": {}}, "a pattern"),
    ({"schedule": 0.1, "where": "layerdrop"}, "matches a site"), ({"schedule": {"*": 0.1}, "where": "0.1"}, "Leave where out"),
    ({"schedule": 0.1, "where": None}, "where is a pattern"), ({"schedule": 0.1, "where": []}, "a pattern"),
    ({"schedule": 0.1, "depth": "deep"}, "rule is"), ({"schedule": 0.1, "steps": 0}, "steps is a whole"),
    ({"schedule": 0.1, "start": -1}, "start is a whole"), ({"schedule": 0.1, "max_rise": 2}, "max_rise"),
])
def test_bad_arguments_change_nothing(arguments, rule):
    model = paths()
    with pytest.raises(dk.InputError, match=rule):
        dk.RateScheduler(model, **arguments)
    assert rates(model) == rates(paths())


def test_a_model_without_sites_is_refused():
    with pytest.raises(dk.InputError, match="has dropout modules"):
        dk.RateScheduler(nn.Linear(2, 2), 0.1)


def test_a_rate_that_one_module_refuses_changes_no_other():
    model = nn.Sequential(nn.Dropout(0.3), dk.nn.GaussianDropout(0.3))  # whose rate stays below 1
    with pytest.raises(dk.InputError, match=r"\[0, 1\)"):
        dk.RateScheduler(model, 1.0)
    assert rates(model) == {"0": 0.3, "1": 0.3}
    scheduler = dk.RateScheduler(model, s.linear(0.0, 1.0, steps=2), max_rise=1.0)
    scheduler.step()
    with pytest.raises(dk.InputError):
        scheduler.step()
    assert rates(model) == {"0": 0.5, "1": 0.5}
    assert scheduler.step_number == 1


def test_it_says_what_it_does():
    scheduler = dk.RateScheduler(paths(), 0.1, where="drop_path")
    assert repr(scheduler) == "RateScheduler({'drop_path': constant(0.1)}, step=0, sites=4)"


def test_a_schedule_is_not_tied_to_a_model():
    schedule = s.linear(0.0, 0.4, steps=4)
    first, second = (dk.RateScheduler(nn.Dropout(), copy.deepcopy(schedule)) for _ in range(2))
    first.step()
    assert (first.rates, second.rates) == ({"": 0.1}, {"": 0.0})
