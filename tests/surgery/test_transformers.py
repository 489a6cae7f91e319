"""Surgery on the models of the transformers library, built from small configurations without weights."""

import inspect

import pytest
import torch

import dropkit as dk
from dropkit.surgery.calls import call_model

IDS = torch.arange(12).reshape(2, 6)
SMALL = {"num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 32, "hidden_size": 16}
ATTENTION = {"eager": ("dropout", "dropout"), "sdpa": ("scaled_dot_product_attention", "scaled_dot_product_attention")}


def bert(attention):
    from transformers import BertConfig, BertModel
    return BertModel(BertConfig(vocab_size=50, attn_implementation=attention, **SMALL)), {"input_ids": IDS}


def gpt2(attention):
    from transformers import GPT2Config, GPT2LMHeadModel
    config = GPT2Config(vocab_size=50, n_embd=16, n_layer=2, n_head=2, n_positions=16, bos_token_id=0, eos_token_id=0,
                        attn_implementation=attention)
    return GPT2LMHeadModel(config), {"input_ids": IDS}


def vit(attention):
    from transformers import ViTConfig, ViTModel
    config = ViTConfig(image_size=16, patch_size=8, hidden_dropout_prob=0.1, attention_probs_dropout_prob=0.1,
                       attn_implementation=attention, **SMALL)
    return ViTModel(config), torch.randn(2, 3, 16, 16, generator=torch.Generator().manual_seed(0))


def t5(attention):
    from transformers import T5Config, T5ForConditionalGeneration
    config = T5Config(vocab_size=50, d_model=16, d_kv=8, d_ff=32, num_layers=2, num_heads=2, decoder_start_token_id=0,
                      attn_implementation=attention)
    return T5ForConditionalGeneration(config), {"input_ids": IDS, "decoder_input_ids": IDS}


BERT = [f"encoder.layer.{i}.attention.self" for i in range(2)]
GPT2 = [f"transformer.h.{i}.attn" for i in range(2)]
VIT = [f"layers.{i}.attention" for i in range(2)]
T5 = [f"{part}.block.{i}.layer.{j}" for part, i, j in (
    ("encoder", 0, "0.SelfAttention"), ("encoder", 1, "0.SelfAttention"), ("decoder", 0, "0.SelfAttention"),
    ("decoder", 0, "1.EncDecAttention"), ("decoder", 1, "0.SelfAttention"), ("decoder", 1, "1.EncDecAttention"))]
MODELS = [(bert, BERT), (gpt2, GPT2), (vit, VIT), (t5, T5)]
ALL = [pytest.param(build, owners, attention, id=f"{build.__name__}-{attention}",
                    marks=[] if (build, attention) == (bert, "sdpa") else pytest.mark.slow)
       for build, owners in MODELS for attention in ATTENTION]


def output(model, inputs):
    return call_model(model, inputs)[0]


def keyed(model, inputs):
    with dk.keyed(7, step=1):
        return output(model, inputs)


def attention_line():
    """Where torch's attention is called, read from the library's source."""
    from transformers.integrations import sdpa_attention
    lines, first = inspect.getsourcelines(sdpa_attention.sdpa_attention_forward)
    calls = [number for number, line in enumerate(lines, first) if "scaled_dot_product_attention(" in line]
    return {f"sdpa_attention.py:{number}" for number in calls}


@pytest.mark.parametrize(("build", "owners", "attention"), ALL)
def test_attention_is_found_swapped_set_and_disabled(build, owners, attention):
    torch.manual_seed(0)
    model, inputs = build(attention)
    evaluated, keys = output(model.eval(), inputs), list(model.state_dict())
    classes, attributes = [type(m) for m in model.modules()], [set(vars(m)) for m in model.modules()]
    model.train()
    function, kind = ATTENTION[attention]
    found = [site for site in dk.sites(model, inputs) if site.call is not None]
    assert [(site.name, site.kind, site.p) for site in found] == [(f"{owner}:{function}", kind, 0.1) for owner in owners]
    assert all(site.active and not site.always for site in found)
    assert {site.where.partition(":")[0] for site in found} == {"sdpa_attention.py" if attention == "sdpa"
                                                              else f"modeling_{build.__name__}.py"}
    assert attention == "eager" or {site.where for site in found} <= attention_line()
    with dk.disabled(model):
        quiet = output(model, inputs)
        assert torch.equal(output(model, inputs), quiet)

    dk.swap(model, inputs=inputs)
    assert torch.equal(output(model.eval(), inputs), evaluated)
    assert list(model.state_dict()) == keys
    model.train()
    dropped = keyed(model, inputs)
    assert torch.equal(keyed(model, inputs), dropped)
    assert not torch.equal(output(model, inputs), dropped)
    with dk.disabled(model):
        assert torch.equal(output(model, inputs), quiet)
    previous = dk.set_rate(model, 0.0)
    assert torch.equal(output(model, inputs), quiet)
    dk.set_rate(model, {f"*:{function}": 0.5})
    assert not torch.equal(output(model, inputs), quiet)
    dk.set_rate(model, previous)
    assert torch.equal(keyed(model, inputs), dropped)

    dk.swap(model, to="torch")
    assert torch.equal(output(model.eval(), inputs), evaluated)
    assert [type(m) for m in model.modules()] == classes
    assert [set(vars(m)) for m in model.modules()] == attributes


@pytest.mark.slow
@pytest.mark.parametrize("build", [bert, gpt2, t5])
@pytest.mark.parametrize("attention", ATTENTION)
def test_gradient_checkpointing_makes_the_masks_again(build, attention):
    torch.manual_seed(0)
    model, inputs = build(attention)
    inputs["use_cache"] = False
    dk.swap(model.train(), inputs=inputs)
    grads = []
    for checkpointing in (False, True):
        if checkpointing:
            model.activation_checkpointing_enable({"use_reentrant": False})
        model.zero_grad()
        torch.manual_seed(3)
        output(model, inputs).square().sum().backward()
        grads.append([p.grad.clone() for p in model.parameters() if p.grad is not None])
    assert len(grads[0]) > 10
    assert all(torch.equal(a, b) for a, b in zip(*grads, strict=True))


@pytest.mark.slow
def test_a_swapped_model_is_saved_and_loaded(tmp_path):
    from transformers import BertModel
    model, inputs = bert("sdpa")
    dk.swap(model, inputs=inputs)
    model.save_pretrained(tmp_path)
    loaded = BertModel.from_pretrained(tmp_path)
    assert type(loaded) is BertModel
    assert model.config.architectures == ["BertModel"]
    assert torch.equal(output(loaded.eval(), inputs), output(model.eval(), inputs))


@pytest.mark.slow
def test_a_swapped_model_compiles():
    torch.compiler.reset()
    model, inputs = bert("sdpa")
    dk.swap(model.train(), inputs=inputs)
    compiled = torch.compile(model, backend="eager", fullgraph=True)
    assert torch.equal(keyed(compiled, inputs), keyed(model, inputs))
