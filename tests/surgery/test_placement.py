"""Placements: where the helpers would put what, on a model that they leave alone."""

import copy
import sys
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch import nn

import dropkit as dk

sys.path.insert(0, str(Path(__file__).parent))
from architectures import CASES, TORCH, TRANSFORMERS, call, tensors

place = dk.placement
X = torch.randn(3, 4)


def shown(placement):
    return {name: f"{type(module).__name__} {module.p:.4g}" for name, module in placement.items()}


# ------------------------------------------------------------------------------------------------ activations


def test_activations_but_that_of_the_output():
    model = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 8), nn.GELU(), nn.Linear(8, 2), nn.Tanh())
    assert shown(place.after_activations(model, 0.3)) == {"1": "Dropout 0.3", "3": "Dropout 0.3"}
    assert place.after_activations(model).where == "after"


def test_gates_and_outputs_are_no_activations():
    with pytest.raises(dk.InputError, match="has them as modules between its layers; got Sequential"):
        place.after_activations(nn.Sequential(nn.Linear(4, 8), nn.Sigmoid(), nn.Softmax(-1), nn.Linear(8, 2)))


class Backwards(nn.Module):
    """Defined in another order than called."""

    def __init__(self):
        super().__init__()
        self.out, self.last, self.act, self.first = nn.Linear(4, 2), nn.ReLU(), nn.ReLU(), nn.Linear(4, 4)

    def forward(self, x):
        return self.last(self.out(self.act(self.first(x))))


def test_the_order_of_calls_counts_when_inputs_are_given():
    model = Backwards()
    assert list(place.after_activations(model)) == ["last", "act"]
    assert list(place.after_activations(model, inputs=X)) == ["act"]
    assert list(place.before_classifier(model)) == ["first"]
    assert list(place.before_classifier(model, inputs=X)) == ["out"]


class Functional(nn.Module):
    def __init__(self):
        super().__init__()
        self.one, self.two, self.three, self.out = (nn.Linear(4, 4) for _ in range(4))

    def forward(self, x):
        x = F.relu(self.one(x))
        y = self.two(x)
        x = F.relu(y) + y  # what is under this one is used elsewhere
        return F.relu(self.out(F.gelu(self.three(x))))


def test_relu_called_as_a_function_is_found_under_its_module():
    placement = place.after_activations(Functional(), 0.5, inputs=X)
    assert list(placement) == ["one"]
    assert placement.notes == ("relu() in 'the model' is called as a function", "gelu() in 'the model' is called as a function")


def test_dropping_before_relu_is_dropping_after_it():
    model, x = CASES["graph"].build().eval(), CASES["graph"].inputs
    dk.insert(model, {name: dk.nn.Dropout(1.0) for name in place.after_activations(model, inputs=x)})
    plain = dk.insert(model, {"convs.2": dk.nn.Dropout(0.0)}).names
    assert plain == ("convs.2.after_dropout",)
    for name in ("convs.0", "convs.1"):
        model.get_submodule(name).get_submodule("after_dropout").train()
    assert torch.equal(call(model, x), model.convs[2](torch.zeros(6, 6), x[1]))


def test_selu_gets_alpha_dropout_unless_told_otherwise():
    model = nn.Sequential(nn.Linear(4, 4), nn.SELU(), nn.Linear(4, 2))
    assert shown(place.after_activations(model, 0.1)) == {"1": "AlphaDropout 0.1"}
    assert shown(place.after_activations(model, nn.Dropout(0.1))) == {"1": "Dropout 0.1"}


def test_activations_of_transformers():
    model = TRANSFORMERS["bert"].build()
    assert list(place.after_activations(model, 0.1)) == [f"encoder.layer.{i}.intermediate.intermediate_act_fn" for i in (0, 1)]


# ------------------------------------------------------------------------------- classifier, convolutions, input


@pytest.mark.parametrize(("name", "layer"), [("resnet", "fc"), ("vit", "head"), ("densenet", "classifier"), ("gpt", "lm_head"),
                                             ("mlp", "net.4"), ("tagger", "out")])
def test_before_the_classifier(name, layer):
    case = CASES[name]
    for inputs in (None, case.inputs):
        placement = place.before_classifier(case.build(), 0.5, inputs=inputs)
        assert list(placement) == [layer]
        assert placement.where == "before"


def test_the_projection_of_attention_is_no_classifier():
    assert list(place.before_classifier(nn.ModuleList([nn.Linear(2, 2), nn.MultiheadAttention(4, 2)]))) == ["0"]


def test_convolutions_by_rank_but_the_output():
    model = nn.ModuleDict({"one": nn.Conv1d(1, 1, 1), "two": nn.ConvTranspose2d(1, 1, 1), "three": nn.Conv3d(1, 1, 1),
                           "out": nn.Conv2d(1, 1, 1)})
    assert shown(place.after_convolutions(model, 0.2)) == {"one": "Dropout1d 0.2", "two": "Dropout2d 0.2",
                                                           "three": "Dropout3d 0.2"}
    assert list(place.after_convolutions(CASES["unet"].build(), inputs=CASES["unet"].inputs)) == ["down1.0", "down2.0", "up",
                                                                                                  "out.0"]
    assert list(place.after_convolutions(CASES["functional"].build())) == ["conv"]


def test_on_the_input():
    model = CASES["mlp"].build()
    placement = place.on_input(model, 0.2)
    assert shown(placement) == {"": "Dropout 0.2"}
    dk.insert(model, {"": dk.nn.Dropout(1.0)}, where=placement.where)
    assert torch.equal(model(torch.ones(2, 8)), model.eval()(torch.zeros(2, 8)))


@pytest.mark.parametrize("inputs", [None, CASES["gpt"].inputs])
def test_numbers_of_words_are_not_dropped(inputs):
    with pytest.raises(dk.InputError, match=r"got numbers of words\. Insert after the embedding: dk.insert\(model, {'wte'"):
        place.on_input(CASES["gpt"].build(), inputs=inputs)


# --------------------------------------------------------------------------------------------------- residuals


@pytest.mark.parametrize(("rule", "rates"), [
    ("linspace", [0.0, 0.1, 0.2, 0.3, 0.4]), ("paper", [0.08, 0.16, 0.24, 0.32, 0.4]),
    ("zero_based", [0.0, 0.08, 0.16, 0.24, 0.32]), (None, [0.4] * 5)])
def test_rates_follow_depth(rule, rates):
    case = CASES["resnet"]
    placement = place.in_residual_branches(case.build(), case.inputs, 0.4, rule=rule)
    assert [module.p for module in placement.values()] == pytest.approx(rates, abs=1e-12)
    assert list(placement) == [f"layer{name}.bn2" for name in ("1.0", "2.0", "3.0", "4.0", "4.1")]


def test_branches_of_a_block_share_its_rate():
    case = TORCH["transformer"]
    rates = {name: module.p for name, module in place.in_residual_branches(case.build(), case.inputs, 0.4).items()}
    assert list(rates.values()) == pytest.approx([0.0] * 2 + [0.2] * 3 + [0.4] * 3)


def test_a_template_keeps_its_settings_and_its_rate_is_the_last():
    case = CASES["resnet"]
    template = dk.nn.DropPath(0.2, per="batch")
    placement = place.in_residual_branches(case.build(), case.inputs, template)
    assert [(module.per, round(module.p, 3)) for module in placement.values()] == [
        ("batch", p) for p in (0.0, 0.05, 0.1, 0.15, 0.2)]
    assert template.p == 0.2
    made = place.in_residual_branches(case.build(), case.inputs, dk.nn.Dropout2d).values()
    assert {type(module) for module in made} == {dk.nn.Dropout2d}


def test_where_time_comes_first_a_branch_is_dropped_for_the_batch():
    case = TORCH["encoder_time_first"]
    placement = place.in_residual_branches(case.build(), case.inputs, 0.2)
    assert {module.per for module in placement.values()} == {"batch"}
    assert placement.notes == ("attention has time first: a branch is dropped for the whole batch",)
    assert {m.per for m in place.in_residual_branches(TORCH["encoder"].build(), TORCH["encoder"].inputs).values()} == {"sample"}


def test_a_block_that_is_used_twice_gets_the_mean():
    class Twice(nn.Module):
        def __init__(self):
            super().__init__()
            self.blocks = nn.ModuleList([Residual(), Residual()])

        def forward(self, x):
            return self.blocks[0](self.blocks[1](self.blocks[0](x)))

    class Residual(nn.Module):
        def __init__(self):
            super().__init__()
            self.layer = nn.Linear(4, 4)

        def forward(self, x):
            return x + self.layer(x)

    placement = place.in_residual_branches(Twice(), X, 0.6)
    assert shown(placement) == {"blocks.0.layer": "DropPath 0.3", "blocks.1.layer": "DropPath 0.3"}
    assert placement.notes == ("'blocks.0.layer' ends 2 branches: it gets the mean of their rates",)


def test_one_block_alone_is_told_what_its_rule_does():
    model = nn.TransformerEncoder(nn.TransformerEncoderLayer(8, 2, 8, batch_first=True), 1, enable_nested_tensor=False)
    placement = place.in_residual_branches(model, torch.ones(2, 3, 8), 0.2)
    assert {module.p for module in placement.values()} == {0.0}
    assert placement.notes == ("to one block alone rule 'linspace' gives the rate 0; rule=None gives it 0.2",)


def test_no_branch_is_an_error_with_what_could_not_be_told():
    with pytest.raises(dk.InputError, match=r"got GraphNet; a sum in 'convs\.0' adds two paths of the same depth"):
        place.in_residual_branches(CASES["graph"].build(), CASES["graph"].inputs)
    with pytest.raises(dk.InputError, match="got MLP"):
        place.in_residual_branches(CASES["mlp"].build(), CASES["mlp"].inputs)


@pytest.mark.parametrize("name", ["resnet", "resnet_bottleneck", "vit", "convnext", "gpt", "diffusion"])
def test_a_dropped_branch_leaves_the_skip_connection(name):
    # At rate 1 every block is its skip connection, so nothing of any branch's parameters gets a gradient.
    case = CASES[name]
    model = case.build().eval()
    placement = place.in_residual_branches(model, case.inputs, 1.0, rule=None)
    dk.insert(model, placement)
    for site in dk.sites(model):
        if site.kind == "drop_path":
            site.module.train()
    tensors(call(model, case.inputs))[0].sum().backward()
    for name in placement:
        module = model.get_submodule(name)
        parameters = list(module.parameters()) or list(model.get_submodule(name.rpartition(".")[0]).parameters())
        grads = [p.grad for p in parameters if p.grad is not None]
        assert grads
        assert all(torch.equal(grad, torch.zeros_like(grad)) for grad in grads)


# ------------------------------------------------------------------------------------------------------- common

HELPERS = {
    "after_activations": lambda model, x: place.after_activations(model, inputs=x),
    "before_classifier": lambda model, x: place.before_classifier(model, inputs=x),
    "after_convolutions": lambda model, x: place.after_convolutions(model, inputs=x),
    "on_input": lambda model, x: place.on_input(model, inputs=x),
    "in_residual_branches": lambda model, x: place.in_residual_branches(model, x),
}


@pytest.mark.parametrize("helper", HELPERS)
def test_the_model_is_left_alone_and_the_placement_inserts(helper):
    case = CASES["resnet"]
    model = case.build().train()
    state, before = copy.deepcopy(model.state_dict()), [(name, list(vars(m)), m.training) for name, m in model.named_modules()]
    placement = HELPERS[helper](model, case.inputs)
    assert [(name, list(vars(m)), m.training) for name, m in model.named_modules()] == before
    assert all(torch.equal(model.state_dict()[key], value) for key, value in state.items())
    assert len(dk.insert(model, placement).names) == len(placement)
    model.train()(*case.inputs).sum().backward()


@pytest.mark.parametrize(("dropout", "kind"), [
    (0.25, dk.nn.Dropout), (nn.Dropout(0.25), nn.Dropout), (dk.nn.Dropout, dk.nn.Dropout),
    (lambda: dk.nn.GaussianDropout(0.25), dk.nn.GaussianDropout)])
def test_a_rate_a_module_or_a_maker(dropout, kind):
    made = list(place.after_activations(CASES["mlp"].build(), dropout).values())
    assert {type(module) for module in made} == {kind}
    assert len(set(made)) == 2
    assert dropout not in made


@pytest.mark.parametrize("dropout", [1.5, "0.5", None, nn.ReLU(), lambda: 3, dk.nn.ConcreteDropout(nn.Linear(2, 2))])
def test_anything_else_is_refused(dropout):
    for helper in (place.after_activations, place.before_classifier, place.on_input):
        with pytest.raises(dk.InputError):
            helper(CASES["mlp"].build(), dropout)
    with pytest.raises(dk.InputError):
        place.in_residual_branches(CASES["resnet"].build(), CASES["resnet"].inputs, dropout)


@pytest.mark.parametrize("helper", [place.before_classifier, place.after_convolutions, place.after_activations])
def test_a_model_that_does_not_fit(helper):
    with pytest.raises(dk.InputError, match="Embedding"):
        helper(nn.Embedding(2, 2))
