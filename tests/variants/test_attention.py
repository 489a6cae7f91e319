import math

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.nn.attention import SDPBackend, sdpa_kernel

import dropkit as dk
from dropkit.variants.attention import (
    AttentionDropout,
    ScaledDotProductAttention,
    attention_dropout,
    scaled_dot_product_attention,
)
from dropkit.variants.draw import draw_keep
from dropkit.variants.drop_attention import drop_attention
from dropkit.variants.drop_key import drop_key

DROPS = ["attention", "key", "renormalised"]
NOTHING = 1e-12  # rounds to 0 of 2^32 steps: the explicit computation with a mask that keeps everything
drops = pytest.mark.parametrize("drop", DROPS)
FLOATS = [torch.float16, torch.bfloat16, torch.float32, torch.float64]


def inputs(*batch, heads=4, shared=None, queries=5, keys=7, dtype=torch.float64):
    torch.manual_seed(0)
    shared = shared or heads
    return (torch.randn(*batch, heads, queries, 8, dtype=dtype), torch.randn(*batch, shared, keys, 8, dtype=dtype),
            torch.randn(*batch, shared, keys, 3, dtype=dtype))


def bool_mask(queries=5, keys=7, blocked=(2,)):
    mask = torch.ones(queries, keys, dtype=torch.bool).tril(1)
    mask[list(blocked)] = False
    return mask


def float_mask(dtype=torch.float64, **shape):
    mask = bool_mask(**shape)
    return torch.linspace(-1, 1, mask.numel(), dtype=dtype).view(mask.shape).masked_fill(~mask, -math.inf)


MASKS = {"none": dict, "bool": lambda: {"attn_mask": bool_mask()}, "float": lambda: {"attn_mask": float_mask()},
         "padding": lambda: {"attn_mask": torch.tensor([[True] * 5 + [False] * 2])}, "causal": lambda: {"is_causal": True},
         "scale": lambda: {"scale": 0.3}}
masks = pytest.mark.parametrize("mask", MASKS)


class Block(nn.Module):
    """A transformer block whose attention is given as a function."""

    def __init__(self, attend, width=32, heads=4):
        super().__init__()
        self.attend, self.heads = attend, heads
        self.norm, self.qkv, self.out = nn.LayerNorm(width), nn.Linear(width, 3 * width), nn.Linear(width, width)

    def forward(self, x):
        q, k, v = (part.unflatten(-1, (self.heads, -1)).transpose(1, 2) for part in self.qkv(self.norm(x)).chunk(3, -1))
        return x + self.out(self.attend(q, k, v).transpose(1, 2).flatten(2))


@pytest.mark.parametrize("backends", [[SDPBackend.MATH], [SDPBackend.FLASH_ATTENTION], list(SDPBackend.__members__.values())],
                         ids=["math", "flash", "all"])
def test_evaluation_does_not_drop_whatever_the_backend(backends):
    backends = [backend for backend in backends if backend is not SDPBackend.ERROR]
    block, x = Block(ScaledDotProductAttention(0.5)), torch.randn(2, 6, 32)
    with sdpa_kernel(backends), torch.no_grad():
        assert not torch.equal(block(x), block(x))
        block.eval()
        state = torch.get_rng_state()
        assert torch.equal(block(x), block(x))
        assert torch.equal(state, torch.get_rng_state())
        plain = Block(F.scaled_dot_product_attention)
        plain.load_state_dict(block.state_dict())
        assert torch.equal(block(x), plain(x))


def test_torch_itself_drops_in_evaluation():
    # The defect that the training flag is for; when this fails, the docstring is out of date.
    block, x = Block(lambda q, k, v: F.scaled_dot_product_attention(q, k, v, dropout_p=0.5)).eval(), torch.randn(2, 6, 32)
    assert not torch.equal(block(x), block(x))


@masks
@pytest.mark.parametrize("settings", [{"training": False, "p": 0.5}, {"p": 0.0}])
def test_without_dropout_torch_is_called(mask, settings):
    given, options = inputs(2), MASKS[mask]()
    assert torch.equal(scaled_dot_product_attention(*given, **settings, **options),
                       F.scaled_dot_product_attention(*given, **options))


@drops
@masks
@pytest.mark.parametrize("shared", [4, 2, 1])
def test_the_explicit_computation_is_that_of_torch(drop, mask, shared):
    options, outputs = {**MASKS[mask](), "enable_gqa": shared < 4}, []
    for attend in (lambda *x: scaled_dot_product_attention(*x, p=NOTHING, drop=drop, **options),
                   lambda *x: F.scaled_dot_product_attention(*x, **options)):
        given = [tensor.requires_grad_() for tensor in inputs(2, shared=shared)]
        with sdpa_kernel(SDPBackend.MATH):
            y = attend(*given)
        outputs.append((y.detach(), *torch.autograd.grad((y**2).sum(), given)))
    for ours, theirs in zip(*outputs, strict=True):
        assert torch.allclose(ours, theirs, rtol=1e-12, atol=1e-12)


@drops
@pytest.mark.parametrize("shared", [4, 2])
def test_the_mask_is_that_of_the_parts(drop, shared):
    q, k, v = inputs(2, shared=shared)
    k4, v4 = (tensor.repeat_interleave(4 // shared, -3) for tensor in (k, v))
    with dk.keyed(1):
        y = scaled_dot_product_attention(q, k, v, p=0.4, drop=drop, enable_gqa=True)
    logits = q @ k4.mT / math.sqrt(8)
    with dk.keyed(1):
        weights = {"attention": lambda: attention_dropout(logits.softmax(-1), 0.4),
                   "key": lambda: drop_key(logits, 0.4).softmax(-1),
                   "renormalised": lambda: drop_attention(logits.softmax(-1), 0.4)}[drop]()
    assert torch.allclose(y, weights @ v4, rtol=1e-12, atol=1e-12)
    assert not torch.allclose(y, logits.softmax(-1) @ v4)


@pytest.mark.parametrize("p", [0.1, 0.5])
def test_weights_are_zero_or_scaled(p):
    q, k, _ = inputs(2)
    with dk.keyed(2):
        weights = scaled_dot_product_attention(q, k, torch.eye(7, dtype=q.dtype).expand(2, 4, 7, 7), p=p)
    plain = (q @ k.mT / math.sqrt(8)).softmax(-1)
    with dk.keyed(2):
        keep = draw_keep(plain.shape, torch.tensor(p, dtype=torch.float64))
    scale = 2**32 / (2**32 - math.floor(p * 2**32 + 0.5))
    assert torch.equal(weights == 0, ~keep)
    assert torch.allclose(weights, torch.where(keep, plain * scale, 0), rtol=1e-13)


@drops
@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("kind", ["bool", "float"])
@pytest.mark.parametrize("dtype", FLOATS, ids=str)
def test_a_query_without_keys_gets_zeros(drop, training, kind, dtype):
    given = [tensor.requires_grad_() for tensor in inputs(2, dtype=dtype)]
    mask = bool_mask(blocked=(0, 2)) if kind == "bool" else float_mask(dtype, blocked=(0, 2)).requires_grad_()
    y = scaled_dot_product_attention(*given, mask, 0.5, training, drop=drop)
    assert bool((y[:, :, [0, 2]] == 0).all())
    assert bool((y[:, :, [1, 3, 4]] != 0).any())
    leaves = given + [mask] * (kind == "float")
    gradients = torch.autograd.grad(y.float().sum(), leaves)
    assert all(bool(grad.isfinite().all()) for grad in gradients)
    assert bool((gradients[0][:, :, [0, 2]] == 0).all())
    assert kind == "bool" or bool((gradients[3][[0, 2]] == 0).all())


@drops
def test_nothing_to_attend_to_at_all(drop):
    given = [tensor.requires_grad_() for tensor in inputs(1)]
    y = scaled_dot_product_attention(*given, torch.zeros(5, 7, dtype=torch.bool), 0.5, drop=drop)
    assert bool((y == 0).all())
    assert all(bool((grad == 0).all()) for grad in torch.autograd.grad(y.sum(), given))


@drops
@pytest.mark.parametrize(("queries", "keys"), [(5, 7), (7, 5), (1, 4)])
def test_causal_queries_do_not_see_later_keys(drop, queries, keys):
    q, k, v = (tensor.requires_grad_() for tensor in inputs(2, queries=queries, keys=keys))
    y = scaled_dot_product_attention(q, k, v, p=0.3, is_causal=True, drop=drop)
    for query in range(queries):
        grad, = torch.autograd.grad(y[:, :, query].sum(), v, retain_graph=True)
        assert bool((grad[:, :, query + 1:] == 0).all())
    assert bool((grad != 0).any())


def test_rate_one_gives_zeros_with_zero_gradients():
    given = [tensor.requires_grad_() for tensor in inputs(2)]
    y = scaled_dot_product_attention(*given, p=1.0)
    assert bool((y == 0).all())
    assert all(bool((grad == 0).all()) for grad in torch.autograd.grad(y.sum(), given))


@drops
def test_rate_one_leaves_rows_as_they_are_where_they_are_guarded(drop):
    given = inputs(2)
    y = scaled_dot_product_attention(*given, bool_mask(), p=1.0, drop=drop)
    expected = F.scaled_dot_product_attention(*given, bool_mask())
    assert torch.allclose(y, expected) is (drop != "attention")


@drops
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16], ids=str)
def test_low_precision_is_rounded_once(drop, dtype):
    given = inputs(2, dtype=dtype)
    with dk.keyed(1):
        y = scaled_dot_product_attention(*given, bool_mask(), 0.4, drop=drop)
    with dk.keyed(1):
        wide = scaled_dot_product_attention(*(tensor.float() for tensor in given), bool_mask(), 0.4, drop=drop)
    assert y.dtype is dtype
    assert torch.equal(y, wide.to(dtype))


@drops
def test_scores_beyond_half_precision(drop):
    q = torch.full((1, 2, 4, 64), 200.0, dtype=torch.float16)  # scores of 320,000
    y = scaled_dot_product_attention(q, q, torch.ones_like(q), p=0.5, drop=drop)
    assert bool(y.isfinite().all())
    assert drop == "attention" or torch.equal(y, torch.ones_like(q))


@drops
@pytest.mark.parametrize("shape", [{"queries": 0}, {"keys": 0}, {"queries": 0, "keys": 0}])
@pytest.mark.parametrize("options", [{}, {"is_causal": True}, {"attn_mask": True}])
@pytest.mark.parametrize("training", [True, False])
def test_empty_sequences(drop, shape, options, training):
    given = [tensor.requires_grad_() for tensor in inputs(2, **shape)]
    if options.get("attn_mask"):
        options = {"attn_mask": torch.ones(given[0].shape[-2], given[1].shape[-2], dtype=torch.bool)}
    y = scaled_dot_product_attention(*given, p=0.5, training=training, drop=drop, **options)
    assert y.shape == (2, 4, given[0].shape[-2], 3)
    assert bool((y == 0).all())
    assert all(bool((grad == 0).all()) for grad in torch.autograd.grad(y.sum(), given))


@drops
def test_single_sequences_and_odd_layouts(drop):
    q, k, v = inputs(2)
    with dk.keyed(1):
        one = scaled_dot_product_attention(q[0, 0], k[0, 0], v[0, 0], p=0.5, drop=drop)
    with dk.keyed(1):
        assert torch.allclose(one, scaled_dot_product_attention(q[:1, :1], k[:1, :1], v[:1, :1], p=0.5, drop=drop)[0, 0])
    with dk.keyed(2):
        y = scaled_dot_product_attention(q, k, v, p=0.5, drop=drop)
    turned = (tensor.transpose(1, 2).contiguous().transpose(1, 2) for tensor in (q, k, v))
    with dk.keyed(2):
        assert torch.allclose(y, scaled_dot_product_attention(*turned, p=0.5, drop=drop))


@drops
@pytest.mark.filterwarnings("ignore:`torch.jit.script` is:DeprecationWarning")
def test_gradients_to_second_order(drop):
    given = [tensor.requires_grad_() for tensor in inputs(heads=2, shared=1, queries=3, keys=4)]
    bias = torch.linspace(-1, 1, 12, dtype=torch.float64).view(3, 4)
    bias[1], bias[2, 3] = -math.inf, -math.inf

    def attend(*given):
        return scaled_dot_product_attention(*given, bias, 0.4, enable_gqa=True, drop=drop,
                                            generator=torch.Generator().manual_seed(3))

    assert torch.autograd.gradcheck(attend, given, check_forward_ad=True)
    assert torch.autograd.gradgradcheck(attend, given)


def test_a_learned_bias_gets_its_gradient():
    given, bias = inputs(2), torch.randn(4, 5, 7, dtype=torch.float64, requires_grad=True)

    def attend(bias):
        with dk.keyed(1):
            return scaled_dot_product_attention(*given, bias, 0.4)

    assert torch.autograd.gradcheck(attend, bias)


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("dtype", FLOATS, ids=str)
def test_a_mask_may_have_another_type_than_the_data(training, dtype):
    given, mask = inputs(2, dtype=dtype), float_mask().bfloat16().double()  # every type holds its values but float16, nearly
    with dk.keyed(1):
        y = scaled_dot_product_attention(*given, mask, 0.3, training)
    with dk.keyed(1):
        expected = scaled_dot_product_attention(*given, mask.to(dtype), 0.3, training)
    assert y.dtype is dtype
    assert torch.allclose(y, expected, rtol=2 * torch.finfo(dtype).eps)


def test_no_mask_is_saved_for_the_backward_pass():
    given = [torch.randn(2, 4, 64, 16, requires_grad=True) for _ in range(3)]
    saved = {}
    with torch.autograd.graph.saved_tensors_hooks(
            lambda t: saved.setdefault(t.untyped_storage().data_ptr(), t.untyped_storage().nbytes()) and t, lambda t: t):
        scaled_dot_product_attention(*given, p=0.1)
    # The weights before and after dropout, scaled queries, keys and values, and 16 bytes of seed and rate.
    assert sum(saved.values()) <= 4 * (2 * 2 * 4 * 64 * 64 + 4 * given[0].numel()) + 256


def graph_of(call, *arguments):
    graphs = []
    torch.compiler.reset()

    def backend(graph, _):
        graphs.append(graph.code)
        return graph.forward

    compiled = torch.compile(call, backend=backend, fullgraph=True)
    return compiled(*arguments), "".join(graphs)


def test_the_default_rate_is_fused_in_compiled_code_and_counts_as_a_use():
    x = torch.ones(64)

    def run(q, k, v):
        with dk.keyed(1):
            y = scaled_dot_product_attention(q, k, v)
            return y, dk.functional.dropout(x)

    given = inputs(2)
    (y, after), code = graph_of(run, *given)
    assert "scaled_dot_product_attention(" in code
    assert torch.equal(y, run(*given)[0])
    assert torch.equal(after, run(*given)[1])


def test_a_module_in_evaluation_is_fused_in_compiled_code():
    given, module = inputs(2), ScaledDotProductAttention(0.5).eval()
    assert "scaled_dot_product_attention(" in graph_of(module, *given)[1]
    assert "scaled_dot_product_attention(" not in graph_of(module.train(), *given)[1]


@pytest.mark.parametrize(("arguments", "message"), [
    ({"p": 1.5}, "probability of dropping"), ({"p": -0.1, "training": False}, "probability of dropping"),
    ({"drop": "keys"}, "drop is"), ({"attn_mask": bool_mask(), "is_causal": True}, "not combined"),
    ({"attn_mask": torch.ones(5, 7, dtype=torch.int64)}, "attn_mask is bool"),
    ({"attn_mask": torch.ones(7, dtype=torch.bool)}, "attn_mask has dimensions"),
])
def test_wrong_arguments_are_refused(arguments, message):
    with pytest.raises(dk.InputError, match=message):
        scaled_dot_product_attention(*inputs(2), **arguments)


@pytest.mark.parametrize("training", [True, False])
def test_wrong_data_is_refused(training):
    q, k, v = inputs(2, shared=3)
    with pytest.raises(dk.InputError, match=r"divide those of query; got \(4, 3, 3\)"):
        scaled_dot_product_attention(q, k, v, p=0.5, training=training, enable_gqa=True)
    with pytest.raises(dk.InputError, match="divide those of query"):
        scaled_dot_product_attention(q[0, 0], k[0, 0], v[0, 0], p=0.5, training=training, enable_gqa=True)
    with pytest.raises(dk.InputError, match="floating-point"):
        scaled_dot_product_attention(*(tensor.long() for tensor in (q, q, q)), p=0.5, training=training)


@drops
def test_the_module_passes_its_settings_on(drop):
    module, given = ScaledDotProductAttention(0.4, drop=drop), inputs(2, shared=2)
    with dk.keyed(1):
        y = module(*given, float_mask(), scale=0.2, enable_gqa=True)
    with dk.keyed(1):
        assert torch.equal(y, scaled_dot_product_attention(*given, float_mask(), 0.4, scale=0.2, enable_gqa=True, drop=drop))
    with dk.keyed(1):
        y = module(*inputs(2), is_causal=True)
    with dk.keyed(1):
        assert torch.equal(y, scaled_dot_product_attention(*inputs(2), p=0.4, is_causal=True, drop=drop))


def test_reprs_and_defaults():
    assert repr(ScaledDotProductAttention()) == "ScaledDotProductAttention(p=0.1)"
    assert repr(ScaledDotProductAttention(0.2, drop="key")) == "ScaledDotProductAttention(p=0.2, drop='key')"
    assert repr(AttentionDropout(0.2, True, share_dims=[-2])) == (
        "AttentionDropout(p=0.2, inplace=True, share_dims=(-2,))")
    with pytest.raises(dk.InputError, match="drop is"):
        ScaledDotProductAttention(drop="head")


def test_attention_dropout_is_dropout_of_weights():
    weights = torch.randn(2, 4, 5, 7).softmax(-1)
    for options in ({}, {"share_dims": (-2,)}, {"share_dims": (1, 2)}):
        with dk.keyed(1):
            expected = dk.functional.dropout(weights, 0.3, **options)
        for call in (lambda x: attention_dropout(x, 0.3, **options), AttentionDropout(0.3, **options)):  # noqa: B023
            with dk.keyed(1):
                assert torch.equal(call(weights), expected)
    shared = attention_dropout(torch.ones(2, 4, 5, 7), 0.5, share_dims=(1, 2))
    assert torch.equal(shared, shared[:, :1, :1].expand_as(shared))
    assert 0 < int((shared == 0).sum()) < shared.numel()


@pytest.mark.parametrize("inplace", [False, True])
def test_attention_dropout_writes_in_place_when_asked(inplace):
    weights = torch.randn(2, 5, 7).softmax(-1)
    before = weights.clone()
    y = attention_dropout(weights, 0.5, inplace=inplace)
    assert (y is weights) is inplace
    assert torch.equal(weights, before) is not inplace
