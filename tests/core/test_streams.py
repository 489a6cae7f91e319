import threading

import pytest
import torch
from torch.utils.checkpoint import checkpoint

from dropkit.core import streams
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
    used, barrier = {}, threading.Barrier(2)

    def work(seed):
        with keyed(seed):
            barrier.wait(timeout=30)
            used[seed] = [site_key("a") for _ in range(50)]

    threads = [threading.Thread(target=work, args=(seed,)) for seed in (1, 2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [stream for _, stream in used[1]] == [stream for _, stream in used[2]]
    assert used[1][0][0] != used[2][0][0]


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


# Checkpointing. Of an input of ones the gradient of the sum is the mask of the recomputation times its scale, and so the
# output again if and only if both passes had the same masks.


@pytest.fixture
def ones():
    """Ones that require a gradient, in a process that remembers no keyed call."""
    streams._LAST_KEYED.clear()
    streams._THREAD.last_keyed.clear()
    return torch.ones(1000, requires_grad=True)


def twice(x):
    return dropout(dropout(x, 0.2, stream="a"), 0.5)


@pytest.mark.parametrize("reentrant", [False, True])
def test_a_checkpoint_outside_keyed_needs_no_help(ones, reentrant):
    y = checkpoint(twice, ones, use_reentrant=reentrant, preserve_rng_state=True)
    y.sum().backward()
    assert torch.equal(ones.grad, y.detach())


def test_a_checkpoint_outside_keyed_that_forgets_the_random_state_draws_afresh(ones):
    y = checkpoint(twice, ones, use_reentrant=False, preserve_rng_state=False)
    y.sum().backward()
    assert not torch.equal(ones.grad, y.detach())  # as with PyTorch's own dropout: the test above can fail


@pytest.mark.parametrize("preserve_rng_state", [True, False])
@pytest.mark.parametrize("inside", [True, False])
def test_a_checkpoint_inside_keyed_recomputes_its_masks(ones, inside, preserve_rng_state):
    with keyed(7):
        before = twice(ones.detach())
        y = checkpoint(twice, ones, use_reentrant=False, context_fn=checkpoint_contexts,
                       preserve_rng_state=preserve_rng_state)
        after = twice(ones.detach())
        if inside:
            y.sum().backward(retain_graph=True)
    if not inside:
        y.sum().backward(retain_graph=True)
    assert torch.equal(ones.grad, y.detach())
    ones.grad = None
    y.sum().backward()  # a second recomputation
    assert torch.equal(ones.grad, y.detach())
    with keyed(7):
        assert torch.equal(before, twice(ones.detach()))
        assert torch.equal(y, twice(ones))
        assert torch.equal(after, twice(ones.detach()))


@pytest.mark.parametrize("inside", [True, False])
@pytest.mark.parametrize("arguments", [{"use_reentrant": False}, {"use_reentrant": True},
                                       {"use_reentrant": False, "preserve_rng_state": False}], ids=str)
@pytest.mark.parametrize("name", [None, "a"])
def test_a_checkpoint_that_would_change_masks_is_refused(ones, inside, arguments, name):
    message = r"context_fn=dropkit\.core\.streams\.checkpoint_contexts"
    with keyed(7):
        y = checkpoint(lambda x: dropout(x, stream=name), ones, **arguments)
        if inside:
            with pytest.raises(InputError, match=message):
                y.sum().backward()
    if not inside:
        with pytest.raises(InputError, match=message):
            y.sum().backward()
    assert ones.grad is None


def test_a_backward_pass_in_another_thread_is_refused_too(ones):
    # As on accelerators, where autograd runs the backward pass in threads that have seen no forward pass.
    with keyed(7):
        y = checkpoint(dropout, ones, use_reentrant=False)
    seen = []

    def backward():
        try:
            y.sum().backward()
        except InputError as error:
            seen.append(error)

    thread = threading.Thread(target=backward)
    thread.start()
    thread.join()
    assert len(seen) == 1


def test_a_thread_that_is_not_keyed_is_left_alone(ones):
    forward_done, keyed_done, outputs = threading.Event(), threading.Event(), []

    def work():
        y = checkpoint(dropout, ones, use_reentrant=False)
        forward_done.set()
        keyed_done.wait(timeout=30)
        y.sum().backward()
        outputs.append(y.detach())

    with keyed(7):
        site_key("another name")
    thread = threading.Thread(target=work)
    thread.start()
    forward_done.wait(timeout=30)
    with keyed(7):
        site_key()
    keyed_done.set()
    thread.join()
    assert streams._LAST_KEYED[streams.UNNAMED]
    assert torch.equal(ones.grad, outputs[0])


def test_an_unkeyed_use_forgets_the_keyed_one(ones):
    with keyed(7):
        twice(ones)
    y = checkpoint(twice, ones, use_reentrant=False)
    y.sum().backward()
    assert torch.equal(ones.grad, y.detach())


def test_a_checkpoint_that_carries_no_key_recomputes_without_one(ones):
    y = checkpoint(twice, ones, use_reentrant=False, context_fn=checkpoint_contexts)
    with keyed(7):
        twice(ones)
        y.sum().backward()  # neither the context around it nor what was used last matters
    assert torch.equal(ones.grad, y.detach())


def test_a_region_that_is_keyed_inside_needs_no_help(ones):
    def region(x):
        with keyed(7):
            return twice(x)

    for arguments in ({}, {"context_fn": checkpoint_contexts}):
        ones.grad = None
        y = checkpoint(region, ones, use_reentrant=False, preserve_rng_state=False, **arguments)
        with keyed(8):
            y.sum().backward()
        assert torch.equal(ones.grad, y.detach())


def test_two_steps_accumulate_before_one_backward_pass(ones):
    total, outputs = 0, []
    for step in (0, 1):
        with keyed(7, step):
            y = checkpoint(twice, ones, use_reentrant=False, context_fn=checkpoint_contexts, preserve_rng_state=False)
        outputs.append(y.detach())
        total = total + (step + 1) * y.sum()
    total.backward()
    assert not torch.equal(*outputs)
    assert torch.equal(ones.grad, outputs[0] + 2 * outputs[1])


def test_memory_of_names_is_bounded(ones, monkeypatch):
    monkeypatch.setattr(streams, "_REMEMBERED", 10)
    with keyed(7):
        for i in range(100):
            site_key(f"made up {i}")
        y = checkpoint(dropout, ones, use_reentrant=False)
    assert len(streams._LAST_KEYED) <= 10
    assert len(streams._THREAD.last_keyed) <= 10
    with pytest.raises(InputError, match="checkpoint"):
        y.sum().backward()
