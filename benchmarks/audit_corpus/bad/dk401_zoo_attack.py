"""Accuracy on held-out data is taken in the middle of training, in training mode."""

import torch

REPORT = "https://github.com/as791/ZOO_Attack_PyTorch/issues/7"
RULES = ("DK401",)
STATIC = True


def accuracy(model, loader):  # <- DK401
    right = 0
    for images, labels in loader:
        right += (model(images).argmax(1) == labels).sum().item()  # <- DK401
    return right / len(loader.dataset)


def train(model, optimizer, train_loader, val_loader, epochs):
    model.train()
    for _ in range(epochs):
        for images, labels in train_loader:
            optimizer.zero_grad()
            torch.nn.functional.cross_entropy(model(images), labels).backward()
            optimizer.step()
        print("validation", accuracy(model, val_loader))  # <- DK401
