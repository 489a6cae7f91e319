"""Insert and remove: names, globs, refusals, structured outputs, compilers and wrappers."""

import copy
import pickle
import sys
from collections import OrderedDict, namedtuple
from pathlib import Path

import pytest
import torch
from torch import nn

import dropkit as dk
from dropkit.surgery.applied import act

sys.path.insert(0, str(Path(__file__).parent))
import architectures
import nets

FULL = 1.0  # at this rate what is dropped is zero for certain


def mlp():
    torch.manual_seed(0)
    return nn.Sequential(OrderedDict(one=nn.Linear(8, 8), act=nn.ReLU(), two=nn.Linear(8, 8), out=nn.Linear(8, 2)))


def names(model):
    return [site.name for site in dk.sites(model)]


def hooks(model):
    return sum(len(module._forward_hooks) + len(module._forward_pre_hooks) for module in model.modules())


def test_after_acts_on_what_a_module_returns():
    model, seen = mlp(), []
    model.one.register_forward_hook(lambda module, args, output: seen.append(output))
    dk.insert(model, {"one": dk.nn.Dropout(FULL)})
    assert torch.equal(model.one(torch.ones(3, 8)), torch.zeros(3, 8))
    assert (seen[0] != 0).all()  # hooks from before see what they saw


def test_before_acts_on_what_a_module_takes():
    model = mlp()
    insertion = dk.insert(model, {"one": dk.nn.Dropout(FULL)}, where="before")
    assert insertion.names == ("one.before_dropout",)
    assert torch.equal(model.one(torch.ones(3, 8)), model.one.bias.expand(3, 8))


def test_both_ends_of_one_module_and_twice_at_one_end():
    model = mlp()
    for where in ("after", "before", "after"):
        dk.insert(model, {"two": dk.nn.Dropout(0.5)}, where=where)
    assert names(model) == ["two.after_dropout", "two.before_dropout", "two.after_dropout_2"]
    assert dk.remove(model, "two.after_dropout_2") == ("two.after_dropout_2",)
    assert names(model) == ["two.after_dropout", "two.before_dropout"]


def test_each_target_gets_a_copy_and_the_template_is_left_alone():
    model, template = mlp(), dk.nn.Dropout(0.5)
    dk.insert(model, {"*": template})
    sites = [site.module for site in dk.sites(model)]
    assert len(sites) == len(set(sites)) == 4
    assert template not in sites
    assert template.stream is None
    dk.set_rate(model, {"one.*": 0.1})
    assert [site.p for site in dk.sites(model)] == [0.1, 0.5, 0.5, 0.5]


def test_the_mode_is_that_of_the_target():
    model = mlp()
    model.two.eval()
    dk.insert(model, {"one": dk.nn.Dropout(), "two": dk.nn.Dropout()})
    assert [site.active for site in dk.sites(model)] == [True, False]
    model.eval()
    assert not any(site.active for site in dk.sites(model))


def test_globs_stay_between_dots_and_two_stars_do_not():
    model = nets.encoder()
    assert dk.insert(model, {"layers.*": dk.nn.DropPath()}).names == ("layers.0.after_dropout", "layers.1.after_dropout")
    assert dk.insert(model, {"**.norm?": dk.nn.Dropout()}).names == tuple(
        f"layers.{i}.norm{k}.after_dropout" for i in (0, 1) for k in (1, 2))
    assert dk.insert(model, {"layers.[!0].linear*": dk.nn.Dropout()}).names == (
        "layers.1.linear1.after_dropout", "layers.1.linear2.after_dropout")


def test_later_globs_override_and_names_win():
    model = mlp()
    dk.insert(model, {"two": dk.nn.Dropout(0.9), "*": dk.nn.Dropout(0.1), "o*": dk.nn.Dropout(0.2)})
    assert {site.name: site.p for site in dk.sites(model)} == {
        "one.after_dropout": 0.2, "act.after_dropout": 0.1, "two.after_dropout": 0.9, "out.after_dropout": 0.2}


def test_two_stars_reach_everything_that_is_called_and_nothing_inserted():
    model = nn.Sequential(nn.ModuleList([nn.ReLU()]), nn.MultiheadAttention(4, 2))
    dk.insert(model, {"**": dk.nn.Dropout()})
    dk.insert(model, {"**": dk.nn.Dropout()})
    assert names(model) == ["0.0.after_dropout", "0.0.after_dropout_2", "1", "1.after_dropout", "1.after_dropout_2"]


def test_a_container_is_not_given_another_layer():
    model = nn.Sequential(mlp(), nn.Sequential(nn.Linear(2, 2), nn.Sequential(nn.ReLU(), nn.Tanh())))
    insertion = dk.insert(model, {"1": dk.nn.Dropout(FULL)})
    assert insertion.names == ("1.1.1.after_1_dropout",)
    assert [len(part) for part in model] == [4, 2]
    assert torch.equal(model(torch.ones(3, 8)), torch.zeros(3, 2))
    assert (model[1][1](torch.ones(3)) != 0).all()  # its last module alone drops nothing
    assert dk.remove(model, "1.after_dropout") == ("1.1.1.after_1_dropout",)
    assert hooks(model) == 0
    assert names(model) == []


def test_before_a_container_lives_in_its_first_module():
    model = nn.Sequential(mlp())
    assert dk.insert(model, {"0": dk.nn.Dropout(FULL)}, where="before").names == ("0.one.before_0_dropout",)
    assert torch.equal(model(torch.ones(3, 8)), model(torch.zeros(3, 8)))


class Goes(nn.Module):
    """Calls whatever children it has."""

    def __init__(self):
        super().__init__()
        self.a, self.b = nn.Linear(3, 3), nn.Tanh()

    def forward(self, x):
        for child in self.children():
            x = child(x)
        return x


def test_a_forward_over_all_children_calls_no_site():
    model = nn.ModuleDict({"goes": Goes()})
    x = torch.ones(5, 3)
    expected = model["goes"](x)
    dk.insert(model, {"goes": dk.nn.Dropout(0.0)})
    calls = []
    dk.sites(model)[0].module.register_forward_hook(lambda *args: calls.append(1))
    assert torch.equal(model["goes"](x), expected)
    assert calls == [1]
    assert names(model) == ["goes.b.after_goes_dropout"]


def test_a_shared_module_is_one_target_under_any_name():
    model = architectures.Siamese()
    assert dk.insert(model, {"left.1": dk.nn.Dropout(0.1), "right.1": dk.nn.Dropout(0.2)}).names == ("left.1.after_dropout",)
    assert dk.sites(model)[0].p == 0.2
    assert hooks(model) == 1


def test_the_model_itself():
    model = nets.Tagger()
    assert dk.insert(model, {"": dk.nn.Dropout(FULL)}).names == ("after_dropout",)
    assert (model(torch.ones(2, 5, 8)) == 0).all()
    assert dk.remove(model, "after_dropout") == ("after_dropout",)


# ------------------------------------------------------------------------------------------ structured outputs

Pair = namedtuple("Pair", "first second")


class Returns(nn.Module):
    def __init__(self, value):
        super().__init__()
        self.value = value

    def forward(self, x):
        return self.value


ONES = torch.ones(4)


@pytest.mark.parametrize(("value", "output", "dropped"), [
    (ONES, 0, lambda y: y), ((ONES, None), 0, lambda y: y[0]), ((None, ONES), 1, lambda y: y[1]),
    ([ONES, 2], 0, lambda y: y[0]), (Pair(ONES, 3), "first", lambda y: y.first), (Pair(3, ONES), 1, lambda y: y.second),
    ({"a": 1, "b": ONES}, "b", lambda y: y["b"]), ({"a": ONES}, 0, lambda y: y["a"]),
    (OrderedDict(a=ONES, b=None), 0, lambda y: y["a"]),
])
def test_an_element_of_what_is_returned(value, output, dropped):
    module = Returns(value)
    original = copy.deepcopy(value)
    dk.insert(module, {"": dk.nn.Dropout(FULL)}, output=output)
    result = module(0)
    assert type(result) is type(value)
    assert torch.equal(dropped(result), torch.zeros(4))
    assert torch.equal(dropped(value), ONES)  # what the module keeps is untouched
    assert str(value) == str(original)
    module.eval()
    assert module(0) is value


def test_outputs_of_transformers():
    from transformers.modeling_outputs import BaseModelOutput

    module = Returns(BaseModelOutput(last_hidden_state=ONES, hidden_states=(ONES,)))
    dk.insert(module, {"": dk.nn.Dropout(FULL)}, output="last_hidden_state")
    result = module(0)
    assert type(result) is BaseModelOutput
    assert torch.equal(result.last_hidden_state, torch.zeros(4))
    assert result[0] is result.last_hidden_state
    assert torch.equal(result.hidden_states[0], ONES)


@pytest.mark.parametrize(("value", "output", "text"), [
    (ONES, 1, "element 1 of"), ((ONES, None), 1, "NoneType in tuple"), ({"a": ONES}, "b", "element 'b'"), ("text", 0, "str"),
    ((ONES,), 4, "element 4"), ((ONES,), "first", "element 'first'"), (None, 0, "NoneType"),
])
def test_a_missing_element_is_named(value, output, text):
    module = Returns(value)
    dk.insert(module, {"": dk.nn.Dropout()}, output=output)
    with pytest.raises(dk.InputError, match=f"{text}.*output= to insert"):
        module(0)


class Two(nn.Module):
    def forward(self, x, other=None):
        return x, other


@pytest.mark.parametrize(("output", "call", "which"), [
    (0, lambda m: m(ONES, ONES), 0), (1, lambda m: m(ONES, ONES), 1), (1, lambda m: m(ONES, other=ONES), 1),
    ("other", lambda m: m(ONES, other=ONES), 1), (0, lambda m: m(x=ONES, other=ONES), 0),
])
def test_an_argument_by_position_or_name(output, call, which):
    module = Two()
    dk.insert(module, {"": dk.nn.Dropout(FULL)}, where="before", output=output)
    result = call(module)
    assert torch.equal(result[which], torch.zeros(4))
    assert torch.equal(result[1 - which], ONES)


def test_packed_sequences_take_single_elements():
    packed = nn.utils.rnn.pack_sequence([torch.ones(3, 2), torch.ones(2, 2)])
    assert torch.equal(act(dk.nn.Dropout(FULL), (packed, None), 0)[0].data, torch.zeros(5, 2))
    with pytest.raises(dk.InputError, match="packed sequences take a dropout of single elements; got LockedDropout"):
        act(dk.nn.LockedDropout(0.5), packed, 0)
    with pytest.raises(dk.InputError, match="packed sequences"):
        act(dk.nn.Dropout(0.5, share_dims=(1,)), packed, 0)


# --------------------------------------------------------------------------------------------------- refusals

CONCRETE = dk.nn.ConcreteDropout(nn.Linear(2, 2))


@pytest.mark.parametrize(("placement", "options", "text"), [
    ({"one": CONCRETE}, {}, "variants without parameters; got ConcreteDropout for 'one'"),
    ({"one": dk.nn.DropConnect(nn.Linear(2, 2))}, {}, "variants without parameters"),
    ({"one": nn.ReLU()}, {}, "what is inserted is a dropout; got ReLU for 'one'"),
    ({"one": dk.nn.Dropout}, {}, "what is inserted is a dropout"),
    ({"one": 0.5}, {}, "what is inserted is a dropout; got 0.5"),
    ({"one": dk.nn.ScaledDotProductAttention()}, {}, "takes one input"),
    ({"one": nn.Dropout(inplace=True)}, {}, "leaves its input alone"),
    ({"tow": dk.nn.Dropout()}, {}, r"name of a module; got 'tow'\. The nearest modules are 'two'"),
    ({"*.*": dk.nn.Dropout()}, {}, r"stays between dots"), ({3: dk.nn.Dropout()}, {}, "every pattern matches"),
    ({}, {}, "a placement holds"), ([], {}, "a placement holds"), ("one", {}, "a placement holds"),
    ({"one": dk.nn.Dropout()}, {"where": "behind"}, 'where is "after" or "before"'),
    ({"one": dk.nn.Dropout()}, {"output": -1}, "position from 0"), ({"one": dk.nn.Dropout()}, {"output": True}, "position"),
    ({"one": dk.nn.Dropout()}, {"output": None}, "position from 0"),
])
def test_refusals_change_nothing(placement, options, text):
    model = mlp()
    before = [(name, list(vars(module)), list(module._modules)) for name, module in model.named_modules()]
    mapping = {"act": dk.nn.Dropout(), **placement} if isinstance(placement, dict) and placement else placement
    with pytest.raises(dk.InputError, match=text):
        dk.insert(model, mapping, **options)
    assert [(name, list(vars(module)), list(module._modules)) for name, module in model.named_modules()] == before
    assert hooks(model) == 0


@pytest.mark.parametrize(("model", "name", "text"), [
    (nn.ModuleDict({"parts": nn.ModuleList([nn.ReLU()])}), "parts", "a ModuleList. Name its items"),
    (nn.ModuleDict({"parts": nn.ModuleList([nn.ReLU()])}), "part*", "Name its items"),
    (nn.Sequential(nn.MultiheadAttention(4, 2)), "0.out_proj", "Insert after the attention itself"),
    (nn.Sequential(nn.Sequential()), "0", "an empty Sequential"),
])
def test_modules_that_are_never_called(model, name, text):
    with pytest.raises(dk.InputError, match=text):
        dk.insert(model, {name: dk.nn.Dropout()})
    assert hooks(model) == 0


@pytest.mark.filterwarnings("ignore:.*torch.jit:DeprecationWarning")
def test_scripted_modules_are_refused():
    scripted = torch.jit.trace(nn.Linear(2, 2), torch.ones(1, 2))
    with pytest.raises(dk.InputError, match="written in Python; got a scripted"):
        dk.insert(nn.Sequential(scripted), {"0": dk.nn.Dropout()})


@pytest.mark.parametrize("bad", [None, nn.Linear, "model"])
def test_a_model_is_a_module(bad):
    with pytest.raises(dk.InputError, match=r"a model is a torch\.nn\.Module"):
        dk.insert(bad, {"": dk.nn.Dropout()})
    with pytest.raises(dk.InputError, match=r"a model is a torch\.nn\.Module"):
        dk.remove(bad, "*")


@pytest.mark.parametrize("what", ["one", "one.after", "three.after_dropout", 3, ["two.after_dropout", "nothing"]])
def test_only_what_was_inserted_is_removed(what):
    model = mlp()
    dk.insert(model, {"one": dk.nn.Dropout(), "two": dk.nn.Dropout()})
    with pytest.raises(dk.InputError, match=r"what is removed was inserted; got .*'one\.after_dropout'"):
        dk.remove(model, what)
    assert names(model) == ["one.after_dropout", "two.after_dropout"]


def test_an_insertion_belongs_to_its_model_and_is_removed_once():
    model = mlp()
    insertion = dk.insert(model, {"one": dk.nn.Dropout(), "two": dk.nn.Dropout()})
    with pytest.raises(dk.InputError, match="a copy's sites are removed by name"):
        dk.remove(copy.deepcopy(model), insertion)
    dk.remove(model, "two.*")
    with pytest.raises(dk.InputError, match="an insertion is in the model"):
        dk.remove(model, insertion)
    assert names(model) == ["one.after_dropout"]


# ------------------------------------------------------------------------------------- streams, copies, wrappers


def test_streams_are_paths_from_the_start():
    model, x = mlp(), torch.ones(50, 8)
    dk.insert(model, {"*": dk.nn.Dropout(0.5)})
    streams = [site.module.stream for site in dk.sites(model)]
    assert streams == names(model)
    with dk.keyed(3):
        expected = model(x)
    dk.name_streams(model)
    assert [site.module.stream for site in dk.sites(model)] == streams
    with dk.keyed(3):
        assert torch.equal(model(x), expected)
    with dk.keyed(3):
        first = model.one(x)
    dk.remove(model, ["two.*", "out.*", "act.*"])
    with dk.keyed(3):  # the site that is left draws what it drew
        assert torch.equal(model.one(x), first)


def test_a_hook_registered_after_unpickling_does_not_replace_ours():
    model = mlp()
    dk.insert(model, {"one": dk.nn.Dropout(FULL)})
    data = pickle.dumps(model)
    kept, torch.utils.hooks.RemovableHandle.next_id = torch.utils.hooks.RemovableHandle.next_id, 0  # as in a new process
    try:
        twin = pickle.loads(data)
        for _ in range(3):
            twin.one.register_forward_hook(lambda module, args, output: None)
        assert len(twin.one._forward_hooks) == 4
        assert torch.equal(twin.one(torch.ones(3, 8)), torch.zeros(3, 8))
    finally:
        torch.utils.hooks.RemovableHandle.next_id = max(kept, torch.utils.hooks.RemovableHandle.next_id)


def test_lazy_layers_are_initialised_later():
    model = nn.Sequential(nn.LazyLinear(4), nn.LazyBatchNorm1d(), nn.ReLU())
    dk.insert(model, {"0": dk.nn.Dropout(FULL)})
    assert torch.equal(model[0](torch.ones(3, 8)), torch.zeros(3, 4))
    assert model[0].weight.shape == (4, 8)
    dk.remove(model, "*")
    assert hooks(model[0]) == 0


def test_gradients_are_those_of_what_was_kept():
    model, x = nn.Sequential(nn.Identity()), torch.ones(1000, requires_grad=True)
    dk.insert(model, {"0": dk.nn.Dropout(0.25)})
    y = model(x)
    y.sum().backward()
    assert torch.equal(x.grad, y.detach())


def test_inside_data_parallel():
    model = nn.DataParallel(mlp())
    assert dk.insert(model, {"one": dk.nn.Dropout(FULL)}).names == ("one.after_dropout",)
    assert torch.equal(model(torch.ones(3, 8)), model(torch.zeros(3, 8)))
    assert dk.remove(model, "one.*") == ("one.after_dropout",)


@pytest.mark.parametrize("where", ["after", "before"])
def test_compiled_models_follow(where):
    torch.compiler.reset()
    model = mlp()
    compiled = torch.compile(model, backend="eager", fullgraph=True)
    x = torch.randn(6, 8)
    plain = compiled(x)
    dk.insert(compiled, {"two": dk.nn.Dropout(0.5)}, where=where)
    with dk.keyed(1):
        expected = model(x)
    with dk.keyed(1):
        dropped = compiled(x)
    assert torch.equal(dropped, expected)
    assert not torch.equal(dropped, plain)
    dk.set_rate(compiled, 0.0)
    assert torch.equal(compiled(x), plain)
    dk.remove(compiled, "*")
    dk.insert(model, {"out": dk.nn.Dropout(FULL)})  # also through the model inside
    assert torch.equal(compiled(x), torch.zeros(6, 2))
    dk.remove(model, "*")
    assert torch.equal(compiled(x), plain)


def test_compiled_containers_and_tuples():
    torch.compiler.reset()
    model = Two()
    dk.insert(model, {"": dk.nn.Dropout(FULL)}, output=1)
    first, second = torch.compile(model, backend="eager", fullgraph=True)(torch.ones(3), torch.ones(3))
    assert torch.equal(first, torch.ones(3))
    assert torch.equal(second, torch.zeros(3))
    stack = nn.Sequential(mlp())
    dk.insert(stack, {"0": dk.nn.Dropout(FULL)})
    assert torch.equal(torch.compile(stack, backend="eager", fullgraph=True)(torch.ones(3, 8)), torch.zeros(3, 2))


@pytest.mark.slow
def test_compiled_by_inductor():
    torch.compiler.reset()
    model, x = mlp(), torch.randn(6, 8)
    dk.insert(model, {"*": dk.nn.Dropout(0.5)})
    compiled = torch.compile(model, fullgraph=True)
    with dk.keyed(2):
        expected = model(x)
    with dk.keyed(2):
        torch.testing.assert_close(compiled(x), expected)
    model.eval()
    torch.testing.assert_close(compiled(x), model(x))


def test_torchs_fused_encoder_gives_way_to_the_plain_one():
    # Without gradients torch fuses an encoder layer in evaluation, and never where a hook is attached.
    model, x = nets.encoder().eval(), nets.CASES["encoder"][1]
    with torch.no_grad():
        fused = model(x)
        insertion = dk.insert(model, {"layers.*.linear1": dk.nn.Dropout(0.5)})
        torch.testing.assert_close(model(x), fused)
        dk.remove(model, insertion)
        assert torch.equal(model(x), fused)


def test_a_placement_says_where():
    model = mlp()
    placement = dk.Placement({"one": dk.nn.Dropout(0.1)}, "before", ["nothing else"])
    assert str(placement) == "before one: Dropout(p=0.1, inplace=False)\nnote: nothing else"
    assert dk.insert(model, placement).names == ("one.before_dropout",)
    assert dk.insert(model, placement, where="after").names == ("one.after_dropout",)


def test_inside_distributed_data_parallel(tmp_path):
    torch.distributed.init_process_group("gloo", init_method=f"file://{tmp_path / 'store'}", rank=0, world_size=1)
    try:
        model = nn.parallel.DistributedDataParallel(mlp())
        assert dk.insert(model, {"two": dk.nn.Dropout(FULL)}).names == ("two.after_dropout",)
        output = model(torch.ones(3, 8))
        assert torch.equal(output, model.module.out.bias.expand(3, 2))
        output.sum().backward()
        assert torch.equal(model.module.one.weight.grad, torch.zeros(8, 8))
        assert dk.remove(model, "*") == ("two.after_dropout",)
    finally:
        torch.distributed.destroy_process_group()


def test_computed_weights_stay_computed():
    model = nn.Sequential(nn.utils.parametrizations.weight_norm(nn.Linear(4, 4)))
    keys = list(model.state_dict())
    dk.insert(model, {"0": dk.nn.Dropout(FULL)})
    assert torch.equal(model(torch.ones(2, 4)), torch.zeros(2, 4))
    assert list(model.state_dict()) == keys
