"""Blocks, patches and words against what one writes in PyTorch, and against two libraries' formulas for DropBlock."""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from dropkit.variants.drop_block import DropBlock2d
from dropkit.variants.embedding import EmbeddingDropout
from dropkit.variants.patch import PatchDropout
from dropkit.variants.word import WordDropout
from harness import Bar, Case, Rivals, compare, write

P, BLOCK = 0.1, 7
UNKNOWN, PADDING = 1, 0
Call = Callable[[Tensor], Tensor]


def torchvision_block(x: Tensor) -> Tensor:
    """Torchvision's formula: seeds where a block fits, grown by pooling, one factor for the batch."""
    batch, channels, height, width = x.shape
    fits = (height - BLOCK + 1) * (width - BLOCK + 1)
    gamma = P * height * width / (BLOCK**2 * fits)
    seeds = torch.empty(batch, channels, height - BLOCK + 1, width - BLOCK + 1, dtype=x.dtype).bernoulli_(gamma)
    padded = F.pad(seeds, [BLOCK // 2] * 4)
    keep = 1 - F.max_pool2d(padded, BLOCK, stride=1, padding=BLOCK // 2)
    return x * keep * (keep.numel() / (keep.sum() + 1e-6))


def timm_block(x: Tensor) -> Tensor:
    """Timm's formula: seeds anywhere with the rate for where a block fits, grown by pooling, one factor for the batch."""
    height, width = x.shape[2:]
    gamma = P * height * width / (BLOCK**2 * (height - BLOCK + 1) * (width - BLOCK + 1))
    seeds = torch.empty_like(x).bernoulli_(gamma)
    keep = 1 - F.max_pool2d(seeds, BLOCK, stride=1, padding=BLOCK // 2)
    return x * (keep * (keep.numel() / (keep.sum() + 1e-7)))


def patches(x: Tensor) -> Tensor:
    """Keep half of the tokens after the first as one writes it in PyTorch."""
    rest = x[:, 1:]
    places = torch.randn(rest.shape[:2]).argsort(1)[:, : rest.shape[1] // 2].sort(1).values
    return torch.cat((x[:, :1], rest.gather(1, places[..., None].expand(-1, -1, x.shape[2]))), 1)


def words(tokens: Tensor) -> Tensor:
    """Replace tokens but padding as one writes it in PyTorch."""
    return torch.where((torch.rand(tokens.shape) < P) & (tokens != PADDING), UNKNOWN, tokens)


def both(title: str, x: Tensor, calls: dict[str, Call]) -> list[Case]:
    """Time the forward pass, then forward and backward; dropkit is held to each rival."""
    leaf = x.clone().requires_grad_()
    grad = torch.ones_like(calls["dropkit"](x))

    def step(call: Call) -> None:
        leaf.grad = None
        call(leaf).backward(grad)

    forward: Rivals = {name: lambda call=call: call(x) for name, call in calls.items()}
    full: Rivals = {name: lambda call=call: step(call) for name, call in calls.items()}
    bars = [Bar("dropkit", name, 1.0) for name in calls if name != "dropkit"]
    return [compare(f"{title}, forward", forward, bars), compare(f"{title}, forward + backward", full, bars)]


def embeddings() -> list[Case]:
    """Time a language model's embedding: a table of 10000 words, 70 steps of 80 sequences."""
    table, tokens = nn.Embedding(10_000, 400), torch.randint(10_000, (70, 80))
    layer, grad = EmbeddingDropout(nn.Embedding(10_000, 400), P), torch.ones(70, 80, 400)

    def masked() -> Tensor:
        rows = table.weight.new_empty(10_000, 1).bernoulli_(1 - P) / (1 - P)
        return F.embedding(tokens, rows.expand_as(table.weight) * table.weight)

    def step(call: Callable[[], Tensor]) -> None:
        table.weight.grad = layer.weight.grad = None
        call().backward(grad)

    bars = [Bar("dropkit", "masked table", 1.0)]
    title = "EmbeddingDropout, 10000 x 400, (70, 80) tokens"
    return [compare(f"{title}, forward", {"masked table": masked, "dropkit": lambda: layer(tokens)}, bars),
            compare(f"{title}, forward + backward", {"masked table": lambda: step(masked),
                                                     "dropkit": lambda: step(lambda: layer(tokens))}, bars)]


def cases() -> list[Case]:
    """Run every case."""
    block, found = DropBlock2d(P, BLOCK), []
    for shape in ((32, 64, 28, 28), (32, 256, 14, 14)):
        found += both(f"DropBlock2d, {shape}", torch.randn(shape),
                      {"torchvision": torchvision_block, "timm": timm_block, "dropkit": block})
    found += both("PatchDropout, (64, 197, 384)", torch.randn(64, 197, 384), {"torch": patches, "dropkit": PatchDropout(0.5)})
    found += embeddings()
    tokens, dropout = torch.randint(10_000, (70, 80)), WordDropout(P, unknown=UNKNOWN, protected=(PADDING,))
    found.append(compare("WordDropout, (70, 80) tokens", {"torch": lambda: words(tokens), "dropkit": lambda: dropout(tokens)},
                         [Bar("dropkit", "torch", 1.0)]))
    return found


if __name__ == "__main__":
    write("Blocks, patches and words", "blocks", cases(),
          f"p = {P}, blocks of {BLOCK}, half of the patches, float32, one thread. Torchvision and timm stand for their "
          "formulas. Ratios under 1 are faster.")
