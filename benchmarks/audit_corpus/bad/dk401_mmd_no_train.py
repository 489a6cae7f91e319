"""evaluate() switches to eval and nothing switches back: one validation ends dropout for good."""

import torch

REPORT = "https://github.com/shubhamagarwal92/mmd/issues/14"
RULES = ("DK401",)
STATIC = True


def evaluate(model, batches, loss_of):
    model.eval()  # <- DK401
    total = 0.0
    with torch.no_grad():
        for x, y in batches:
            total += loss_of(model(x), y).item()
    return total / len(batches)


def train(model, optimizer, batches, held_out, loss_of, epochs):
    model.train()
    for epoch in range(epochs):
        for x, y in batches:
            optimizer.zero_grad()
            loss_of(model(x), y).backward()  # <- DK401
            optimizer.step()
        print(epoch, evaluate(model, held_out, loss_of))  # <- DK401
