"""The example of a recurrent language model: its arms are paired, its runs can be made again, its table holds every arm."""

import argparse
import importlib.util
import json
import sys
from pathlib import Path

import pytest
import torch

import dropkit as dk

FILE = Path(__file__).parents[2] / "examples" / "language_model.py"
SMALL = ["--words", "900", "--hidden", "12", "--layers", "2", "--epochs", "1", "--seeds", "2"]


@pytest.fixture(scope="module")
def example():
    spec = importlib.util.spec_from_file_location("language_model", FILE)
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    yield module
    del sys.modules[spec.name]


def options(example, *more):
    return example.options_of([*SMALL, *more])


def test_every_arm_is_compared_and_every_run_is_kept(example, tmp_path, capsys):
    assert example.main([*SMALL, "--out", str(tmp_path / "scores.json")]) == 0
    shown = capsys.readouterr().out
    scores = json.loads((tmp_path / "scores.json").read_text())
    assert {(score["arm"], score["seed"]) for score in scores} == {(arm, seed) for arm in example.ARMS for seed in (0, 1)}
    table = shown[shown.index("verdict"):]
    assert [line.split()[0] for line in table.splitlines()[2:]] == list(example.ARMS)
    assert "leaning" in table  # two seeds give no verdict


def test_five_seeds_give_a_verdict_and_fewer_a_leaning(example):
    losses = {"none": 3.0, "naive": 2.9, "zoneout": 3.1}
    scores = [example.Score(arm, seed, 3.0, 3.0, loss + seed / 1000) for arm, loss in losses.items() for seed in range(5)]
    table = example.compare(scores)
    assert list(table["verdict"]) == ["", "helps", "hurts"]
    assert table.loc["naive", "nats a word better than none"].startswith("+0.100 [")
    assert list(example.compare(scores[:2] + scores[5:7])["verdict"]) == ["", "leaning: helps"]


def test_arms_begin_with_the_same_weights(example):
    states = []
    for arm in example.ARMS:
        torch.manual_seed(0)
        states.append(example.LanguageModel(50, 8, 2, 0.3, arm).state_dict())
    assert [list(state) for state in states] == [list(states[0])] * len(states)
    assert all(torch.equal(state[key], states[0][key]) for state in states for key in state)


def test_a_run_can_be_made_again_to_the_bit_and_arms_differ(example):
    data = example.corpus(example.sentences(900), None, 100)
    found = {arm: example.train(data, arm, 3, options(example)) for arm in example.ARMS}
    torch.manual_seed(99)
    again = {arm: example.train(data, arm, 3, options(example)) for arm in example.ARMS}
    assert found == again
    assert len({score.test for score in found.values()}) == len(example.ARMS)


def test_masks_last_as_long_as_the_arm_says(example):
    words = torch.zeros(6, 3, dtype=torch.long)  # the same word at every step, so that only masks tell steps apart
    for arm, constant in (("naive", False), ("variational", True)):
        torch.manual_seed(0)
        model = example.LanguageModel(20, 8, 1, 0.5, arm)
        seen = []
        model.before.register_forward_hook(lambda module, inputs, output, seen=seen: seen.append(output))
        with dk.keyed(0):
            model(words)
        assert bool((seen[0] == seen[0][:1]).all()) is constant


def test_evaluation_is_the_likelihood_of_all_words(example):
    torch.manual_seed(0)
    model = example.LanguageModel(30, 8, 1, 0.5, "none")
    words = torch.randint(30, (20 * 71,))
    text = example.columns(words, 20)
    known = torch.nn.functional.cross_entropy(model(text[:-1])[0].flatten(0, 1), text[1:].flatten())
    assert abs(example.score(model, words) - float(known.detach())) < 1e-5


def test_a_text_of_ones_own_with_rare_words_unknown(example, tmp_path):
    text = tmp_path / "text.txt"
    text.write_text("a b c d\n\n" * 300 + "rare\n", encoding="utf-8")
    words = example.read(str(text))
    assert words[:6] == ["a", "b", "c", "d", "<eos>", "a"]
    data = example.corpus(words, words[:100], vocabulary=4)
    assert data.vocabulary == 4
    assert int(data.valid[-2]) == 0


@pytest.mark.parametrize(("arguments", "says"), [
    (["--text", "nowhere.txt"], "readable file"), (["--words", "50"], "more than 40 words")])
def test_a_text_that_cannot_be_used_is_a_line_and_exit_code_2(example, arguments, says, capsys):
    assert example.main(arguments) == 2
    error = capsys.readouterr().err
    assert says in error
    assert len(error.strip().splitlines()) == 1


@pytest.mark.parametrize("arguments", [["--rate", "1"], ["--seeds", "0"], ["--arms", "magic"], ["--test", "x.txt"]])
def test_wrong_options_exit_with_2(example, arguments, capsys):
    with pytest.raises(SystemExit) as left:
        example.main(arguments)
    assert left.value.code == 2
    assert isinstance(example.options_of([]), argparse.Namespace)
