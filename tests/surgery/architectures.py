"""Small models of the field's architectures, with inputs and places to insert dropout at, some with dropout in odd places."""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn

import dropkit as dk

# ---------------------------------------------------------------------------------------------------------- images


class BasicBlock(nn.Module):
    def __init__(self, inputs, outputs, stride=1):
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(outputs)
        self.relu = nn.ReLU(inplace=True)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(outputs)
        self.downsample = None
        if stride != 1 or inputs != outputs:
            self.downsample = nn.Sequential(nn.Conv2d(inputs, outputs, 1, stride, bias=False), nn.BatchNorm2d(outputs))

    def forward(self, x):
        identity = x if self.downsample is None else self.downsample(x)
        out = self.bn2(self.conv2(self.relu(self.bn1(self.conv1(x)))))
        out += identity
        return self.relu(out)


class Bottleneck(nn.Module):
    def __init__(self, inputs, width, stride=1):
        super().__init__()
        self.conv1, self.bn1 = nn.Conv2d(inputs, width, 1, bias=False), nn.BatchNorm2d(width)
        self.conv2, self.bn2 = nn.Conv2d(width, width, 3, stride, 1, bias=False), nn.BatchNorm2d(width)
        self.conv3, self.bn3 = nn.Conv2d(width, 4 * width, 1, bias=False), nn.BatchNorm2d(4 * width)
        self.relu = nn.ReLU(inplace=True)
        self.downsample = None
        if stride != 1 or inputs != 4 * width:
            self.downsample = nn.Sequential(nn.Conv2d(inputs, 4 * width, 1, stride, bias=False), nn.BatchNorm2d(4 * width))

    def forward(self, x):
        out = self.relu(self.bn1(self.conv1(x)))
        out = self.relu(self.bn2(self.conv2(out)))
        out = self.bn3(self.conv3(out))
        identity = self.downsample(x) if self.downsample is not None else x
        out += identity
        return self.relu(out)


class ResNet(nn.Module):
    """Four stages, as torchvision's; the fourth is where dropout usually goes."""

    def __init__(self, block=BasicBlock, width=4, grow=1, depth=1):
        super().__init__()
        self.conv1, self.bn1, self.relu = nn.Conv2d(3, width, 3, 1, 1, bias=False), nn.BatchNorm2d(width), nn.ReLU(inplace=True)
        inputs = width
        for stage in range(4):
            blocks = []
            for index in range(depth if stage < 3 else 2):
                blocks.append(block(inputs, width, 2 if stage and not index else 1))
                inputs = width * grow
            setattr(self, f"layer{stage + 1}", nn.Sequential(*blocks))
        self.avgpool = nn.AdaptiveAvgPool2d(1)
        self.fc = nn.Linear(inputs, 5)

    def forward(self, x):
        x = self.relu(self.bn1(self.conv1(x)))
        x = self.layer4(self.layer3(self.layer2(self.layer1(x))))
        return self.fc(torch.flatten(self.avgpool(x), 1))


class DenseLayer(nn.Module):
    def __init__(self, inputs, growth, p=0.2):
        super().__init__()
        self.norm, self.conv, self.p = nn.BatchNorm2d(inputs), nn.Conv2d(inputs, growth, 3, 1, 1), p

    def forward(self, *earlier):
        new = self.conv(F.relu(self.norm(torch.cat(earlier, 1))))
        return F.dropout(new, self.p, self.training) if self.p > 0 else new


class DenseBlock(nn.ModuleDict):
    """A container with a forward that goes through its items, as torchvision's."""

    def __init__(self, inputs, growth, layers):
        super().__init__({f"denselayer{i}": DenseLayer(inputs + i * growth, growth) for i in range(layers)})

    def forward(self, x):
        features = [x]
        for layer in self.values():
            features.append(layer(*features))
        return torch.cat(features, 1)


class DenseNet(nn.Module):
    def __init__(self):
        super().__init__()
        self.features = nn.Sequential(nn.Conv2d(3, 4, 3, 1, 1), DenseBlock(4, 3, 3), nn.BatchNorm2d(13), nn.AvgPool2d(2),
                                      DenseBlock(13, 3, 2))
        self.classifier = nn.Linear(19, 4)

    def forward(self, x):
        return self.classifier(F.adaptive_avg_pool2d(F.relu(self.features(x)), 1).flatten(1))


class UNet(nn.Module):
    def __init__(self):
        super().__init__()
        self.down1 = nn.Sequential(nn.Conv2d(1, 4, 3, padding=1), nn.ReLU())
        self.down2 = nn.Sequential(nn.Conv2d(4, 8, 3, padding=1), nn.ReLU(), nn.Dropout2d(0.3))
        self.up = nn.ConvTranspose2d(8, 4, 2, 2)
        self.out = nn.Sequential(nn.Conv2d(8, 4, 3, padding=1), nn.ReLU(), nn.Conv2d(4, 2, 1))

    def forward(self, x):
        one = self.down1(x)
        two = self.down2(F.max_pool2d(one, 2))
        return self.out(torch.cat((one, self.up(two)), 1))


class ConvWithFunctionalDropout(nn.Module):
    """Batch norm, and dropout written into the forward at two places."""

    def __init__(self):
        super().__init__()
        self.conv, self.bn, self.fc = nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Linear(4 * 36, 3)

    def forward(self, x):
        x = F.dropout2d(F.relu(self.bn(self.conv(x))), 0.2, self.training)
        return self.fc(F.dropout(x.flatten(1), 0.5, self.training))


class ViTBlock(nn.Module):
    """A pre-norm block with a layer scale written as a parameter, in timm's names."""

    def __init__(self, width, heads):
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.attn = nn.MultiheadAttention(width, heads, dropout=0.1, batch_first=True)
        self.mlp = nn.Sequential(nn.Linear(width, 2 * width), nn.GELU(), nn.Dropout(0.1), nn.Linear(2 * width, width))
        self.gamma1, self.gamma2 = nn.Parameter(torch.ones(width)), nn.Parameter(torch.ones(width))
        self.drop_path = nn.Identity()

    def forward(self, x):
        normed = self.norm1(x)
        x = x + self.drop_path(self.gamma1 * self.attn(normed, normed, normed, need_weights=False)[0])
        return x + self.drop_path(self.gamma2 * self.mlp(self.norm2(x)))


class ViT(nn.Module):
    def __init__(self, width=8, depth=2):
        super().__init__()
        self.patch = nn.Conv2d(3, width, 4, 4)
        self.cls, self.position = nn.Parameter(torch.zeros(1, 1, width)), nn.Parameter(torch.randn(1, 5, width) / 9)
        self.pos_drop = nn.Dropout(0.1)
        self.blocks = nn.ModuleList(ViTBlock(width, 2) for _ in range(depth))
        self.norm, self.head = nn.LayerNorm(width), nn.Linear(width, 3)

    def forward(self, x):
        x = self.patch(x).flatten(2).transpose(1, 2)
        x = self.pos_drop(torch.cat((self.cls.expand(len(x), -1, -1), x), 1) + self.position)
        for block in self.blocks:
            x = block(x)
        return self.head(self.norm(x)[:, 0])


class MixerBlock(nn.Module):
    def __init__(self, tokens, width):
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.tokens = nn.Sequential(nn.Linear(tokens, 8), nn.GELU(), nn.Linear(8, tokens))
        self.channels = nn.Sequential(nn.Linear(width, 8), nn.GELU(), nn.Linear(8, width))

    def forward(self, x):
        x = x + self.tokens(self.norm1(x).transpose(1, 2)).transpose(1, 2)
        return x + self.channels(self.norm2(x))


class Mixer(nn.Module):
    def __init__(self):
        super().__init__()
        self.patch = nn.Conv2d(3, 6, 4, 4)
        self.blocks = nn.Sequential(MixerBlock(4, 6), MixerBlock(4, 6), nn.Dropout(0.1))
        self.head = nn.Linear(6, 3)

    def forward(self, x):
        return self.head(self.blocks(self.patch(x).flatten(2).transpose(1, 2)).mean(1))


class ConvNeXtBlock(nn.Module):
    """Channels last inside, a layer scale, and the residual added after a permutation, as in the authors' code."""

    def __init__(self, width):
        super().__init__()
        self.dwconv, self.norm = nn.Conv2d(width, width, 3, 1, 1, groups=width), nn.LayerNorm(width)
        self.pwconv1, self.act, self.pwconv2 = nn.Linear(width, 2 * width), nn.GELU(), nn.Linear(2 * width, width)
        self.gamma = nn.Parameter(torch.ones(width))

    def forward(self, x):
        y = self.norm(self.dwconv(x).permute(0, 2, 3, 1))
        y = self.gamma * self.pwconv2(self.act(self.pwconv1(y)))
        return x + y.permute(0, 3, 1, 2)


class ConvNeXt(nn.Module):
    def __init__(self):
        super().__init__()
        self.downsample_layers = nn.ModuleList([nn.Conv2d(3, 4, 2, 2), nn.Conv2d(4, 6, 2, 2)])
        self.stages = nn.ModuleList([nn.Sequential(ConvNeXtBlock(4)), nn.Sequential(ConvNeXtBlock(6), ConvNeXtBlock(6))])
        self.norm, self.head = nn.LayerNorm(6), nn.Linear(6, 3)

    def forward(self, x):
        for shrink, stage in zip(self.downsample_layers, self.stages, strict=True):
            x = stage(shrink(x))
        return self.head(self.norm(x.mean((2, 3))))


# ------------------------------------------------------------------------------------------------------ generative


class VAE(nn.Module):
    """Random in training already; a mean and a deviation come from one hidden layer."""

    def __init__(self):
        super().__init__()
        self.encoder = nn.Sequential(nn.Linear(12, 8), nn.ReLU())
        self.mean, self.log_variance = nn.Linear(8, 3), nn.Linear(8, 3)
        self.decoder = nn.Sequential(nn.Dropout(0.2), nn.Linear(3, 8), nn.ReLU(), nn.Linear(8, 12), nn.Sigmoid())

    def forward(self, x):
        hidden = self.encoder(x)
        mean, deviation = self.mean(hidden), torch.exp(0.5 * self.log_variance(hidden))
        z = mean + deviation * torch.randn_like(deviation) if self.training else mean
        return self.decoder(z), mean, deviation


class GAN(nn.Module):
    """A generator and a discriminator, whose dropout is what keeps it from winning."""

    def __init__(self):
        super().__init__()
        self.generator = nn.Sequential(nn.Linear(4, 16), nn.BatchNorm1d(16), nn.ReLU(True), nn.Linear(16, 10), nn.Tanh())
        self.discriminator = nn.Sequential(nn.Linear(10, 16), nn.LeakyReLU(0.2), nn.Dropout(0.3), nn.Linear(16, 1))

    def forward(self, noise):
        fake = self.generator(noise)
        return {"fake": fake, "score": self.discriminator(fake)}


class TimeBlock(nn.Module):
    def __init__(self, inputs, outputs, time):
        super().__init__()
        self.norm1, self.conv1 = nn.GroupNorm(2, inputs), nn.Conv2d(inputs, outputs, 3, padding=1)
        self.time = nn.Linear(time, outputs)
        self.norm2, self.dropout = nn.GroupNorm(2, outputs), nn.Dropout(0.1)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, padding=1)
        self.shortcut = nn.Conv2d(inputs, outputs, 1) if inputs != outputs else nn.Identity()

    def forward(self, x, t):
        h = self.conv1(F.silu(self.norm1(x))) + self.time(t)[:, :, None, None]
        return self.shortcut(x) + self.conv2(self.dropout(F.silu(self.norm2(h))))


class DiffusionUNet(nn.Module):
    """Conditioned on a time step."""

    def __init__(self):
        super().__init__()
        self.time = nn.Sequential(nn.Linear(4, 8), nn.SiLU())
        self.stem, self.down, self.middle = nn.Conv2d(1, 4, 3, padding=1), TimeBlock(4, 8, 8), TimeBlock(8, 8, 8)
        self.up, self.out = TimeBlock(12, 4, 8), nn.Conv2d(4, 1, 3, padding=1)

    def forward(self, x, t):
        angles = t[:, None] * torch.tensor([1.0, 0.1], device=t.device)
        time = self.time(torch.cat((angles.sin(), angles.cos()), -1))
        first = self.stem(x)
        low = self.middle(self.down(F.avg_pool2d(first, 2), time), time)
        return self.out(self.up(torch.cat((first, F.interpolate(low, scale_factor=2)), 1), time))


# ------------------------------------------------------------------------------------------------------- sequences


class GPTBlock(nn.Module):
    """Causal attention written out, with its dropout passed to torch's function."""

    def __init__(self, width, heads, p=0.1):
        super().__init__()
        self.ln_1, self.ln_2, self.heads, self.p = nn.LayerNorm(width), nn.LayerNorm(width), heads, p
        self.qkv, self.proj, self.resid_dropout = nn.Linear(width, 3 * width), nn.Linear(width, width), nn.Dropout(p)
        self.mlp = nn.Sequential(nn.Linear(width, 2 * width), nn.GELU(), nn.Linear(2 * width, width), nn.Dropout(p))

    def attend(self, x):
        q, k, v = (part.unflatten(-1, (self.heads, -1)).transpose(1, 2) for part in self.qkv(x).chunk(3, -1))
        y = F.scaled_dot_product_attention(q, k, v, dropout_p=self.p if self.training else 0.0, is_causal=True)
        return self.resid_dropout(self.proj(y.transpose(1, 2).flatten(2)))

    def forward(self, x):
        x = x + self.attend(self.ln_1(x))
        return x + self.mlp(self.ln_2(x))


class GPT(nn.Module):
    """Its output layer shares the embedding's weight."""

    def __init__(self, words=13, width=8):
        super().__init__()
        self.wte, self.wpe, self.drop = nn.Embedding(words, width), nn.Embedding(16, width), nn.Dropout(0.1)
        self.h = nn.ModuleList(GPTBlock(width, 2) for _ in range(2))
        self.ln_f, self.lm_head = nn.LayerNorm(width), nn.Linear(width, words, bias=False)
        self.lm_head.weight = self.wte.weight

    def forward(self, tokens):
        x = self.drop(self.wte(tokens) + self.wpe(torch.arange(tokens.shape[1], device=tokens.device)))
        for block in self.h:
            x = block(x)
        return self.lm_head(self.ln_f(x))


class WaveNet(nn.Module):
    """Gates, residuals and skips, all in one forward."""

    def __init__(self, width=4, layers=3):
        super().__init__()
        self.start = nn.Conv1d(1, width, 1)
        self.filters = nn.ModuleList(nn.Conv1d(width, width, 2, dilation=2**i) for i in range(layers))
        self.gates = nn.ModuleList(nn.Conv1d(width, width, 2, dilation=2**i) for i in range(layers))
        self.residuals = nn.ModuleList(nn.Conv1d(width, width, 1) for _ in range(layers))
        self.skips = nn.ModuleList(nn.Conv1d(width, width, 1) for _ in range(layers))
        self.end = nn.Sequential(nn.ReLU(), nn.Conv1d(width, 2, 1))

    def forward(self, x):
        x, total = self.start(x), 0
        for i in range(len(self.filters)):
            padded = F.dropout(F.pad(x, (2**i, 0)), 0.1, self.training)
            gated = torch.tanh(self.filters[i](padded)) * torch.sigmoid(self.gates[i](padded))
            total = total + self.skips[i](gated)
            x = x + self.residuals[i](gated)
        return self.end(total)


class LSTMTagger(nn.Module):
    def __init__(self):
        super().__init__()
        self.embedding = nn.Embedding(11, 6, padding_idx=0)
        self.lstm = nn.LSTM(6, 5, 2, batch_first=True, bidirectional=True, dropout=0.2)
        self.dropout, self.out = nn.Dropout(0.5), nn.Linear(10, 4)

    def forward(self, tokens):
        return self.out(self.dropout(self.lstm(self.embedding(tokens))[0]))


class PackedTagger(nn.Module):
    def __init__(self):
        super().__init__()
        self.embedding, self.gru, self.out = nn.Embedding(11, 6), nn.GRU(6, 5, batch_first=True), nn.Linear(5, 4)

    def forward(self, tokens):
        lengths = torch.tensor([tokens.shape[1] - i % 3 for i in range(len(tokens))])
        packed = nn.utils.rnn.pack_padded_sequence(self.embedding(tokens), lengths, batch_first=True, enforce_sorted=False)
        return self.out(nn.utils.rnn.pad_packed_sequence(self.gru(packed)[0], batch_first=True)[0])


class LanguageModel(nn.Module):
    """Layers of one LSTM each, as in Merity et al.'s; time first."""

    def __init__(self, words=11):
        super().__init__()
        self.encoder = nn.Embedding(words, 6)
        self.rnns = nn.ModuleList([nn.LSTM(6, 8), nn.LSTM(8, 8), nn.LSTM(8, 6)])
        self.decoder = nn.Linear(6, words)

    def forward(self, tokens):
        x = self.encoder(tokens)
        for rnn in self.rnns:
            x, _ = rnn(x)
        return self.decoder(x)


class Seq2Seq(nn.Module):
    """A GRU encoder, and a decoder that attends at each step."""

    def __init__(self, words=11, width=6):
        super().__init__()
        self.embedding, self.encoder = nn.Embedding(words, width), nn.GRU(width, width, batch_first=True)
        self.cell, self.query, self.key, self.score = (nn.GRUCell(2 * width, width), nn.Linear(width, width),
                                                       nn.Linear(width, width), nn.Linear(width, 1))
        self.drop, self.out = nn.Dropout(0.3), nn.Linear(width, words)

    def forward(self, source, target):
        memory, state = self.encoder(self.drop(self.embedding(source)))
        state, outputs = state[0], []
        for step in self.embedding(target).unbind(1):
            weights = self.score(torch.tanh(self.query(state)[:, None] + self.key(memory))).softmax(1)
            state = self.cell(torch.cat((self.drop(step), (weights * memory).sum(1)), -1), state)
            outputs.append(self.out(state))
        return torch.stack(outputs, 1)


# ----------------------------------------------------------------------------------------------------------- other


class Siamese(nn.Module):
    """One tower under two names, used for both inputs."""

    def __init__(self):
        super().__init__()
        self.left = nn.Sequential(nn.Linear(8, 6), nn.ReLU(), nn.Dropout(0.2), nn.Linear(6, 4))
        self.right = self.left
        self.out = nn.Linear(4, 1)

    def forward(self, one, other):
        return self.out((self.left(one) - self.right(other)).abs())


class Recommender(nn.Module):
    def __init__(self):
        super().__init__()
        self.user, self.item = nn.Embedding(7, 4), nn.Embedding(9, 4)
        self.tower = nn.ModuleDict({"hidden": nn.Linear(8, 8), "act": nn.ReLU(), "drop": nn.Dropout(0.4),
                                    "out": nn.Linear(8, 1)})

    def forward(self, users, items):
        x = torch.cat((self.user(users), self.item(items)), -1)
        for layer in self.tower.values():
            x = layer(x)
        return x


class GraphConv(nn.Module):
    def __init__(self, inputs, outputs):
        super().__init__()
        self.own, self.neighbours = nn.Linear(inputs, outputs), nn.Linear(inputs, outputs, bias=False)

    def forward(self, x, adjacency):
        return self.own(x) + self.neighbours(adjacency @ x)


class GraphNet(nn.Module):
    def __init__(self):
        super().__init__()
        self.convs = nn.ModuleList([GraphConv(5, 6), GraphConv(6, 6), GraphConv(6, 3)])

    def forward(self, x, adjacency):
        for conv in self.convs[:-1]:
            x = F.dropout(F.relu(conv(x, adjacency)), 0.5, training=self.training)
        return self.convs[-1](x, adjacency)


class MLP(nn.Module):
    def __init__(self):
        super().__init__()
        self.net = nn.Sequential(nn.Linear(8, 12), nn.ReLU(), nn.Linear(12, 12), nn.ReLU(), nn.Linear(12, 3), nn.Softmax(-1))

    def forward(self, x):
        return self.net(x)


class Residuals(nn.Module):
    """An MLP with plain residuals, one of which ends in a function."""

    def __init__(self):
        super().__init__()
        self.one, self.two, self.three = nn.Linear(6, 6), nn.Linear(6, 6), nn.Linear(6, 6)

    def forward(self, x):
        x = x + torch.relu(self.one(x))
        x = x + self.three(torch.tanh(self.two(x)))
        return x


class Wrapped(nn.Module):
    """A stack whose outputs are tuples, as those of transformers' blocks are."""

    def __init__(self):
        super().__init__()
        self.rnn, self.attention = nn.GRU(6, 6, batch_first=True), nn.MultiheadAttention(6, 2, batch_first=True)

    def forward(self, x):
        x, _ = self.rnn(x)
        return self.attention(x, x, x)


# ----------------------------------------------------------------------------------------------------------- cases


def floats(*shape: int) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(sum(shape)))


def words(*shape: int, of: int = 11) -> torch.Tensor:
    return torch.randint(1, of, shape, generator=torch.Generator().manual_seed(1))


@dataclass(frozen=True)
class Case:
    """A model, inputs for it (a tuple of arguments, or a dict of named ones), and where to insert what."""

    build: Callable[[], nn.Module]
    inputs: Any
    after: dict[str, Callable[[], nn.Module]]
    before: dict[str, Callable[[], nn.Module]]


DROP, PATH = functools.partial(dk.nn.Dropout, 0.5), functools.partial(dk.nn.DropPath, 0.5)
CHANNELS, LOCKED = functools.partial(dk.nn.Dropout2d, 0.5), functools.partial(dk.nn.LockedDropout, 0.5, batch_first=True)
WORDS, BLOCKS = functools.partial(dk.nn.WordDropout, 0.4), functools.partial(dk.nn.DropBlock2d, 0.3, 3)

CASES = {
    "resnet": Case(ResNet, (floats(4, 3, 8, 8),), {"layer4": BLOCKS, "layer*.*.bn2": PATH}, {"fc": DROP, "": DROP}),
    "resnet_bottleneck": Case(functools.partial(ResNet, Bottleneck, 2, 4), (floats(4, 3, 8, 8),),
                              {"layer[34]": CHANNELS, "**.bn3": PATH}, {"fc": DROP, "layer1": CHANNELS}),
    "densenet": Case(DenseNet, (floats(4, 3, 8, 8),), {"features": CHANNELS, "features.1": DROP, "**.conv": DROP},
                     {"features.4": DROP, "classifier": DROP}),
    "unet": Case(UNet, (floats(3, 1, 8, 8),), {"down1": CHANNELS, "down2": CHANNELS, "out.1": DROP}, {"up": CHANNELS}),
    "functional": Case(ConvWithFunctionalDropout, (floats(4, 3, 8, 8),), {"conv": CHANNELS}, {"fc": DROP, "bn": DROP}),
    "vit": Case(ViT, (floats(4, 3, 8, 8),), {"blocks.*.attn": PATH, "blocks.*.mlp": PATH, "patch": DROP}, {"head": DROP}),
    "mixer": Case(Mixer, (floats(4, 3, 8, 8),), {"blocks": DROP, "blocks.*.tokens": PATH}, {"blocks": DROP, "head": DROP}),
    "convnext": Case(ConvNeXt, (floats(4, 3, 8, 8),), {"stages.*.*.pwconv2": PATH, "stages.1": DROP}, {"head": DROP}),
    "vae": Case(VAE, (floats(4, 12),), {"encoder": DROP, "mean": DROP}, {"": DROP, "decoder": DROP}),
    "gan": Case(GAN, (floats(5, 4),), {"discriminator.1": DROP, "generator": DROP}, {"discriminator": DROP}),
    "diffusion": Case(DiffusionUNet, (floats(3, 1, 8, 8), torch.tensor([1.0, 2.0, 3.0])), {"down": CHANNELS, "time": DROP},
                      {"*.conv2": CHANNELS, "middle": DROP}),
    "gpt": Case(GPT, (words(4, 7),), {"h.*.proj": PATH, "h.0": DROP, "wte": DROP}, {"lm_head": DROP, "h.*.mlp": DROP}),
    "wavenet": Case(WaveNet, (floats(3, 1, 12),), {"residuals.*": PATH, "filters.*": DROP}, {"end": DROP}),
    "tagger": Case(LSTMTagger, (words(4, 6),), {"lstm": LOCKED, "embedding": LOCKED}, {"lstm": LOCKED, "embedding": WORDS}),
    "packed": Case(PackedTagger, (words(4, 6),), {"gru": DROP, "embedding": LOCKED}, {"gru": DROP, "out": DROP}),
    "language_model": Case(LanguageModel, (words(6, 3),), {"rnns.*": functools.partial(dk.nn.LockedDropout, 0.4)},
                           {"rnns.0": DROP}),
    "seq2seq": Case(Seq2Seq, (words(3, 5), words(3, 4)), {"encoder": LOCKED, "cell": DROP}, {"out": DROP, "cell": DROP}),
    "siamese": Case(Siamese, (floats(4, 8), floats(4, 8) + 1), {"left": DROP, "right.1": DROP}, {"out": DROP, "left": DROP}),
    "recommender": Case(Recommender, (words(5, of=7), words(5, of=9)), {"user": DROP, "tower.act": DROP},
                        {"tower.hidden": DROP}),
    "graph": Case(GraphNet, (floats(6, 5), torch.eye(6) + torch.ones(6, 6).tril(-4)),
                  {"convs.0": dk.nn.DropNode, "**.own": DROP}, {"convs.*": DROP}),
    "mlp": Case(MLP, (floats(4, 8),), {"net.1": DROP, "net": DROP}, {"net": DROP, "net.4": DROP}),
    "residuals": Case(Residuals, (floats(4, 6),), {"one": PATH, "three": PATH}, {"": DROP}),
    "tuples": Case(Wrapped, (floats(3, 5, 6),), {"rnn": LOCKED, "attention": DROP}, {"attention": DROP}),
}


# --------------------------------------------------------------------------------------------- torch's own modules


def encoder_layer(**options):
    return nn.TransformerEncoderLayer(8, 2, 16, dropout=0.1, **options)


def encoder(**options):
    return nn.TransformerEncoder(encoder_layer(**options), 2, enable_nested_tensor=False)


class SelfAttention(nn.MultiheadAttention):
    """Torch's attention, called with one argument."""

    def forward(self, x):
        return super().forward(x, x, x)


TORCH = {
    "transformer": Case(functools.partial(nn.Transformer, 8, 2, 1, 2, 16, batch_first=True), (floats(3, 5, 8), floats(3, 4, 8)),
                        {"encoder": DROP, "decoder.layers.*.dropout3": PATH}, {"decoder": DROP, "encoder.layers.0": DROP}),
    "encoder": Case(functools.partial(encoder, batch_first=True), (floats(3, 5, 8),),
                    {"layers.*.dropout[12]": PATH, "layers.0": LOCKED}, {"layers.*.linear2": DROP}),
    "encoder_time_first": Case(encoder, (floats(5, 3, 8),), {"layers.*.self_attn": DROP, "": DROP}, {"": DROP}),
    "lstm": Case(functools.partial(nn.LSTM, 4, 5, 2, dropout=0.3, batch_first=True), (floats(3, 6, 4),), {"": LOCKED},
                 {"": DROP}),
    "gru": Case(functools.partial(nn.GRU, 4, 5, 2, dropout=0.3, batch_first=True), (floats(3, 6, 4),), {"": LOCKED},
                {"": DROP}),
    "attention": Case(functools.partial(SelfAttention, 8, 2, 0.1, batch_first=True), (floats(3, 5, 8),), {"": LOCKED},
                      {"": DROP}),
}


# -------------------------------------------------------------------------------------- transformers, random weights


def bert():
    from transformers import BertConfig, BertModel

    return BertModel(BertConfig(vocab_size=20, hidden_size=8, num_hidden_layers=2, num_attention_heads=2, intermediate_size=12,
                                max_position_embeddings=16))


def gpt2():
    from transformers import GPT2Config, GPT2LMHeadModel

    return GPT2LMHeadModel(GPT2Config(vocab_size=20, n_positions=16, n_embd=8, n_layer=2, n_head=2, bos_token_id=1,
                                      eos_token_id=2))


def vit():
    from transformers import ViTConfig, ViTForImageClassification

    return ViTForImageClassification(ViTConfig(hidden_size=8, num_hidden_layers=2, num_attention_heads=2, intermediate_size=12,
                                               image_size=8, patch_size=4, num_labels=3, hidden_dropout_prob=0.1))


def t5():
    from transformers import T5Config, T5ForConditionalGeneration

    return T5ForConditionalGeneration(T5Config(vocab_size=20, d_model=8, d_kv=4, d_ff=12, num_layers=2, num_heads=2,
                                               decoder_start_token_id=0))


TRANSFORMERS = {
    "bert": Case(bert, {"input_ids": words(3, 6), "attention_mask": torch.ones(3, 6, dtype=torch.long)},
                 {"encoder.layer.*": DROP, "encoder.layer.*.output.dropout": PATH, "encoder": DROP}, {"encoder.layer.1": DROP}),
    "gpt2": Case(gpt2, {"input_ids": words(3, 6), "use_cache": False}, {"transformer.h.*": PATH, "transformer": DROP},
                 {"lm_head": DROP, "transformer.h.0.mlp": DROP}),
    "vit": Case(vit, {"pixel_values": floats(3, 3, 8, 8)}, {"vit.embeddings": DROP}, {"": CHANNELS, "classifier": DROP}),
    "t5": Case(t5, {"input_ids": words(3, 6), "decoder_input_ids": words(3, 4), "use_cache": False},
               {"encoder.block.*": DROP, "decoder": DROP}, {"lm_head": DROP}),
}


def call(model: nn.Module, inputs: Any) -> Any:
    return model(**inputs) if isinstance(inputs, dict) else model(*inputs)


def tensors(value: Any) -> list[torch.Tensor]:
    """Every tensor of an output, however it is nested."""
    if isinstance(value, torch.Tensor):
        return [value]
    if isinstance(value, dict):
        return [tensor for item in value.values() for tensor in tensors(item)]
    return [tensor for item in value for tensor in tensors(item)] if isinstance(value, tuple | list) else []
