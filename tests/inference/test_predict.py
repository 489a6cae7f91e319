"""mc_predict: every site acts, masks are functions of the pass, and the model is as it was."""

import copy
import math
import pickle
import random
import sys
import threading
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn.modules.batchnorm import _NormBase
from torch.utils.data import DataLoader, TensorDataset

import dropkit as dk
from dropkit.core.errors import InputError

sys.path.insert(0, str(Path(__file__).parent))
from mc_nets import CASES, Counts, Loss, OnlyInTraining, Tagger, TwoOutputs, encoder, mlp, noise

PASSES = 6
TOLERANCE = {"rtol": 1e-5, "atol": 1e-5}  # outputs are of order 1, in float32
OPAQUE = ("own lstm", "custom")  # on torch's generator
# return another thing in training mode, or no tensor, or cannot be swapped
BRANCHING = ("loss", "fields", "normalised weights", "traced part")


def close(x):
    """Bounds for outputs of order 1 in the type of x: bfloat16 has 8 bits."""
    return {"rtol": 2**-6, "atol": 2**-6} if x.dtype == torch.bfloat16 else TOLERANCE


def made(name):
    torch.manual_seed(0)
    make, x, method = CASES[name]
    return make().eval(), x.clone(), method


def state(model):
    """Everything that a user could find changed."""
    modules = {name: (type(module), module.training, dict(vars(module)), list(module._forward_hooks.values()))
               for name, module in model.named_modules()}
    values = {name: x.clone() for name, x in model.state_dict(keep_vars=True).items()}
    return modules, values


def assert_same(before, after):
    assert before[0].keys() == after[0].keys()
    for name, (kind, training, attributes, hooks) in before[0].items():
        assert (kind, training, hooks) == (after[0][name][0], after[0][name][1], after[0][name][3])
        assert attributes.keys() == after[0][name][2].keys()
        assert all(attributes[key] is after[0][name][2][key] or attributes[key] == after[0][name][2][key] for key in attributes)
    assert all(torch.equal(x, after[1][name]) for name, x in before[1].items())


@pytest.mark.parametrize("name", CASES)
def test_every_method_and_chunk_makes_the_same_passes(name):
    model, x, method = made(name)
    found = dk.mc_predict(model, x, PASSES, samples=True)
    assert method is None or found.method == method, found.why
    assert (found.method == "loop") == bool(found.why)
    in_turn = dk.mc_predict(model, x, PASSES, samples=True, method="loop")
    few = dk.mc_predict(model, x, PASSES, samples=True, memory=4 * 4 * x.numel() * 4)
    alone = dk.mc_predict(model, x, [4], samples=True)
    near = close(x)
    for other in (in_turn.samples, few.samples):
        torch.testing.assert_close(other, found.samples, **near)
    torch.testing.assert_close(alone.samples[0], found.samples[4], **near)
    assert (found.samples[0] != found.samples[1]).any()


@pytest.mark.parametrize("name", [name for name in CASES if name not in (*OPAQUE, *BRANCHING)])
def test_a_pass_is_a_keyed_forward_of_the_swapped_model(name):
    model, x, _ = made(name)
    found = dk.mc_predict(model, x, PASSES, seed=5, samples=True)
    swapped = dk.swap(copy.deepcopy(model), inputs=x)
    for module in swapped.modules():
        module.training = not isinstance(module, _NormBase)
    for index in (0, 4):
        with dk.keyed(5, pass_index=index), torch.no_grad():
            torch.testing.assert_close(swapped(x.clone()), found.samples[index], **close(x))


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("method", ["auto", "loop"])
def test_the_model_and_the_random_states_are_as_before(name, method):
    model, x, _ = made(name)
    model.train()  # trained and never put into evaluation mode
    model.register_forward_hook(lambda module, args, output: None)
    before, given = state(model), x.clone()
    torch_state, numpy_state, python_state = torch.get_rng_state(), np.random.get_state()[1].copy(), random.getstate()
    dk.mc_predict(model, x, 3, method=method)
    assert_same(before, state(model))
    assert torch.equal(x, given)
    assert torch.equal(torch.get_rng_state(), torch_state)
    assert (np.random.get_state()[1] == numpy_state).all()
    assert random.getstate() == python_state


def test_masks_are_the_same_to_the_last_bit():
    model, x = nn.Sequential(nn.Dropout(0.3)), torch.ones(7, 13)
    found = dk.mc_predict(model, x, PASSES, seed=3, samples=True).samples
    assert torch.equal(found, dk.mc_predict(model, x, PASSES, seed=3, samples=True, method="loop").samples)
    assert torch.equal(found[2:4], dk.mc_predict(model, x, [2, 3], seed=3, samples=True, memory=1).samples)
    swapped = dk.swap(copy.deepcopy(model)).train()
    for index in range(PASSES):
        with dk.keyed(3, pass_index=index):
            assert torch.equal(swapped(x), found[index])
    assert not torch.equal(found, dk.mc_predict(model, x, PASSES, seed=4, samples=True).samples)


def test_threads_do_not_matter():
    model, x, _ = made("normed")
    one = dk.mc_predict(model, x, PASSES, samples=True).samples
    threads = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        two = dk.mc_predict(model, x, PASSES, samples=True).samples
    finally:
        torch.set_num_threads(threads)
    torch.testing.assert_close(one, two, **TOLERANCE)


def test_mean_and_variance_are_those_of_one_dropout_and_one_linear_layer():
    torch.manual_seed(0)
    linear, passes = nn.Linear(200, 4, dtype=torch.float64), 2000
    x = torch.rand(3, 200, dtype=torch.float64)
    found = dk.mc_predict(nn.Sequential(nn.Dropout(0.5), linear), x, passes)
    with torch.no_grad():
        mean, variance = linear(x), x.square() @ linear.weight.square().T  # p / q is 1
    # 6 standard errors, 12 entries: a false alarm once in 4 * 10^7. A sum of two-valued terms that are symmetric about
    # their means has no more kurtosis than a normal variable, so that the variance's standard error is sqrt(2 / (T - 1)).
    assert ((found.mean - mean).abs() < 6 * (variance / passes).sqrt()).all()
    assert ((found.variance / variance - 1).abs() < 6 * math.sqrt(2 / (passes - 1))).all()


def test_statistics_are_those_of_the_samples():
    model, x, _ = made("mlp")
    found = dk.mc_predict(model, x, 20, samples=True, memory=4 * 4 * 16 * 4 * 3, task="regression")
    torch.testing.assert_close(found.mean, found.samples.mean(0))
    torch.testing.assert_close(found.variance, found.samples.var(0))
    classes = dk.mc_predict(model, x, 20, samples=True, task="classification")
    chances = classes.samples.softmax(-1)
    torch.testing.assert_close(classes.mean, chances.mean(0))
    torch.testing.assert_close(classes.variance, chances.var(0))
    torch.testing.assert_close(classes.expected_entropy, torch.distributions.Categorical(chances).entropy().mean(0))
    won = torch.stack([(chances.argmax(-1) == c).float().mean(0) for c in range(3)], -1)
    torch.testing.assert_close(classes.variation_ratio, 1 - won.amax(-1))


def test_batch_statistics_are_neither_used_nor_updated():
    model, x, _ = made("normed")
    whole = dk.mc_predict(model, x, PASSES, samples=True, where="5")
    with torch.no_grad():
        features = model[:5](x)
    dropped = whole.samples.mean(0)
    assert dropped.shape == (4, 3)
    assert model[1].num_batches_tracked == 0
    head = nn.Sequential(*[nn.Identity()] * 5, model[5], model[6]).eval()  # the same paths, and so the same masks
    torch.testing.assert_close(dk.mc_predict(head, features, PASSES, samples=True).samples, whole.samples, **TOLERANCE)


def test_fused_encoder_layers_drop():
    model, x = encoder(nested=True).eval(), noise(2, 5, 8)
    kinds = {"attention": {"layers.0.self_attn", "layers.1.self_attn"}, "layers.1.dropout2": {"layers.1.dropout2"}}
    for where, names in kinds.items():
        found = dk.mc_predict(model, x, PASSES, where=where)
        assert set(found.sites) == names
        assert (found.variance > 0).all()


def test_sites_can_be_chosen_and_rates_set():
    model, x, _ = made("functional")
    one = dk.mc_predict(model, x, PASSES, where=":dropout#1")
    assert one.sites == (":dropout#1",)
    many = dk.mc_predict(model, x, PASSES, rates={":dropout": 0.0, ":dropout#1": 0.9})
    assert many.sites == (":dropout#1",)
    assert many.variance.mean() > one.variance.mean()
    assert dk.mc_predict(model, x, PASSES, where=["*:dropout"], rates=0.5).sites == (":dropout",)


def test_a_rate_set_on_a_swapped_model_counts():
    model, x, _ = made("functional")
    plain = dk.mc_predict(model, x, PASSES, rates={"*": 0.6}, samples=True).samples
    dk.swap(model, inputs=x)
    dk.set_rate(model, 0.6)
    before = state(model)
    torch.testing.assert_close(dk.mc_predict(model, x, PASSES, samples=True).samples, plain, **TOLERANCE)
    assert_same(before, state(model))


def test_only_the_module_whose_call_is_made_in_training_alone_is_set_to_training():
    model, x = OnlyInTraining().eval(), noise(1, 8)  # batch normalisation refuses one example in training mode
    found = dk.mc_predict(model, x, PASSES)
    assert found.sites == (":dropout",)
    assert (found.variance > 0).all()


def test_a_forward_that_returns_its_loss_in_training_is_evaluated():
    found = dk.mc_predict(Loss().eval(), noise(4, 8), PASSES)
    assert found.task == "classification"
    torch.testing.assert_close(found.mean.sum(-1), torch.ones(4))


def test_inputs_may_be_a_dict_a_tuple_or_a_loader():
    torch.manual_seed(0)
    model, x = TwoOutputs(), noise(10, 8)
    picked = {"outputs": lambda output: output[0], "samples": True}
    whole = dk.mc_predict(model, (x,), PASSES, **picked)
    doubled = dk.mc_predict(model, {"x": x, "scale": 2.0}, PASSES, **picked)
    torch.testing.assert_close(doubled.samples, 2 * whole.samples)
    loader = DataLoader(TensorDataset(x, torch.arange(10)), batch_size=4)
    found = dk.mc_predict(model, loader, PASSES, **picked)
    assert found.mean.shape == (10, 3)
    assert found.samples.shape == (PASSES, 10, 3)
    torch.testing.assert_close(found.samples, whole.samples, **TOLERANCE)
    swapped = dk.swap(copy.deepcopy(model)).train()
    with dk.keyed(0, pass_index=3, rows=(8, 2)), torch.no_grad():
        torch.testing.assert_close(swapped(x[8:])[0], found.samples[3, 8:], **TOLERANCE)


def test_a_shared_mask_is_one_function_a_pass():
    torch.manual_seed(0)
    model, x = mlp().eval(), noise(1, 8).expand(5, 8)
    for method in ("vmap", "loop"):
        found = dk.mc_predict(model, x, PASSES, samples=True, share_mask=True, method=method).samples
        torch.testing.assert_close(found, found[:, :1].expand_as(found))
        assert (found[0] != found[1]).any()
        alone = dk.mc_predict(model, x[:1], PASSES, samples=True, method=method).samples
        torch.testing.assert_close(found[:, :1], alone, **TOLERANCE)
    loader = DataLoader(x, batch_size=2)
    torch.testing.assert_close(dk.mc_predict(model, loader, PASSES, samples=True, share_mask=True).samples, found, **TOLERANCE)


def test_sites_that_draw_from_torch_follow_the_seed():
    model, x, _ = made("own lstm")
    torch.manual_seed(1)
    first = dk.mc_predict(model, x, PASSES, samples=True)
    torch.manual_seed(2)
    assert torch.equal(dk.mc_predict(model, x, PASSES, samples=True).samples, first.samples)
    assert "a generator of its own" in first.why


def test_a_compiled_model_is_the_model():
    model, x, _ = made("mlp")
    plain = dk.mc_predict(model, x, PASSES, samples=True).samples
    assert torch.equal(dk.mc_predict(torch.compile(model, backend="eager"), x, PASSES, samples=True).samples, plain)
    model.compile(backend="eager")
    assert torch.equal(dk.mc_predict(model, x, PASSES, samples=True).samples, plain)


def test_old_weight_norm_can_be_copied():
    with pytest.warns(FutureWarning):
        model = nn.Sequential(nn.utils.weight_norm(nn.Linear(8, 8)), nn.Dropout(0.5))
    model(noise(2, 8))  # leaves a weight in a graph of derivatives
    assert dk.mc_predict(model, noise(2, 8), PASSES).method == "vmap"


def test_a_single_pass_has_no_variance():
    assert dk.mc_predict(mlp(), noise(2, 8), 1).variance.isnan().all()


@pytest.mark.parametrize(("error", "first"), [(KeyboardInterrupt, 1), (KeyboardInterrupt, 2), (ZeroDivisionError, 2)])
@pytest.mark.parametrize("method", ["auto", "loop"])
def test_the_model_is_as_before_when_its_forward_raises(error, first, method):
    model = nn.Sequential(nn.BatchNorm1d(8), mlp(), nn.Dropout(0.1)).train()

    calls = []

    def hook(module, args, output):  # a hook may call dropout, so that the model is probed: that is the first call
        calls.append(len(output))
        if len(calls) >= first:
            raise error

    model[1].register_forward_hook(hook)
    before, states = state(model), torch.get_rng_state()
    with pytest.raises(error):
        dk.mc_predict(model, noise(4, 8), PASSES, method=method)
    assert_same(before, state(model))
    assert torch.equal(torch.get_rng_state(), states)
    assert dk.core.intercept.THREAD.interceptor is None
    assert not dk.core.streams.is_keyed()


def test_writes_of_a_forward_do_not_reach_the_model():
    model = Counts()
    dk.mc_predict(model, noise(4, 8), PASSES, method="loop")
    assert model.calls == 0
    assert model.seen == []


@pytest.mark.parametrize(("make", "words"), [
    (lambda: nn.Sequential(nn.Linear(8, 3)), "without dropout"),
    (lambda: nn.Sequential(nn.Linear(8, 8), nn.Dropout(0.0)), "1 at rate 0"),
    (lambda: nn.LSTM(8, 3, 1), "without dropout"),
])
def test_no_site_that_acts_is_an_error(make, words):
    with pytest.raises(InputError, match=words):
        dk.mc_predict(make(), noise(4, 8), PASSES)


def test_an_output_that_does_not_depend_on_the_masks_is_an_error():
    model = TwoOutputs()
    with pytest.raises(InputError, match=r"same output in every pass; these act: body\.2"):
        dk.mc_predict(model, noise(4, 8), PASSES, outputs=lambda output: output[1])


def test_a_scripted_model_is_refused():
    with pytest.warns(DeprecationWarning, match="torch.jit.script"):
        scripted = torch.jit.script(mlp())
    with pytest.raises(InputError, match=r"as it was before torch\.jit"):
        dk.mc_predict(scripted, noise(4, 8), PASSES)


def test_a_model_that_cannot_be_copied_is_refused():
    model = mlp()
    model.lock = threading.Lock()
    with pytest.raises(InputError, match="can be copied"):
        dk.mc_predict(model, noise(4, 8), PASSES)


def test_a_forward_that_would_run_the_model_itself_is_refused():
    model = mlp()
    model.forward = lambda x: model[3](model[2](x))
    with pytest.raises(InputError, match="by way of self"):
        dk.mc_predict(model, noise(4, 16), PASSES)


@pytest.mark.parametrize(("options", "words"), [
    ({"method": "many"}, "method is"), ({"task": "ranking"}, "task is"), ({"passes": 0}, "at least one pass"),
    ({"passes": [1, 1]}, "asked for once"), ({"seed": 0.5}, "a seed is"), ({"where": "head*"}, "where matches a site"),
    ({"where": 3}, "where is a glob"), ({"rates": 2}, "a probability of dropping"), ({"rates": {"9": 0.1}}, "matches a site"),
    ({"memory": -1}, "memory is an integer"), ({"task": "classification", "class_dim": 2}, "two classes"),
    ({"outputs": "logits"}, "outputs is a function"), ({"share_mask": "no"}, "share_mask is True or False"),
    ({"samples": "no"}, "samples is True or False"), ({"progress": 1}, "progress is True or False"),
    ({"where": []}, r"at least one site; got \[\]"), ({"where": "attention"}, "kinds are 'dropout'"),
])
def test_bad_choices_are_refused(options, words):
    with pytest.raises(InputError, match=words):
        dk.mc_predict(mlp(), noise(4, 8), **options)


@pytest.mark.parametrize("inputs", [noise(4, 8).double(), [noise(4, 8)] * 2, {"data": noise(4, 8)}])
def test_inputs_of_another_form_are_told(inputs):
    with pytest.raises(InputError, match="runs on the inputs that it is given"):
        dk.mc_predict(mlp(), inputs, PASSES)


def test_models_without_values_and_inputs_without_examples_are_refused():
    with pytest.raises(InputError, match="on the meta device"):
        dk.mc_predict(mlp().to("meta"), noise(4, 8).to("meta"), PASSES)
    with pytest.raises(InputError, match=r"at least one example; got outputs of shape \(0, 3\)"):
        dk.mc_predict(mlp(), noise(0, 8), PASSES)
    with pytest.raises(InputError, match="got a model without dropout"):
        dk.mc_predict(nn.Linear(8, 3), noise(4, 8), PASSES)


@pytest.mark.parametrize("share_mask", [False, True])
def test_a_single_logit_an_example_is_no_classification(share_mask):
    model, x = nn.Sequential(mlp(), nn.Linear(3, 1), nn.Flatten(0)), noise(4, 8)
    with pytest.raises(InputError, match=r"shape \(4,\) of 4 examples.*torch.stack"):
        dk.mc_predict(model, x, PASSES, task="classification", share_mask=share_mask)
    both = dk.mc_predict(model, iter(x.split(2)), PASSES, task="classification",
                         outputs=lambda z: torch.stack([torch.zeros_like(z), z], -1))
    assert both.mutual_information.shape == (4,)
    assert dk.mc_predict(mlp(), x[0], PASSES, task="classification").mean.shape == (3,)  # an example without a batch


def test_batches_of_other_shapes_are_not_joined():
    model = nn.Sequential(nn.Dropout(0.5), nn.ReLU())
    with pytest.raises(InputError, match=r"shapes \(2, 3\), \(2, 4\)"):
        dk.mc_predict(model, iter([noise(2, 3), noise(2, 4)]), PASSES)


def test_attention_is_chosen_whichever_way_it_is_written():
    class Attends(nn.Module):
        def forward(self, x):
            return nn.functional.scaled_dot_product_attention(x, x, x, dropout_p=0.2 if self.training else 0.0)

    found = dk.mc_predict(nn.Sequential(nn.Dropout(0.1), Attends()), noise(2, 4, 8), PASSES, where="attention")
    assert found.sites == ("1:scaled_dot_product_attention",)


def test_inputs_that_the_model_does_not_take_and_outputs_that_are_no_tensor_are_refused():
    with pytest.raises(InputError, match="runs on the inputs that it is given; got RuntimeError: mat1 and mat2 shapes cannot"):
        dk.mc_predict(mlp(), noise(4, 9), PASSES)
    with pytest.raises(InputError, match="Pick it"):
        dk.mc_predict(TwoOutputs(), noise(4, 8), PASSES)
    with pytest.raises(InputError, match="inputs are a tensor"):
        dk.mc_predict(mlp(), 3)
    with pytest.raises(InputError, match="at least one batch"):
        dk.mc_predict(mlp(), iter([]))
    with pytest.raises(InputError, match="run by vmap"):
        dk.mc_predict(CASES["branches"][0](), noise(4, 8), PASSES, method="vmap")


def test_a_model_that_raises_in_training_mode_is_probed_in_evaluation():
    class Needs(nn.Module):
        def forward(self, x):
            if self.training:
                raise ValueError("targets are missing")
            return nn.functional.dropout(x, 0.2, self.training)

    with pytest.warns(UserWarning, match="targets are missing"):
        assert dk.mc_predict(Needs(), noise(4, 8), PASSES).sites == (":dropout",)


def test_a_prediction_can_be_pickled_and_its_progress_shown(capsys):
    found = dk.mc_predict(mlp(), DataLoader(noise(4, 8), batch_size=2), PASSES, progress=True)
    assert torch.equal(pickle.loads(pickle.dumps(found)).mean, found.mean)
    assert "batch 2 of 2" in capsys.readouterr().err


def test_a_recurrent_module_in_training_mode_stays_torchs():
    model = Tagger()
    dk.mc_predict(model, noise(2, 5, 8), PASSES)
    assert type(model.rnn) is nn.LSTM


@pytest.mark.slow
@pytest.mark.parametrize("attention", ["eager", "sdpa"])
def test_bert(attention):
    from transformers import BertConfig, BertForSequenceClassification
    torch.manual_seed(0)
    model = BertForSequenceClassification(BertConfig(
        vocab_size=50, num_hidden_layers=2, num_attention_heads=2, intermediate_size=32, hidden_size=16, num_labels=3,
        attn_implementation=attention)).eval()
    before = state(model)
    given = {"input_ids": torch.arange(12).reshape(2, 6), "attention_mask": torch.ones(2, 6, dtype=torch.long)}
    found = dk.mc_predict(model, given, PASSES, samples=True)
    assert found.task == "classification"
    assert sum("attention.self:" in name for name in found.sites) == 2
    in_turn = dk.mc_predict(model, given, PASSES, samples=True, method="loop")
    torch.testing.assert_close(in_turn.samples, found.samples, **TOLERANCE)
    assert_same(before, state(model))
    assert (dk.mc_predict(model, given, PASSES, where="*attention.self:*").variance > 0).all()


def test_a_generator_of_batches_has_no_length(capsys):
    found = dk.mc_predict(mlp(), (batch for batch in noise(4, 8).split(2)), PASSES, progress=True)
    assert found.mean.shape == (4, 3)
    assert "batch 2\n" in capsys.readouterr().err


def test_a_multi_sample_head_makes_one_sample_a_pass():
    model, x = nn.Sequential(nn.Linear(8, 8), dk.nn.MultiSampleDropout(nn.Linear(8, 2), 0.4, samples=3)), noise(4, 8)
    assert dk.mc_predict(model, x, PASSES, samples=True).samples.shape == (PASSES, 4, 2)
    assert model[1].samples == 3


def test_low_precision_is_summed_in_double():
    model = mlp().to(torch.bfloat16)
    found = dk.mc_predict(model, noise(4, 8).to(torch.bfloat16), 20, samples=True)
    assert (found.samples.dtype, found.mean.dtype) == (torch.bfloat16, torch.float32)
    torch.testing.assert_close(found.variance, found.samples.double().var(0).float())


@pytest.mark.parametrize("method", ["vmap", "loop"])
def test_inference_mode_changes_nothing(method):
    model, x = mlp(), noise(4, 8)
    plain = dk.mc_predict(model, x, PASSES, method=method).mean
    with torch.inference_mode():
        assert torch.equal(dk.mc_predict(model, x, PASSES, method=method).mean, plain)
