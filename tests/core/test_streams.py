import threading

import pytest
import torch
from torch.utils.checkpoint import checkpoint

from dropkit.core.errors import InputError
from dropkit.core.philox import derive_seed
from dropkit.core.seeds import seed_tensor
from dropkit.core.streams import checkpoint_contexts, keyed, site_key, skip_site, stream_number
from dropkit.variants.dropout import dropout


def test_stream_numbers_are_frozen():
    assert stream_number("call") == 1087406749995117274
    assert stream_number("") == 338466462599522020
    assert stream_number("encoder.layers.0.dropout") == 856686214454616906


def test_streams_differ_and_fit_60_bits():
    numbers = {stream_number(f"layer.{i}") for i in range(2000)}
    assert len(numbers) == 2000
    assert max(numbers) < 2**60
    assert max(numbers) > 2**59


def test_outside_keyed_a_seed_is_drawn():
    torch.manual_seed(0)
    (first, stream), (second, _) = site_key("a"), site_key("a")
    assert stream == 0
    assert first != second


def test_inside_keyed_seed_and_stream_are_the_documented_ones():
    state = torch.get_rng_state()
    with keyed(7, step=3, pass_index=2):
        keys = [site_key(name) for name in ("a", "b", "a", None, "a", None)]
    assert torch.equal(state, torch.get_rng_state())
    assert all(torch.equal(seed, seed_tensor(derive_seed(7, 3, 2))) for seed, _ in keys)
    assert [stream for _, stream in keys] == [stream_number(name) for name in ("a", "b", "a#1", "call", "a#2", "call#1")]


def test_a_generator_wins_over_the_context():
    with keyed(7):
        seed, stream = site_key("a", torch.Generator().manual_seed(1))
        assert site_key("a")[1] == stream_number("a")  # and the site was not counted
    assert stream == 0
    assert seed == site_key("a", torch.Generator().manual_seed(1))[0]


def test_contexts_nest_and_restore():
    with keyed(1):
        site_key("a")
        with keyed(2):
            assert site_key("a") == (seed_tensor(derive_seed(2, 0, 0)), stream_number("a"))
        assert site_key("a") == (seed_tensor(derive_seed(1, 0, 0)), stream_number("a#1"))
    assert site_key("a")[1] == 0


def test_an_error_inside_restores_the_outside():
    def fail():
        with keyed(1):
            raise KeyError

    with pytest.raises(KeyError):
        fail()
    assert site_key("a")[1] == 0


def test_threads_do_not_share_a_context():
    seen = []
    with keyed(1):
        thread = threading.Thread(target=lambda: seen.append(site_key("a")[1]))
        thread.start()
        thread.join()
    assert seen == [0]


def test_threads_count_on_their_own():
    streams, barrier = {}, threading.Barrier(2)

    def work(seed):
        with keyed(seed):
            barrier.wait(timeout=30)
            streams[seed] = [site_key("a") for _ in range(50)]

    threads = [threading.Thread(target=work, args=(seed,)) for seed in (1, 2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [stream for _, stream in streams[1]] == [stream for _, stream in streams[2]]
    assert streams[1][0][0] != streams[2][0][0]


def test_skipping_counts():
    with keyed(1):
        skip_site()
        assert site_key()[1] == stream_number("call#1")
    skip_site("outside")  # nothing to count, no error


@pytest.mark.parametrize(("arguments", "message"), [
    (((1.5,), {}), "a seed is"), (((1,), {"step": -1}), "step is"), (((1,), {"pass_index": 2**32}), "pass_index is"),
])
def test_wrong_keys_are_refused_at_the_call(arguments, message):
    with pytest.raises(InputError, match=message):
        keyed(*arguments[0], **arguments[1])


def test_a_checkpoint_outside_keyed_needs_no_help():
    x = torch.ones(1000, requires_grad=True)
    y = checkpoint(dropout, x, use_reentrant=False)
    y.sum().backward()
    assert torch.equal(x.grad, y.detach())


@pytest.mark.parametrize("inside", [True, False])
def test_a_checkpoint_inside_keyed_recomputes_its_masks(inside):
    def twice(x):
        return dropout(dropout(x, 0.2), 0.5)

    x = torch.ones(1000, requires_grad=True)
    with keyed(7):
        before = dropout(x.detach())
        y = checkpoint(twice, x, use_reentrant=False, context_fn=checkpoint_contexts)
        after = dropout(x.detach())
        if inside:
            y.sum().backward(retain_graph=True)
    if not inside:
        y.sum().backward(retain_graph=True)
    assert torch.equal(x.grad, y.detach())
    x.grad = None
    y.sum().backward()  # a second recomputation
    assert torch.equal(x.grad, y.detach())
    with keyed(7):
        assert torch.equal(before, dropout(x.detach()))
        assert torch.equal(y, twice(x))
        assert torch.equal(after, dropout(x.detach()))


def test_a_checkpoint_that_would_change_masks_is_refused():
    x = torch.ones(10, requires_grad=True)
    with keyed(7):
        y = checkpoint(dropout, x, use_reentrant=False)
        with pytest.raises(InputError, match=r"context_fn=dropkit\.core\.streams.checkpoint_contexts"):
            y.sum().backward()
