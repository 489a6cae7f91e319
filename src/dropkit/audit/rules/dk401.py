"""DK401: a training loop that evaluates in training mode, or trains in evaluation mode."""

from dropkit.audit.rule import Rule

RULE = Rule(
    id="DK401",
    title="A training loop evaluates in training mode or trains in evaluation mode",
    why="In training mode dropout drops and BatchNorm takes the batch's own statistics, and updates its running ones, while "
        "the model is being evaluated: the figures are noisy and too low, and models are chosen by them. "
        "`torch.no_grad()` turns off gradients and nothing else. The other way round, an `eval()` in an epoch's evaluation "
        "that no `train()` follows turns dropout off for every epoch after the first.",
    fix="Call `model.eval()` before every evaluation and `model.train()` at the start of every epoch. A method that is only "
        "named, `model.eval` without brackets, does nothing.",
    severity="error",
    confidence="high",
    bad="""\
import torch


def fit(model, optimizer, train_loader, val_loader, loss_of):
    for epoch in range(10):
        model.train()
        for x, y in train_loader:
            optimizer.zero_grad()
            loss_of(model(x), y).backward()
            optimizer.step()
        with torch.no_grad():
            for x, y in val_loader:
                print(loss_of(model(x), y))
""",
    good="""\
import torch


def fit(model, optimizer, train_loader, val_loader, loss_of):
    for epoch in range(10):
        model.train()
        for x, y in train_loader:
            optimizer.zero_grad()
            loss_of(model(x), y).backward()
            optimizer.step()
        model.eval()
        with torch.no_grad():
            for x, y in val_loader:
                print(loss_of(model(x), y))
""",
    references=("PyTorch documentation, \"Autograd mechanics\", section \"Evaluation Mode (nn.Module.eval())\"",),
)
