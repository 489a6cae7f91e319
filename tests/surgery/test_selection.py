"""Which sites a pattern means."""

import sys
from pathlib import Path

import pytest
from torch import nn

import dropkit as dk
from dropkit.surgery.selection import block_numbers, select

sys.path.insert(0, str(Path(__file__).parent))
import nets


class Classifier(nn.Module):
    """A site called dropout, and others of that kind."""

    def __init__(self):
        super().__init__()
        self.encoder = nets.encoder()
        self.dropout = nn.Dropout(0.1)
        self.noise = nn.AlphaDropout(0.1)


def test_names_kinds_and_globs():
    model = nets.encoder()
    dropouts = ["layers.1.dropout", "layers.1.dropout1", "layers.1.dropout2"]
    assert select(model, ["*"])["*"] == [site.name for site in dk.sites(model)]
    assert select(model, ["attention", "layers.1.*", "layers.1.dropout"]) == {
        "attention": ["layers.0.self_attn"], "layers.1.*": ["layers.1.self_attn", *dropouts[1:]],
        "layers.1.dropout": dropouts[:1]}


def test_the_last_pattern_counts_and_names_count_most():
    model = nets.mixed()
    assert select(model, ["3", "dropout", "*"]) == {"3": ["3"], "dropout": [], "*": ["1", "4", "5"]}
    assert select(model, ["*", "dropout", "3"]) == {"3": ["3"], "dropout": ["1", "5"], "*": ["4"]}


def test_a_name_that_is_also_a_kind_is_told_apart():
    model = Classifier()
    with pytest.raises(dk.InputError, match=r'Write "kind:dropout" for all of the kind or "\[d\]ropout" for the one site'):
        select(model, ["dropout"])
    assert select(model, ["[d]ropout"]) == {"[d]ropout": ["dropout"]}
    assert len(select(model, ["kind:dropout"])["kind:dropout"]) == 7
    assert select(nn.ModuleDict({"dropout": nn.Dropout(), "b": nn.AlphaDropout()}), ["dropout"]) == {"dropout": ["dropout"]}


def test_a_shared_module_is_one_site():
    assert select(nets.Shared(), ["*"]) == {"*": ["drop"]}


def test_the_root_is_named_by_nothing():
    assert select(nn.Dropout(), [""]) == {"": [""]}


def test_sites_that_learn_their_rate_are_left_alone():
    model = nn.Sequential(dk.nn.ConcreteDropout(nn.Linear(2, 2)), nn.Dropout())
    assert select(model, ["*"]) == {"*": ["1"]}
    with pytest.raises(dk.InputError, match="matches a site"):
        select(model, ["0"])


@pytest.mark.parametrize(("patterns", "message"), [
    (["layer.0.dropout1"], r"got 'layer\.0\.dropout1'\. The nearest are .*'layers\.0\.dropout1'.*lists all 8; kinds are 'att"),
    (["drop_path"], "kinds are 'attention', 'dropout'"), (["kind:drop_path"], "matches a site"), ([], "there is a pattern"),
    ([3], "is a str"),
])
def test_what_matches_nothing_is_refused(patterns, message):
    with pytest.raises(dk.InputError, match=message):
        select(nets.encoder(), patterns)


def test_a_model_without_sites_is_refused():
    with pytest.raises(dk.InputError, match=r"has dropout modules; got Linear\."):
        select(nn.Linear(2, 2), ["*"])


def test_blocks_are_the_numbered_modules_around_sites():
    names = ["stem.drop", "stages.0.blocks.0.drop_path1", "stages.0.blocks.0.drop_path2", "stages.0.blocks.1.mlp.2",
             "stages.1.blocks.0.d", "head.drop"]
    assert block_numbers(names) == [0, 1, 1, 2, 3, 4]
    assert block_numbers(["0", "2", "4"]) == [0, 1, 2]
    assert block_numbers([]) == []
