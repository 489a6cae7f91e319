"""A checkpoint written by hand runs its block again in the backward pass from another state of the generator."""

import torch
from torch import nn

REPORT = "https://github.com/openai/guided-diffusion/issues/167"
RULES = ("DK105",)


class Recompute(torch.autograd.Function):
    @staticmethod
    def forward(ctx, run, x, *parameters):
        ctx.run, ctx.parameters = run, parameters
        ctx.save_for_backward(x)
        with torch.no_grad():
            return run(x)

    @staticmethod
    def backward(ctx, grad):
        x = ctx.saved_tensors[0].detach().requires_grad_()
        with torch.enable_grad():
            y = ctx.run(x)  # <- DK105
        return None, *torch.autograd.grad(y, (x, *ctx.parameters), grad)


class Model(nn.Module):
    def __init__(self, dim=32):
        super().__init__()
        self.inner, self.drop, self.outer = nn.Linear(dim, 64), nn.Dropout(0.1), nn.Linear(64, dim)

    def block(self, x):
        return self.outer(self.drop(torch.relu(self.inner(x))))  # <- DK105

    def forward(self, x):
        return Recompute.apply(self.block, x, *self.parameters())  # <- DK105


def build():
    return Model()


def inputs():
    return torch.randn(4, 32)
