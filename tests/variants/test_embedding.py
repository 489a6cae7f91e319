import copy
import math
import pickle

import pytest
import torch
import torch.nn.functional as F
from torch import nn

import dropkit as dk
from dropkit.kernels.native import ops as native
from dropkit.variants.dropout import dropout
from dropkit.variants.embedding import EmbeddingDropout, embedding_dropout

TABLE = torch.linspace(1, 2, 30).view(10, 3)
TOKENS = torch.tensor([[2, 0, 2, 9], [5, 5, 2, 1]])


def masked_table(weight, p):
    """The table as AWD-LSTM makes it: rows dropped and scaled before looking up."""
    return dropout(weight, p, share_dims=(1,))


@pytest.mark.parametrize("settings", [{}, {"padding_idx": 5}, {"padding_idx": -1}, {"scale_grad_by_freq": True},
                                      {"sparse": True}, {"sparse": True, "padding_idx": 2}])
def test_it_is_a_look_up_in_a_masked_table(settings):
    for seed in range(5):
        outcomes = []
        weights = torch.linspace(1, 2, 24, dtype=torch.float64).view(2, 4, 3)
        for masked in (False, True):
            table = TABLE.double().clone().requires_grad_()
            with dk.keyed(seed):
                if masked:
                    y = F.embedding(TOKENS, masked_table(table, 0.5), **{**settings, "sparse": False})
                else:
                    y = embedding_dropout(TOKENS, table, 0.5, **settings)
            (y * weights).sum().backward()
            assert table.grad.is_sparse is (settings.get("sparse", False) and not masked)
            outcomes.append((y.detach(), table.grad.to_dense()))
        for one, two in zip(*outcomes, strict=True):
            assert torch.allclose(one, two, rtol=1e-14, atol=0)


def test_a_dropped_word_is_gone_wherever_it_stands():
    torch.manual_seed(0)
    tokens = torch.randint(0, 50, (30, 40))
    y = embedding_dropout(tokens, torch.ones(50, 4), 0.5)
    for word in range(50):
        vectors = y[tokens == word]
        assert torch.equal(vectors, vectors[:1].expand_as(vectors))
        assert vectors.unique().tolist() in ([0.0], [2.0])
    assert y.unique().tolist() == [0.0, 2.0]


def test_words_are_dropped_at_the_rate():
    torch.manual_seed(1)
    words = 50_000
    dropped = embedding_dropout(torch.arange(words), torch.ones(words, 1), 0.1) == 0
    assert abs(float(dropped.double().mean()) - 0.1) < math.sqrt(math.log(2 / 1e-6) / (2 * words))


def test_values_of_dropped_words_do_not_matter():
    torch.manual_seed(2)
    table = torch.full((40, 3), math.nan, requires_grad=True)
    y = embedding_dropout(torch.arange(40), table, 0.5)
    dropped = (y == 0).all(1)
    assert 0 < int(dropped.sum()) < 40
    assert bool(y[~dropped].isnan().all())
    grad, = torch.autograd.grad(y.sum(), table)
    assert torch.equal(grad, torch.where(dropped[:, None], 0.0, 2.0).expand(40, 3))


def test_rate_one_is_zero_with_zero_gradients():
    table = TABLE.clone().requires_grad_()
    y = embedding_dropout(TOKENS, table, 1.0)
    grad, = torch.autograd.grad(y.sum(), table)
    assert not y.any()
    assert not grad.any()


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_values_are_rounded_once(dtype):
    table = torch.randn(60, 5, dtype=torch.float64).to(dtype)
    wide = torch.float64 if dtype is torch.float64 else torch.float32
    with dk.keyed(3):
        y = embedding_dropout(torch.arange(60), table, 0.3)
    with dk.keyed(3):
        assert torch.equal(y, masked_table(table.to(wide), 0.3).to(dtype))


@pytest.mark.parametrize("dtype", [torch.int32, torch.int64])
@pytest.mark.parametrize("shape", [(), (0,), (3,), (2, 0, 3), (2, 3, 4)])
def test_tokens_of_any_shape(dtype, shape):
    y = embedding_dropout(torch.ones(shape, dtype=dtype), TABLE, 0.5)
    assert y.shape == (*shape, 3)


def test_eager_compiled_and_mapped_code_agree():
    # Eager code writes whole rows; compilers and vmap select.
    table = torch.randn(10, 3)
    table[::3] = math.nan
    compiled = torch.compile(embedding_dropout, fullgraph=True, backend="aot_eager")
    for seed in range(4):
        outcomes = []
        for call in (embedding_dropout, compiled,
                     lambda *args: torch.vmap(lambda t: embedding_dropout(t, *args[1:]), randomness="same")(args[0])):
            torch.manual_seed(seed)
            outcomes.append(call(TOKENS, table, 0.5))
        assert all(torch.equal(outcomes[0].nan_to_num(9), other.nan_to_num(9)) for other in outcomes[1:])


def test_derivatives_match_finite_differences():
    table = torch.randn(10, 3, dtype=torch.float64, requires_grad=True)

    def run(table):
        with dk.keyed(6):
            return embedding_dropout(TOKENS, table, 0.4)

    torch.autograd.gradcheck(run, (table,))
    torch.autograd.gradgradcheck(lambda table: run(table) ** 2, (table,))


def test_evaluation_and_rate_zero_are_the_plain_look_up():
    state = torch.get_rng_state()
    for p, training in ((0.0, True), (0.5, False)):
        assert torch.equal(embedding_dropout(TOKENS, TABLE, p, training), F.embedding(TOKENS, TABLE))
    assert torch.equal(state, torch.get_rng_state())


def test_max_norm_shortens_the_table_as_the_embedding_does():
    # The defect of shortening masked and scaled rows: what is 1 / (1 - p) times too long is shortened for good.
    tables = [nn.Embedding(10, 3, max_norm=1.0) for _ in range(2)]
    tables[1].load_state_dict(tables[0].state_dict())
    tables[0](TOKENS)
    layer = EmbeddingDropout(tables[1], 0.5)
    layer(TOKENS)
    assert torch.equal(layer.weight, tables[0].weight)


@pytest.mark.skipif(native.KERNEL is None, reason="the reference kernel saves what the native one makes again")
def test_the_table_is_never_copied():
    words, width, saved = 20_000, 64, []
    table = torch.ones(words, width, requires_grad=True)
    with torch.autograd.graph.saved_tensors_hooks(lambda t: saved.append(t) or t, lambda t: t):
        embedding_dropout(TOKENS, table, 0.5)
    assert all(t.shape != table.shape for t in saved)
    assert sum(t.untyped_storage().nbytes() for t in saved if t.data_ptr() != table.data_ptr()) <= 1024
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU], profile_memory=True) as profile:
        embedding_dropout(TOKENS, table, 0.5)
    allocated = sum(event.self_cpu_memory_usage for event in profile.events() if event.self_cpu_memory_usage > 0)
    assert allocated < 16 * words  # a few bytes a word, not 4 * 64


def test_the_layer_adopts_the_table():
    embedding = nn.Embedding(10, 3, padding_idx=1)
    weight, state = embedding.weight, embedding.state_dict()
    layer = EmbeddingDropout(embedding.eval(), 0.25)
    assert layer.weight is weight
    assert not layer.training
    assert [name for name, _ in layer.named_parameters()] == ["weight"] == list(state)
    layer.load_state_dict(state)
    assert (layer.num_embeddings, layer.embedding_dim, layer.padding_idx) == (10, 3, 1)
    assert torch.equal(layer(TOKENS), embedding(TOKENS))
    assert repr(layer) == "EmbeddingDropout(10, 3, p=0.25, padding_idx=1)"
    for other in (copy.deepcopy(layer), pickle.loads(pickle.dumps(layer))):
        assert torch.equal(other.weight, weight)
        assert repr(other) == repr(layer)


@pytest.mark.parametrize("settings", [{"padding_idx": 2}, {"sparse": True}, {"scale_grad_by_freq": True},
                                      {"max_norm": 1.0, "norm_type": 1.0}])
def test_modules_pass_their_settings_on(settings):
    embedding = nn.Embedding(10, 3, **settings)
    layer = EmbeddingDropout(copy.deepcopy(embedding), 0.5)
    with dk.keyed(4):
        y = layer(TOKENS)
    with dk.keyed(4):
        z = embedding_dropout(TOKENS, embedding.weight, 0.5, **settings)
    assert torch.equal(y, z)
    y.sum().backward()
    z.sum().backward()
    assert layer.weight.grad.is_sparse is embedding.weight.grad.is_sparse is settings.get("sparse", False)
    assert torch.equal(layer.weight.grad.to_dense(), embedding.weight.grad.to_dense())
    assert all(f"{name}={value}" in repr(layer) for name, value in settings.items())


def test_a_sparse_optimiser_moves_kept_words_only():
    torch.manual_seed(5)
    layer = EmbeddingDropout(nn.Embedding(10, 3, sparse=True), 0.5)
    before, optimiser = layer.weight.detach().clone(), torch.optim.SparseAdam(layer.parameters(), lr=0.1)
    y = layer(torch.arange(10))
    y.sum().backward()
    optimiser.step()
    moved = (layer.weight != before).all(1)
    assert torch.equal(moved, (y != 0).all(1))
    assert 0 < int(moved.sum()) < 10


@pytest.mark.parametrize("bad", [nn.Linear(3, 4), nn.EmbeddingBag(3, 4), torch.ones(3, 4), None])
def test_only_embeddings_are_adopted(bad):
    with pytest.raises(dk.InputError, match=r"words are dropped of an nn\.Embedding"):
        EmbeddingDropout(bad, 0.5)


def test_wrong_rates_are_refused():
    with pytest.raises(dk.InputError, match=r"in \[0, 1\]; got 1.5"):
        embedding_dropout(TOKENS, TABLE, 1.5, False)
    with pytest.raises(dk.InputError, match=r"in \[0, 1\]; got -1"):
        EmbeddingDropout(nn.Embedding(3, 4), -1)
