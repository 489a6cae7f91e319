"""Published uses of dropout: what each puts where, that evaluation does not change, and the way back."""

import copy
import functools
import math
import sys
from pathlib import Path

import pytest
import torch
from torch import nn

import dropkit as dk
from dropkit.surgery.trace import call, tensors

sys.path.insert(0, str(Path(__file__).parent))
import architectures
from architectures import CASES, TORCH, TRANSFORMERS

DOCS = Path(__file__).resolve().parents[2] / "docs" / "placing.md"


class Words(nn.Module):
    """A language model whose output layer is tied to its embedding."""

    def __init__(self, layers=1):
        super().__init__()
        self.encoder, self.decoder = nn.Embedding(11, 6), nn.Linear(6, 11)
        self.lstm = nn.LSTM(6, 6, layers, batch_first=True)
        self.decoder.weight = self.encoder.weight

    def forward(self, tokens):
        return self.decoder(self.lstm(self.encoder(tokens))[0])


WORDS = (architectures.words(4, 6),)
RESNET, RESNET50 = CASES["resnet"], CASES["resnet_bottleneck"]
PATHS = [("layer1.0", 0.0), ("layer2.0", 0.25), ("layer3.0", 0.5), ("layer4.0", 0.75), ("layer4.1", 1.0)]


def paths(top, suffix="bn2.after_dropout", rule=lambda x: x):
    return [(f"{name}.{suffix}", "drop_path", top * rule(share)) for name, share in PATHS]


def branches(names, rates):
    return [(f"{name}.after_dropout", "drop_path", rate) for name, rate in zip(names, rates, strict=True)]


ENCODER = [f"layers.{i}.dropout{k}" for i in (0, 1) for k in (1, 2)]
CASE = {
    "srivastava_mlp": (CASES["mlp"].build, CASES["mlp"].inputs, {}, [
        ("net.1.after_dropout", "dropout", 0.5), ("net.3.after_dropout", "dropout", 0.5),
        ("before_dropout", "dropout", 0.2)]),
    "awd_lstm": (CASES["language_model"].build, CASES["language_model"].inputs, {}, [
        ("encoder", "embedding_dropout", 0.1), ("encoder.after_dropout", "locked_dropout", 0.4),
        ("rnns.0", "weight_drop", 0.5), ("rnns.0.after_dropout", "locked_dropout", 0.3),
        ("rnns.1", "weight_drop", 0.5), ("rnns.1.after_dropout", "locked_dropout", 0.3),
        ("rnns.2", "weight_drop", 0.5), ("rnns.2.after_dropout", "locked_dropout", 0.4)]),
    "zaremba_medium": (functools.partial(Words, 2), WORDS, {}, [
        ("lstm", "recurrent", 0.5), ("lstm.before_dropout", "dropout", 0.5), ("lstm.after_dropout", "dropout", 0.5)]),
    "zaremba_large": (CASES["language_model"].build, CASES["language_model"].inputs, {}, [
        ("rnns.0.before_dropout", "dropout", 0.65), *((f"rnns.{i}.after_dropout", "dropout", 0.65) for i in range(3))]),
    "transformer_base": (CASES["gpt"].build, CASES["gpt"].inputs, {}, [
        ("drop", "dropout", 0.1), *((f"h.{i}.{name}", "dropout", 0.1) for i in (0, 1) for name in ("resid_dropout", "mlp.3"))]),
    "early_dropout_vit": (CASES["vit"].build, CASES["vit"].inputs, {}, [
        ("pos_drop", "dropout", 0.1), *((f"blocks.{i}.{name}", kind, 0.1) for i in (0, 1)
                                        for name, kind in (("attn", "attention"), ("mlp.2", "dropout")))]),
    "early_stochastic_depth_vit": (TORCH["encoder"].build, TORCH["encoder"].inputs, {}, branches(ENCODER, [0, 0, 0.5, 0.5])),
    "late_stochastic_depth_vit": (TORCH["encoder"].build, TORCH["encoder"].inputs, {}, branches(ENCODER, [0, 0, 0.4, 0.4])),
    "convnext": (CASES["convnext"].build, CASES["convnext"].inputs, {"size": "small"},
                 branches([f"stages.{i}.pwconv2" for i in ("0.0", "1.0", "1.1")], [0, 0.2, 0.4])),
    "swin": (TORCH["encoder"].build, TORCH["encoder"].inputs, {}, branches(ENCODER, [0, 0, 0.2, 0.2])),
    "stochastic_depth_resnet": (RESNET.build, RESNET.inputs, {}, paths(0.5, rule=lambda share: (share * 4 + 1) / 5)),
    "drop_block_resnet50": (RESNET50.build, RESNET50.inputs, {}, [
        (f"{block}.{name}.after_dropout", "drop_block2d", 0.1)
        for block, names in (("layer3.0", ["bn1", "bn2", "bn3", "downsample.1"]),
                             ("layer4.0", ["bn1", "bn2", "bn3", "downsample.1"]), ("layer4.1", ["bn1", "bn2", "bn3"]))
        for name in names]),
    "spatial_dropout": (CASES["unet"].build, CASES["unet"].inputs, {"p": 0.2}, [
        (f"{name}.after_dropout", "dropout2d", 0.2) for name in ("down1.0", "down2.0", "up", "out.0")]),
}
TABLE = {row.name: row for row in dk.presets.PRESETS}


def made(name):
    build, inputs, options, expected = CASE[name]
    torch.manual_seed(0)
    return build(), inputs, options, expected


def surroundings(model):
    return [(path, id(module), list(vars(module)), list(module._modules), len(module._forward_hooks),
             len(module._forward_pre_hooks), module.training) for path, module in model.named_modules()]


def outputs(model, inputs):
    return [tensor.detach() for tensor in tensors(call(model, inputs))]


def same(one, other):
    return all(torch.equal(a, b) for a, b in zip(one, other, strict=True))


def test_every_preset_is_tried():
    assert list(CASE) == list(TABLE)
    assert set(dk.presets.__all__) == {*TABLE, "PRESETS", "Preset", "preset", "preset_named"}


@pytest.mark.parametrize("name", CASE)
def test_what_goes_where(name):
    model, inputs, options, expected = made(name)
    rates = {site.name: site.p for site in dk.sites(model)}
    before, state, evaluated = surroundings(model), copy.deepcopy(model.state_dict()), outputs(model.eval(), inputs)
    model.train()
    put = dk.preset(name, model, inputs, **options)
    assert [(site.name, site.kind, pytest.approx(site.p)) for site in put.sites] == expected
    assert list(model.state_dict()) == list(state)
    assert same(outputs(model.eval(), inputs), evaluated)
    model.train()
    put.undo()
    assert surroundings(model) == before
    assert {site.name: site.p for site in dk.sites(model)} == rates
    assert same(outputs(model.eval(), inputs), evaluated)
    assert all(torch.equal(model.state_dict()[key], value) for key, value in state.items())


@pytest.mark.parametrize("name", CASE)
def test_it_drops_in_training_and_all_is_trained(name):
    model, inputs, options, _ = made(name)
    dk.preset(name, model, inputs, **options)
    model.train()
    runs = []
    for step in (0, 1):
        torch.manual_seed(step)  # torch's own dropout is not keyed
        with dk.keyed(1, step=step):
            runs.append(outputs(model, inputs))
    assert not same(*runs)
    tensors_of_it = list(tensors(call(model, inputs)))
    sum(tensor.sum() for tensor in tensors_of_it).backward()
    assert any(parameter.grad is not None for parameter in model.parameters())


@pytest.mark.parametrize("name", CASE)
def test_it_says_what_it_did_and_where_that_comes_from(name):
    model, inputs, options, expected = made(name)
    put = dk.preset(name, model, inputs, **options)
    text = str(put)
    assert TABLE[name].source == put.source
    assert f"{put.source.authors}: {put.source.title}, {put.source.year}" in text
    assert all(site in text for site, _, _ in expected)
    assert (put.schedule.text if put.schedule else "constant") == TABLE[name].schedule
    if put.schedule:
        assert put.schedule.text in text


@pytest.mark.parametrize("name", CASE)
def test_a_model_that_does_not_fit_is_left_alone(name):
    model = nn.Sequential(nn.Conv1d(1, 1, 1), nn.Flatten()) if name == "srivastava_mlp" else nn.Sequential(nn.Linear(2, 2))
    x = torch.ones(2, 1, 2) if name == "srivastava_mlp" else torch.ones(2, 2)
    before = surroundings(model)
    with pytest.raises(dk.InputError, match=f"{name} fits a model with"):
        dk.preset(name, model, x)
    assert surroundings(model) == before


@pytest.mark.parametrize("name", CASE)
def test_the_page_has_every_preset(name):
    page = DOCS.read_text(encoding="utf-8")
    row = TABLE[name]
    line = next(line for line in page.splitlines() if line.startswith(f"| `{name}` |"))
    for part in (row.variant, row.place, row.rate, row.schedule, row.source.authors, row.source.title, str(row.source.year)):
        assert part in line


@pytest.mark.parametrize("name", [name for name, row in TABLE.items() if row.schedule != "constant"])
def test_the_rates_follow_the_published_schedule(name):
    model, inputs, options, _ = made(name)
    put = dk.preset(name, model, inputs, **options)
    before = {site.name: site.p for site in put.sites}
    top = max(before.values())
    scheduler = put.scheduler(model, steps_per_epoch=2, **({} if put.schedule.epochs else {"steps": 600}))
    for step in range(201):
        epoch, found = step / 2, scheduler.rates
        for site, p in before.items():
            share = p / top if put.schedule.scale == "top" else 1
            early = max(0, 1 - epoch / 50)
            known = {"early_dropout_vit": 0.1 * early, "early_stochastic_depth_vit": 0.5 * early,
                     "late_stochastic_depth_vit": 0.4 * (epoch >= 50), "drop_block_resnet50": 0.1 * step / 600}[name]
            assert math.isclose(found[site], share * known, abs_tol=1e-12)
        scheduler.step()
    scheduler.finish()
    assert {site.name: site.p for site in dk.sites(model) if site.name in before} == before
    put.undo()


def test_a_scheduler_needs_a_schedule_and_where_it_stretches_the_runs_length():
    model, inputs, options, _ = made("zaremba_medium")
    with pytest.raises(dk.InputError, match="of constant rates"):
        dk.preset("zaremba_medium", model, inputs, **options).scheduler(model)
    model, inputs, options, _ = made("drop_block_resnet50")
    with pytest.raises(dk.InputError, match="steps"):
        dk.preset("drop_block_resnet50", model, inputs, **options).scheduler(model)



def test_the_bound_on_weights_is_a_companion():
    model, inputs, _, _ = made("srivastava_mlp")
    put = dk.presets.srivastava_mlp(model, inputs, c=0.1)
    put.companion()
    assert all(layer.weight.norm(dim=1).max() <= 0.1 + 1e-6 for layer in model.modules() if isinstance(layer, nn.Linear))
    assert "companion: MaxNorm(c=0.1)" in str(put)


def test_tied_weights_stay_tied():
    model = Words()
    put = dk.presets.awd_lstm(model)
    assert isinstance(model.encoder, dk.nn.EmbeddingDropout)
    assert model.decoder.weight is model.encoder.weight
    assert [site.module.batch_first for site in put.sites if site.kind == "locked_dropout"] == [True, True]
    put.undo()
    assert model.decoder.weight is model.encoder.weight


def test_inside_a_stacked_lstm_a_mask_lasts_for_the_sequence():
    model, x = Words(3), torch.tensor([[1, 2, 3]])
    before, evaluated = {name: set(vars(module)) for name, module in model.named_modules()}, model.eval()(x)
    put = dk.presets.awd_lstm(model.train())
    assert ("lstm.module.between_dropout", "locked_dropout", 0.3) in [(site.name, site.kind, site.p) for site in put.sites]
    with dk.keyed(0):
        first = model(x)
    with dk.keyed(0):
        assert torch.equal(model(x), first)
    put.undo()
    assert {name: set(vars(module)) for name, module in model.eval().named_modules()} == before
    assert (type(model.lstm), model.lstm.dropout) == (nn.LSTM, 0.0)
    assert torch.equal(model(x), evaluated)


@pytest.mark.parametrize("name", ["awd_lstm", "zaremba_medium"])
def test_a_variational_lstm_gets_the_rate_at_its_own_site(name):
    model = dk.swap(Words(2))
    put = dk.preset(name, model)
    rates = {site.name.removeprefix("lstm.module.").removeprefix("lstm."): site.p for site in put.sites}
    assert rates["between_dropout"] == {"awd_lstm": 0.3, "zaremba_medium": 0.5}[name]
    put.undo()
    assert [(site.name, site.p) for site in dk.sites(model)] == [("lstm.between_dropout", 0.0)]


def test_an_embedding_with_hooks_is_not_replaced():
    model = Words()
    model.encoder.register_forward_hook(lambda module, args, output: None)
    before = surroundings(model)
    with pytest.raises(dk.InputError, match="would be lost; got 'encoder'"):
        dk.presets.awd_lstm(model)
    assert surroundings(model) == before


@pytest.mark.parametrize(("build", "inputs", "expected"), [
    (TORCH["encoder"].build, TORCH["encoder"].inputs, ENCODER),
    (TORCH["transformer"].build, TORCH["transformer"].inputs, [
        *(f"encoder.layers.0.dropout{k}" for k in (1, 2)),
        *(f"decoder.layers.{i}.dropout{k}" for i in (0, 1) for k in (1, 2, 3))]),
    (TRANSFORMERS["bert"].build, TRANSFORMERS["bert"].inputs, [
        "embeddings.dropout",
        *(f"encoder.layer.{i}.{part}.dropout" for i in (0, 1) for part in ("attention.output", "output"))]),
])
def test_dropout_that_is_there_gets_the_rate(build, inputs, expected):
    model = build()
    dk.set_rate(model, 0.3)
    put = dk.presets.transformer_base(model, inputs)
    assert [(site.name, site.p) for site in put.sites] == [(name, 0.1) for name in expected]
    assert [len(module._forward_hooks) for module in model.modules()] == [0] * len(list(model.modules()))


class Bare(nn.Module):
    """A transformer without any dropout; its positions are added in the forward."""

    def __init__(self):
        super().__init__()
        self.embedding, self.position = nn.Embedding(11, 8), nn.Parameter(torch.zeros(6, 8))
        self.blocks = nn.ModuleList(BareBlock() for _ in range(2))

    def forward(self, tokens):
        x = self.embedding(tokens) + self.position
        for block in self.blocks:
            x = block(x)
        return x


class BareBlock(nn.Module):
    def __init__(self):
        super().__init__()
        self.qkv, self.out = nn.Linear(8, 24), nn.Linear(8, 8)
        self.mlp = nn.Sequential(nn.Linear(8, 8), nn.GELU(), nn.Linear(8, 8))

    def forward(self, x):
        q, k, v = self.qkv(x).chunk(3, -1)
        x = x + self.out((q @ k.transpose(1, 2)).softmax(-1) @ v)
        return x + self.mlp(x)


def test_a_transformer_without_dropout_gets_it():
    put = dk.presets.transformer_base(Bare(), WORDS)
    assert [site.name for site in put.sites] == [
        "blocks.0.out.after_dropout", "blocks.0.mlp.2.after_dropout", "blocks.0.before_dropout", "blocks.1.out.after_dropout",
        "blocks.1.mlp.2.after_dropout"]
    put = dk.presets.early_dropout_vit(Bare(), WORDS)
    assert [site.name for site in put.sites] == [f"blocks.{i}.{name}.after_dropout" for i in (0, 1)
                                                 for name in ("out", "mlp.1", "mlp.2")]


def test_dropout_from_before_is_noted():
    put = dk.presets.spatial_dropout(CASES["unet"].build())
    assert put.notes[0] == "the model drops already: 'down2.2'"


@pytest.mark.parametrize("size", ["huge", None, 3])
def test_unknown_sizes(size):
    for preset in (dk.presets.convnext, dk.presets.swin):
        with pytest.raises(dk.InputError, match="size is one of tiny, small, base"):
            preset(CASES["convnext"].build(), CASES["convnext"].inputs, size=size)


@pytest.mark.parametrize("name", ["swim", "", None, 3])
def test_unknown_names(name):
    with pytest.raises(dk.InputError, match="a preset is one of the table"):
        dk.preset(name, nn.Linear(2, 2))


def test_presets_that_look_at_a_pass_need_inputs():
    with pytest.raises(dk.InputError, match=r"Pass a batch: preset\(name, model, inputs\)"):
        dk.preset("swin", TORCH["encoder"].build())
