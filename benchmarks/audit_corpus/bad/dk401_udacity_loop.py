"""One loop trains and tests without either call."""

import torch

REPORT = "https://github.com/udacity/deep-learning-v2-pytorch/issues/3"
RULES = ("DK401",)
STATIC = True


def run(model, optimizer, criterion, train_loader, test_loader, epochs):
    for _ in range(epochs):
        for data, target in train_loader:
            optimizer.zero_grad()
            loss = criterion(model(data), target)
            loss.backward()
            optimizer.step()

    test_loss = 0.0
    with torch.no_grad():  # <- DK401
        for data, target in test_loader:  # <- DK401
            output = model(data)  # <- DK401
            test_loss += criterion(output, target).item()
    return test_loss / len(test_loader)
