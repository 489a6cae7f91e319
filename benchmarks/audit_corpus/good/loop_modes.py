"""A training loop that enters each mode where it needs it."""

import torch

REPORT = "https://github.com/pytorch/tutorials/issues/1624"
RULES = ()
STATIC = True


def evaluate(model, loader, loss_of):
    model.eval()
    total = 0.0
    with torch.no_grad():
        for x, y in loader:
            total += loss_of(model(x), y).item()
    return total / len(loader)


def train(model, optimizer, train_loader, val_loader, loss_of, epochs):
    for epoch in range(epochs):
        model.train()
        for x, y in train_loader:
            optimizer.zero_grad()
            loss_of(model(x), y).backward()
            optimizer.step()
        print(epoch, evaluate(model, val_loader, loss_of))
