"""A validation that puts back whichever mode it found."""

import torch

REPORT = "https://github.com/IBM/pytorch-seq2seq/pull/38"
RULES = ()
STATIC = True


@torch.no_grad()
def validate(model, loader):
    was_training = model.training
    model.eval()
    losses = [torch.nn.functional.cross_entropy(model(x), y) for x, y in loader]
    model.train(was_training)
    return torch.stack(losses).mean()


def train(model, optimizer, batches, held_out, every):
    model.train()
    for step, (x, y) in enumerate(batches):
        optimizer.zero_grad()
        torch.nn.functional.cross_entropy(model(x), y).backward()
        optimizer.step()
        if step % every == 0:
            print(step, validate(model, held_out))
