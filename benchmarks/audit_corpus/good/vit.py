"""A vision transformer: dropout after the embedding, in the attention and in the branches."""

import torch
import torch.nn.functional as F
from torch import nn

REPORT = "Dosovitskiy et al., An Image is Worth 16x16 Words, 2021"
RULES = ()


class Block(nn.Module):
    def __init__(self, dim, heads=4, rate=0.1):
        super().__init__()
        self.norm1, self.norm2, self.heads, self.rate = nn.LayerNorm(dim), nn.LayerNorm(dim), heads, rate
        self.qkv, self.proj, self.inner, self.outer = (
            nn.Linear(dim, 3 * dim), nn.Linear(dim, dim), nn.Linear(dim, 4 * dim), nn.Linear(4 * dim, dim))
        self.drop1, self.drop2, self.drop3 = nn.Dropout(rate), nn.Dropout(rate), nn.Dropout(rate)

    def attend(self, x):
        q, k, v = self.qkv(x).unflatten(-1, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)
        x = F.scaled_dot_product_attention(q, k, v, dropout_p=self.rate if self.training else 0.0)
        return self.drop1(self.proj(x.transpose(1, 2).flatten(2)))

    def forward(self, x):
        x = x + self.attend(self.norm1(x))
        return x + self.drop3(self.outer(self.drop2(F.gelu(self.inner(self.norm2(x))))))


class ViT(nn.Module):
    def __init__(self, dim=64):
        super().__init__()
        self.patch, self.position = nn.Conv2d(3, dim, 4, 4), nn.Parameter(torch.randn(1, 17, dim) * 0.02)
        self.token, self.drop = nn.Parameter(torch.zeros(1, 1, dim)), nn.Dropout(0.1)
        self.blocks, self.norm, self.head = nn.ModuleList(Block(dim) for _ in range(2)), nn.LayerNorm(dim), nn.Linear(dim, 10)

    def forward(self, images):
        x = self.patch(images).flatten(2).transpose(1, 2)
        x = self.drop(torch.cat((self.token.expand(x.shape[0], -1, -1), x), 1) + self.position)
        for block in self.blocks:
            x = block(x)
        return self.head(self.norm(x)[:, 0])


def build():
    return ViT()


def inputs():
    return torch.randn(2, 3, 16, 16)
