"""Arms from text and from `dropkit.arm`, and the families that stand for several."""

import pytest
from torch import nn

import dropkit as dk
from dropkit.core.errors import InputError
from dropkit.study.arms import make_arms
from dropkit.study.families import grouped, read_arm, read_arms, split
from dropkit.study.recipe import Recipe
from dropkit.study.result import SiteRate

SITES = [SiteRate("1", "dropout", 0.4), SiteRate("3", "dropout", 0.2)]


def build():
    return nn.Sequential(nn.Linear(4, 8), nn.Dropout(0.4), nn.Linear(8, 8), nn.Dropout(0.2), nn.Linear(8, 3))


def made(specs, **fields):
    experiment = dk.Experiment(data="iris", **{"model": build, **fields})
    return {arm.name: arm for arm in make_arms(experiment, experiment.model, specs)}


def rates(arm):
    return [site.p for site in arm.sites]


def test_every_term_of_the_command_line_makes_an_arm():
    text = ('none,intended,weight_decay=0.001,early_stopping=5,batch_norm,noise=0.1,max_norm=3,label_smoothing=0.1,members=4,'
            'variant=gaussian_dropout,schedule="curriculum(1.0)"')
    arms = made(text)
    assert list(arms) == text.replace('"', "").split(",")
    assert {name: rates(arm) for name, arm in arms.items() if rates(arm) != [0.0, 0.0]} == {
        name: [0.4, 0.2] for name in ("intended", "variant=gaussian_dropout", "schedule=curriculum(1.0)")}
    changed = [arm.recipe.changes() for arm in arms.values()]
    assert changed == [{}, {}, {"weight_decay": 0.001}, {"early_stopping": 5}, {"batch_norm": True}, {"noise": 0.1},
                       {"max_norm": 3.0}, {"label_smoothing": 0.1}, {"members": 4}, {"variant": "gaussian_dropout"},
                       {"schedule": "curriculum(1.0)"}]


def test_text_a_list_and_a_mapping_make_the_same_arms():
    text = made("none,intended+weight_decay=1e-3,rate=0.3")
    assert text == made(["none", "intended+weight_decay=1e-3", "rate=0.3"])
    assert list(text) == ["none", "intended+weight_decay=0.001", "rate=0.3"]
    mapped = made({"none": 0, "both": dk.arm(1.0, weight_decay=1e-3), "same": "intended+weight_decay=1e-3", "flat": {"*": 0.3}})
    assert mapped["both"].recipe == mapped["same"].recipe == text["intended+weight_decay=0.001"].recipe
    assert rates(mapped["both"]) == rates(mapped["same"]) == [0.4, 0.2]
    assert rates(mapped["flat"]) == rates(text["rate=0.3"]) == [0.3, 0.3]


def test_rates_left_out_are_none_beside_dropout_and_as_intended_for_dropout_itself():
    assert dk.arm(weight_decay=0.1).rates == dk.arm(members=2, noise=0.1).rates == 0.0
    assert dk.arm(schedule="linear(0, 1)", weight_decay=0.1).rates == dk.arm(classic=True).rates == dk.arm().rates == 1.0
    assert dk.arm({"1": 0.9}, noise=0.1).rates == {"1": 0.9}


@pytest.mark.parametrize("term", ["noise=0", "members=1", "early_stopping=0", "label_smoothing=0", "weight_decay=0"])
def test_a_change_to_what_changes_nothing_stands_without_dropout_too(term):
    """Beside noise=0.1 it is the baseline, and the two differ in the noise alone."""
    assert rates(made(f"intended,{term}")[term]) == [0.0, 0.0]
    assert len(made(f"intended,{term},factorial")) == 4


def test_a_sweep_of_factors_leaves_out_what_would_drop_nearly_all():
    arms = made("rates", rate=0.7)
    assert list(arms) == ["none", "factor=0.25", "reduced", "factor=0.75", "intended", "factor=1.25"]
    assert [rates(arm)[0] for arm in arms.values()] == pytest.approx([0, 0.175, 0.35, 0.525, 0.7, 0.875])


def test_a_sweep_of_rates():
    arms = made("rates=0.1:0.20:0.5")
    assert {name: rates(arm) for name, arm in arms.items()} == {
        "none": [0.0, 0.0], "rate=0.1": [0.1, 0.1], "rate=0.2": [0.2, 0.2], "rate=0.5": [0.5, 0.5]}


def test_leave_one_out_is_compared_with_the_intended_arm():
    arms = made("none,leave-one-out")
    assert {name: (rates(arm), arm.reference) for name, arm in arms.items()} == {
        "none": ([0.0, 0.0], None), "intended": ([0.4, 0.2], None),
        "without 1": ([0.0, 0.2], "intended"), "without 3": ([0.4, 0.0], "intended")}
    assert arms["without 1"].description == "no dropout at 1, elsewhere the intended rates"


def test_leave_one_out_groups_many_sites():
    names = [f"layers.{layer}.{part}" for layer in range(6) for part in ("attention", "feed")]
    groups = grouped(names)
    assert list(groups) == [f"layers.{layer}.*" for layer in range(6)]
    assert [name for group in groups.values() for name in group] == names
    flat = grouped([str(n) for n in range(20)])
    assert len(flat) <= 8
    assert [name for group in flat.values() for name in group] == [str(n) for n in range(20)]


def test_the_classic_twin():
    arms = made("classic")
    assert list(arms) == ["intended", "classic"]
    assert (arms["classic"].recipe, arms["classic"].reference) == (Recipe(classic=True), "intended")
    assert rates(arms["classic"]) == rates(arms["intended"])


def test_a_factorial_has_every_combination_once():
    arms = made("intended,weight_decay=0.001,weight_decay=0.01,batch_norm,factorial")
    cells = {(tuple(rates(arm)), arm.recipe) for arm in arms.values()}
    assert cells == {(p, Recipe(weight_decay=decay, batch_norm=norm)) for p in ((0.0, 0.0), (0.4, 0.2))
                     for decay in (None, 0.001, 0.01) for norm in (False, True)}
    assert len(arms) == 12
    assert {"none", "intended", "batch_norm", "intended+weight_decay=0.001+batch_norm"} <= set(arms)


def test_argument_rates_take_globs():
    class Net(nn.Linear):
        def __init__(self, p=0.1, q=0.2):
            super().__init__(4, 3)
    arms = made({"all": {"*": 0.3}, "one": {"*": 0.3, "q": 0.4}, "flat": "rate=0.5"},
                model=Net, rates={"p": 0.1, "q": 0.2})
    assert [rates(arm) for arm in arms.values()] == [[0.3, 0.3], [0.3, 0.4], [0.5, 0.5]]
    assert [rates(arm) for arm in made("leave-one-out", model=Net, rates={"p": 0.1, "q": 0.2}).values()] == [
        [0.1, 0.2], [0.0, 0.2], [0.1, 0.0]]


def test_commas_inside_brackets_and_quotes_part_nothing():
    text = "none, schedule=join([linear(0, 0.5), 0.5], [100]) , schedule='cosine(1, 0)'"
    assert split(text) == ["none", "schedule=join([linear(0, 0.5), 0.5], [100])", "schedule='cosine(1, 0)'"]
    assert read_arm("weight_decay=1e+0 + noise=1e-1")[0] == "weight_decay=1+noise=0.1"


@pytest.mark.parametrize(("text", "words"), [
    ("none,intendet", "Did you mean 'intended'?"),
    ("none,weight-decay=0.1", "Did you mean 'weight_decay'?"),
    ("none,leave_one_oute", "Did you mean 'leave-one-out'?"),
    ("none,weight_decay", "weight_decay takes a value"),
    ("none,batch_norm=3", "batch_norm takes no value"),
    ("none,noise=much", "Write for example noise=0.1"),
    ("none,members=2.5", "members takes a number"),
    ("none,members=0", "members is a whole number"),
    ("none,noise=nan", "noise is a finite number"),
    ("none,label_smoothing=1", "label_smoothing is a number in [0, 1)"),
    ("none,schedule=linea(0,1)", "linear"),
    ("none,variant=gausian_dropout", "Did you mean 'gaussian_dropout'?"),
    ("none,intended+reduced", "one rate and each change once"),
    ("none,noise=1+noise=2", "one rate and each change once"),
    ("none,rate=1.5", "1.5"),
    ("none,classic=3", "classic takes no value"),
    ("none,intended+leave-one-out", "an arm is made of known terms"),
    ("none,factorial", "at least two things that change"),
    ("none,schedule=1.0,noise=0.1,factorial", "stand without dropout"),
    ("none", "at least two arms"),
    ("", "at least two arms"),
])
def test_what_is_no_arm_is_refused_in_a_line_that_says_what_to_write(text, words):
    from dropkit.study.prepare import prepare
    with pytest.raises(InputError) as caught:
        prepare(dk.Experiment(data="iris", model=build), text)
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)


def test_leave_one_out_needs_two_places():
    with pytest.raises(InputError, match="two places"):
        read_arms("leave-one-out", SITES[:1])


@pytest.mark.parametrize("against", ["nowhere", "b"])
def test_an_arm_is_compared_with_another_one(against):
    with pytest.raises(InputError, match="compared with another arm"):
        made({"a": 0.0, "b": dk.arm(1.0, against=against)})


def test_unknown_changes_are_refused_with_the_nearest():
    with pytest.raises(InputError, match="Did you mean 'weight_decay'"):
        dk.arm(weight_deca=0.1)
    with pytest.raises(InputError, match="against is the name"):
        dk.arm(against=3)
