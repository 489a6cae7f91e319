"""Models on which Monte-Carlo dropout goes wrong when it is done by hand."""

from __future__ import annotations

import warnings
from dataclasses import dataclass

import torch
import torch.utils.checkpoint
from torch import nn
from torch.nn import functional as F

import dropkit as dk


def noise(*shape):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(1))


def mlp():
    return nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Dropout(0.5), nn.Linear(16, 3))


def normed():
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(inplace=True), nn.Dropout2d(0.3, inplace=True),
                         nn.Flatten(), nn.Dropout(0.2), nn.Linear(64, 3))


def encoder(nested=False):
    layer = nn.TransformerEncoderLayer(8, 2, 16, dropout=0.2, batch_first=True)
    return nn.TransformerEncoder(layer, 2, enable_nested_tensor=nested)


class Attends(nn.Module):
    """nn.MultiheadAttention with or without weights, and no other dropout."""

    def __init__(self, weights):
        super().__init__()
        self.attention, self.weights = nn.MultiheadAttention(8, 2, dropout=0.3, batch_first=True), weights

    def forward(self, x):
        return self.attention(x, x, x, need_weights=self.weights)[0]


class Tagger(nn.Module):
    def __init__(self, kind=nn.LSTM):
        super().__init__()
        self.rnn = kind(8, 6, 2, dropout=0.4, batch_first=True)

    def forward(self, x):
        return self.rnn(x)[0]


class OwnLSTM(nn.LSTM):
    """Of a class that dropkit does not take over: it draws from torch's generator."""


class Functional(nn.Module):
    """F.dropout in the forward, turned off by the mode."""

    def __init__(self):
        super().__init__()
        self.first, self.norm, self.second = nn.Linear(8, 8), nn.BatchNorm1d(8), nn.Linear(8, 3)

    def forward(self, x):
        x = F.dropout(self.norm(self.first(x)).relu(), 0.3, self.training)
        return self.second(F.dropout(x, p=0.2, training=self.training))


class OnlyInTraining(nn.Module):
    """A call that evaluation does not make, beside a branch on the children's mode."""

    def __init__(self):
        super().__init__()
        self.first, self.norm, self.second = nn.Linear(8, 8), nn.BatchNorm1d(8), nn.Linear(8, 3)

    def forward(self, x):
        x = self.norm(self.first(x))
        if self.training:
            x = F.dropout(x, 0.3)
        return self.second(x)


class Loss(nn.Module):
    """Returns another thing in training, as many models do."""

    def __init__(self):
        super().__init__()
        self.body = nn.Linear(8, 3)

    def forward(self, x):
        y = self.body(F.dropout(x, 0.3, self.training))
        return {"loss": y.sum(), "other": y, "more": y} if self.training else {"logits": y, "hidden": x}


class Heads(nn.Module):
    """Scaled dot product attention with a rate of 0 in evaluation."""

    def forward(self, x):
        heads = x.unflatten(-1, (2, 4)).transpose(1, 2)
        mixed = F.scaled_dot_product_attention(heads, heads, heads, dropout_p=0.3 if self.training else 0.0)
        return mixed.transpose(1, 2).flatten(2)


class Shared(nn.Module):
    """One dropout module, used twice."""

    def __init__(self):
        super().__init__()
        self.drop, self.linear = nn.Dropout(0.5), nn.Linear(8, 8)

    def forward(self, x):
        return self.drop(self.linear(self.drop(x)))


class Branches(nn.Module):
    """A forward that depends on its data."""

    def __init__(self):
        super().__init__()
        self.drop, self.linear = nn.Dropout(0.5), nn.Linear(8, 3)

    def forward(self, x):
        y = self.linear(self.drop(x))
        return y if y.sum() > 0 else -y


class TwoOutputs(nn.Module):
    def __init__(self):
        super().__init__()
        self.body = mlp()

    def forward(self, x, *, scale=1.0):
        return self.body(x) * scale, x


class Own(nn.Dropout):
    """A subclass with a behaviour of its own."""

    def forward(self, input):
        return super().forward(input) + 1


class Custom(nn.modules.dropout._DropoutNd):
    """Draws from torch's generator, out of dropkit's sight."""

    def forward(self, input):
        return input * torch.empty_like(input).bernoulli_(1 - self.p) if self.training else input


class Counts(nn.Module):
    """Writes into a buffer and into its attributes."""

    def __init__(self):
        super().__init__()
        self.register_buffer("calls", torch.zeros(()))
        self.body, self.seen = mlp(), []

    def forward(self, x):
        self.calls += 1
        self.seen.append(len(x))
        return self.body(x)


def variants():
    return nn.Sequential(dk.nn.DropConnect(nn.Linear(8, 8), 0.3), dk.nn.GaussianDropout(0.2), nn.Dropout(0.1),
                         dk.nn.ConcreteDropout(nn.Linear(8, 3)))


def stacked():
    return nn.Sequential(nn.Linear(8, 8), dk.nn.LayerDrop([nn.Sequential(nn.Linear(8, 8), nn.ReLU()) for _ in range(4)], 0.4))


class Translator(nn.Module):
    """Encoder and decoder."""

    def __init__(self):
        super().__init__()
        self.net = nn.Transformer(8, 2, 1, 1, 16, dropout=0.2, batch_first=True)

    def forward(self, x):
        return self.net(x, x[:, :4])


def residual():
    return nn.Sequential(nn.Conv2d(3, 4, 3, padding=1), dk.nn.DropPath(0.3), dk.nn.DropBlock2d(0.2, 3), nn.Flatten(),
                         nn.Linear(4 * 36, 3))


class Path(nn.Module):
    """Stochastic depth as other libraries write it: a module of their own, on torch's generator."""

    def __init__(self, p):
        super().__init__()
        self.drop_prob = p

    def forward(self, x):
        if self.drop_prob == 0.0 or not self.training:
            return x
        shape = (len(x),) + (1,) * (x.dim() - 1)
        return x * x.new_empty(shape).bernoulli_(1 - self.drop_prob) / (1 - self.drop_prob)


class Reparametrised(nn.Module):
    """A variational autoencoder's noise, which is no dropout, beside dropout."""

    def __init__(self):
        super().__init__()
        self.body = mlp()

    def forward(self, x):
        y = self.body(x)
        return y + torch.randn_like(y) if self.training else y


class Checkpointed(nn.Module):
    """Recomputes its block."""

    def __init__(self):
        super().__init__()
        self.block, self.head = mlp(), nn.Linear(3, 3)

    def forward(self, x):
        return self.head(torch.utils.checkpoint.checkpoint(self.block, x, use_reentrant=False))


@dataclass
class Output:
    logits: torch.Tensor
    hidden: torch.Tensor


class WithFields(nn.Module):
    """Returns an object with a field for the logits."""

    def __init__(self):
        super().__init__()
        self.body = mlp()

    def forward(self, x):
        return Output(self.body(x), x)


class Nested(nn.Module):
    """Writes into a plain list and dictionary, and keeps a plain tensor."""

    def __init__(self):
        super().__init__()
        self.body, self.log, self.state, self.last = mlp(), [], {"n": 0}, torch.zeros(())

    def forward(self, x):
        self.log.append(float(x.sum()))
        self.state["n"] += 1
        self.last = x.sum()
        return self.body(x)


class Instance(nn.Module):
    """Statistics of single examples, tracked."""

    def __init__(self):
        super().__init__()
        self.norm, self.drop = nn.InstanceNorm1d(5, track_running_stats=True), nn.Dropout(0.3)

    def forward(self, x):
        return self.drop(self.norm(x))


def compiled(inside):
    if inside:
        part = torch.compile(nn.Sequential(nn.Linear(8, 8), nn.Dropout(0.4)), backend="eager")  # a compiler is not the point
        return nn.Sequential(part, nn.Linear(8, 3))
    return torch.compile(mlp(), backend="eager")


def compiled_in_place():
    net = mlp()
    net.compile(backend="eager")
    return net


def traced_part():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        part = torch.jit.trace(nn.Sequential(nn.Linear(8, 8), nn.ReLU()), torch.ones(1, 8))
    return nn.Sequential(part, nn.Dropout(0.3), nn.Linear(8, 3))


def normalised():
    layers = nn.Sequential(nn.Linear(8, 8), nn.Linear(8, 8), nn.Dropout(0.3), nn.Linear(8, 3))
    nn.utils.parametrizations.weight_norm(layers[0])
    nn.utils.parametrizations.spectral_norm(layers[1])
    return layers


def hooked():
    net = mlp()
    net[2].register_forward_hook(lambda module, args, output: output * 2)
    net[0].register_forward_pre_hook(lambda module, args: (args[0] + 1,))
    return net


CASES = {
    "mlp": (mlp, noise(4, 8), "vmap"),
    "normed": (normed, noise(4, 3, 6, 6), "vmap"),
    "encoder": (encoder, noise(2, 5, 8), "vmap"),
    "nested encoder": (lambda: encoder(True), noise(2, 5, 8), "vmap"),
    "attention": (lambda: Attends(False), noise(2, 5, 8), "vmap"),
    "attention with weights": (lambda: Attends(True), noise(2, 5, 8), "vmap"),
    "lstm": (Tagger, noise(2, 5, 8), None),
    "gru": (lambda: Tagger(nn.GRU), noise(2, 5, 8), None),
    "own lstm": (lambda: Tagger(OwnLSTM), noise(2, 5, 8), "loop"),
    "functional": (Functional, noise(4, 8), "vmap"),
    "only in training": (OnlyInTraining, noise(4, 8), "vmap"),
    "loss": (Loss, noise(4, 8), "vmap"),
    "heads": (Heads, noise(2, 5, 8), "vmap"),
    "shared": (Shared, noise(4, 8), "vmap"),
    "branches": (Branches, noise(4, 8), "loop"),
    "own dropout": (lambda: nn.Sequential(nn.Linear(8, 8), Own(0.3), nn.Linear(8, 3)), noise(4, 8), "vmap"),
    "custom": (lambda: nn.Sequential(Custom(0.3), nn.Linear(8, 3)), noise(4, 8), "loop"),
    "alpha": (lambda: nn.Sequential(nn.Linear(8, 8), nn.AlphaDropout(0.2), nn.FeatureAlphaDropout(0.1)), noise(4, 8), "vmap"),
    "counts": (Counts, noise(4, 8), "vmap"),
    "layer drop": (stacked, noise(4, 8), "loop"),
    "translator": (Translator, noise(2, 5, 8), "vmap"),
    "variants": (variants, noise(4, 8), "vmap"),
    "residual": (residual, noise(4, 3, 6, 6), "vmap"),
    "compiled": (lambda: compiled(False), noise(4, 8), "vmap"),
    "compiled part": (lambda: compiled(True), noise(4, 8), "vmap"),
    "compiled in place": (compiled_in_place, noise(4, 8), "vmap"),
    "traced part": (traced_part, noise(4, 8), None),
    "graph": (lambda: torch.fx.symbolic_trace(mlp()), noise(4, 8), "vmap"),
    "normalised weights": (normalised, noise(4, 8), "vmap"),
    "on several devices": (lambda: nn.DataParallel(mlp()), noise(4, 8), "vmap"),
    "checkpointed": (Checkpointed, noise(4, 8), None),
    "fields": (WithFields, noise(4, 8), "vmap"),
    "half": (lambda: mlp().to(torch.bfloat16), noise(4, 8).bfloat16(), "vmap"),
    "double": (lambda: mlp().double(), noise(4, 8).double(), "vmap"),
    "nested state": (Nested, noise(4, 8), None),
    "instance norm": (Instance, noise(4, 5, 8), "vmap"),
    "hooked": (hooked, noise(4, 8), "vmap"),
}
