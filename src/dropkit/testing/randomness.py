"""Checks of where the random numbers come from."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from dropkit.core.streams import keyed
from dropkit.testing.subject import Subject, close, first, run_keyed, same


def manual_seed_governs(subject: Subject) -> None:
    """``torch.manual_seed`` repeats a pass, and the next pass is another."""
    inputs, module = subject.data(8), subject.module(0.5)
    torch.manual_seed(11)
    one = first(module(*inputs))
    torch.manual_seed(11)
    assert same(first(module(*inputs)), one), "the same seed gives the same output"
    assert any(not same(first(module(*inputs)), one) for _ in range(3)), "another pass gives another output"


def fork_rng_isolates(subject: Subject) -> None:
    """What happens inside ``torch.random.fork_rng`` leaves no trace outside."""
    inputs, module = subject.data(8), subject.module(0.5)
    torch.manual_seed(11)
    with torch.random.fork_rng(devices=[]):
        inside = first(module(*inputs))
    assert same(first(module(*inputs)), inside), "the state outside is untouched"


def generator_decides(subject: Subject) -> None:
    """A ``generator=`` decides the outcome, and the default generator is left alone."""
    assert subject.call is not None
    inputs, state = subject.data(8), torch.get_rng_state()
    rate = () if subject.claims.rate is None else (0.5,)

    def run(seed: int) -> Tensor:
        assert subject.call is not None
        return first(subject.call(*inputs, *rate, training=True, generator=torch.Generator().manual_seed(seed)))

    assert same(run(4), run(4)), "the same generator gives the same output"
    assert any(not same(run(4), run(seed)) for seed in (5, 6, 7)), "another generator gives another output"
    assert torch.equal(state, torch.get_rng_state()), "the default generator is left alone"


def keyed_is_reproducible(subject: Subject) -> None:
    """Inside ``dk.keyed`` the outcome is a function of seed, step, pass and use, and nothing is drawn."""
    inputs, module, state = subject.data(16), subject.module(0.5), torch.get_rng_state()

    def run(seed: int, step: int = 0, turn: int = 0) -> tuple[Tensor, Tensor]:
        with keyed(seed, step, pass_index=turn):
            return first(module(*inputs)), first(module(*inputs))

    (one, two), again = run(1), run(1)
    assert torch.equal(state, torch.get_rng_state()), "keyed draws nothing"
    assert same(one, again[0]), "one key gives one output"
    assert same(two, again[1]), "one key gives one second output"
    others = [one, two, run(2)[0], run(1, 1)[0], run(1, 0, 1)[0]]
    for i, y in enumerate(others):
        assert not any(same(y, z) for z in others[:i]), "another use, seed, step or pass gives another output"


def streams_tell_sites_apart(subject: Subject) -> None:
    """Sites with different names have different masks, and a name means the same whatever else runs."""
    inputs = subject.data(16)
    modules: list[Any] = [subject.module(0.5), subject.module(0.5)]
    for module, name in zip(modules, "ab", strict=True):
        assert hasattr(module, "stream"), "a random module has a stream"
        module.stream = name
    with keyed(3):
        a, b = (first(module(*inputs)) for module in modules)
    with keyed(3):
        swapped = [first(module(*inputs)) for module in reversed(modules)]
    assert not same(a, b), "two names give two masks"
    assert same(b, swapped[0]), "the order of the calls does not matter"
    assert same(a, swapped[1]), "the order of the calls does not matter"


def rate_zero_counts_as_a_use(subject: Subject) -> None:
    """Turning one site's rate to 0 leaves the masks of later unnamed calls as they are."""
    inputs, acting, idle = subject.data(16), subject.module(0.5), subject.module(0.0)
    with keyed(3):
        acting(*inputs)
        after_acting = first(acting(*inputs))
    with keyed(3):
        idle(*inputs)
        after_idle = first(acting(*inputs))
    assert same(after_acting, after_idle), "a call at rate 0 uses as many streams as one at another rate"


def nothing_is_drawn(subject: Subject) -> None:
    """A variant that claims not to be random gives the same twice and draws nothing."""
    inputs, module, state = subject.data(8), subject.module(0.5), torch.get_rng_state()
    assert same(first(module(*inputs)), first(module(*inputs))), "two passes are the same"
    assert torch.equal(state, torch.get_rng_state()), "nothing is drawn"


def checkpoints_recompute_the_same(subject: Subject) -> None:
    """Activation checkpointing recomputes with the same masks: gradients are those without it."""
    x, *rest = subject.data(8)
    module, gradients = subject.module(0.5), []
    for wrapped in (False, True):
        leaf = x.clone().requires_grad_()
        torch.manual_seed(3)
        y = checkpoint(module, leaf, *rest, use_reentrant=False) if wrapped else module(leaf, *rest)
        torch.manual_seed(4)
        gradients += torch.autograd.grad((first(y) ** 2).sum(), leaf)
    assert close(*gradients), "gradients with checkpointing differ from those without"


def vmap_modes(subject: Subject) -> None:
    """``torch.vmap`` gives one mask, different masks or an error, as its ``randomness`` says."""
    x, *rest = subject.data(4)
    stacked, module = torch.stack([x, x, x]), subject.module(0.5)

    def run(randomness: str) -> Tensor:
        torch.manual_seed(2)
        return torch.vmap(lambda v: first(module(v, *rest)), randomness=randomness)(stacked)

    alike, different = run("same"), run("different")
    assert close(alike[0], alike[1]), 'randomness="same" gives one mask'
    assert not close(different[0], different[1]), 'randomness="different" gives different masks'
    try:
        run("error")
    except RuntimeError:
        return
    raise AssertionError('randomness="error" raises')


def masks_do_not_depend_on_threads(subject: Subject) -> None:
    """One thread and two make the same output."""
    inputs, before = subject.data(8), torch.get_num_threads()
    outputs = []
    try:
        for threads in (1, 2):
            torch.set_num_threads(threads)
            outputs.append(run_keyed(subject.module(0.5), inputs, 9))
    finally:
        torch.set_num_threads(before)
    assert close(*outputs), "the number of threads changes the output"
