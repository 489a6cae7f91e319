"""Dropout in attention against PyTorch's own and against what is usually written by hand; p = 0.1, forward and backward."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor
from torch.nn import functional as F

from dropkit.variants.attention import attention_dropout, scaled_dot_product_attention
from dropkit.variants.drop_attention import drop_attention
from dropkit.variants.drop_head import drop_head
from dropkit.variants.drop_key import drop_key
from harness import Bar, Case, compare, threads_to_time, write

P = 0.1
SHAPE = (8, 8, 128, 64)
"""Examples, heads, positions, size of a head."""


def both_ways(call: Callable[..., Tensor], *inputs: Tensor) -> Callable[[], None]:
    """Return a forward and a backward pass of ``call``, leaving no gradient behind."""
    leaves = [tensor.clone().requires_grad_() for tensor in inputs]
    grad = torch.ones_like(call(*leaves))

    def step() -> None:
        torch.autograd.grad(call(*leaves), leaves, grad)

    return step


def drop_key_by_hand(logits: Tensor) -> Tensor:
    """Push dropped logits far down, as in the paper's listing."""
    return logits + torch.bernoulli(torch.full_like(logits, P)) * -1e12


def drop_attention_by_hand(weights: Tensor) -> Tensor:
    """Multiply by a mask and divide by the sums."""
    kept = weights * torch.bernoulli(torch.full_like(weights, 1 - P))
    return kept / kept.sum(-1, keepdim=True)


def drop_head_by_hand(x: Tensor) -> Tensor:
    """Loop over examples and heads."""
    examples = []
    for example in x:
        kept = [bool(torch.rand(()) >= P) for _ in example]
        scale = len(kept) / max(1, sum(kept))
        examples.append(torch.stack([head * scale if keep else head * 0 for head, keep in zip(example, kept, strict=True)]))
    return torch.stack(examples)


def against(name: str, rivals: dict[str, Callable[..., Tensor]], *inputs: Tensor, threads: int, bound: float = 1.0) -> Case:
    """Time dropkit against one other way; the bar is held on one thread."""
    steps = {rival: both_ways(call, *inputs) for rival, call in rivals.items()}
    other = next(rival for rival in rivals if rival != "dropkit")
    return compare(f"{name}, {tuple(inputs[0].shape)} float32", steps,
                   [Bar("dropkit", other, bound)] * (threads == 1), threads=threads)


def cases() -> list[Case]:
    """Run every case."""
    return [case for threads in threads_to_time() for case in [*attention(threads), *parts(threads)]]


def attention(threads: int) -> list[Case]:
    """Time attention as a whole; evaluation may cost 5 % for its checks, which is the noise of the measurement."""
    inputs = [torch.randn(SHAPE) for _ in range(3)]
    ours, theirs = scaled_dot_product_attention, F.scaled_dot_product_attention
    found = [against("attention, training" + ", causal" * causal, {
        "F.sdpa": partial(theirs, dropout_p=P, is_causal=causal), "dropkit": partial(ours, p=P, is_causal=causal),
    }, *inputs, threads=threads) for causal in (False, True)]
    evaluation = {"F.sdpa": theirs, "dropkit": partial(ours, p=P, training=False)}
    return [*found, against("attention, evaluation", evaluation, *inputs, threads=threads, bound=1.05)]


def parts(threads: int) -> list[Case]:
    """Time what acts on logits, on weights and on heads."""
    logits, heads = torch.randn(*SHAPE[:3], SHAPE[2]), torch.randn(SHAPE)
    rows = (("attention_dropout", "F.dropout", partial(F.dropout, p=P), attention_dropout, logits.softmax(-1)),
            ("drop_key", "+ bernoulli * -1e12", drop_key_by_hand, drop_key, logits),
            ("drop_attention", "* bernoulli / sum", drop_attention_by_hand, drop_attention, logits.softmax(-1)),
            ("drop_head", "loop", drop_head_by_hand, drop_head, heads))
    return [against(name, {other: theirs, "dropkit": partial(ours, p=P)}, x, threads=threads)
            for name, other, theirs, ours, x in rows]


if __name__ == "__main__":
    write("Dropout in attention", "attention", cases(), f"p = {P}, forward and backward. Ratios under 1 are faster.")
