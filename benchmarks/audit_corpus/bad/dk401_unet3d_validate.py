"""A trainer validates without eval()."""

import torch

REPORT = "https://github.com/wolny/pytorch-3dunet/issues/53"
RULES = ("DK401",)
STATIC = True


class Trainer:
    def __init__(self, model, optimizer, loss):
        self.model, self.optimizer, self.loss = model, optimizer, loss

    def fit(self, train_loader, val_loader, epochs):
        for _ in range(epochs):
            self.model.train()
            for x, y in train_loader:
                self.optimizer.zero_grad()
                self.loss(self.model(x), y).backward()
                self.optimizer.step()
            print(self.validate(val_loader))

    def validate(self, val_loader):  # <- DK401
        scores = []
        with torch.no_grad():  # <- DK401
            for x, y in val_loader:
                scores.append(self.loss(self.model(x), y).item())  # <- DK401
        return sum(scores) / len(scores)
