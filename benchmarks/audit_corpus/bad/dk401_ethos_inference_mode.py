"""A decorator that turns gradients off is taken for evaluation mode."""

import torch

REPORT = "https://github.com/ipolharvard/ethos-ares/issues/20"
RULES = ("DK401",)
STATIC = True


@torch.no_grad()  # <- DK401
def estimate_loss(model, batches):  # <- DK401
    losses = []
    for x, y in batches:
        logits = model(x)  # <- DK401
        losses.append(torch.nn.functional.cross_entropy(logits, y))  # <- DK401
    return torch.stack(losses).mean()


def train(model, optimizer, batches, held_out, steps):
    model.train()
    for _, (x, y) in zip(range(steps), batches, strict=False):
        optimizer.zero_grad()
        torch.nn.functional.cross_entropy(model(x), y).backward()
        optimizer.step()
    return estimate_loss(model, held_out)
