"""Embedding dropout: whole words are forgotten."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from dropkit.core.errors import InputError, phrase
from dropkit.core.streams import SAME
from dropkit.kernels.dispatch import is_eager
from dropkit.variants.draw import acting_rate, draw_masked
from dropkit.variants.site import RateSite


def embedding_dropout(tokens: Tensor, weight: Tensor, p: float | Tensor = 0.1, training: bool = True, *,
                      padding_idx: int | None = None, max_norm: float | None = None, norm_type: float = 2.0,
                      scale_grad_by_freq: bool = False, sparse: bool = False, generator: torch.Generator | None = None,
                      stream: str | None = None) -> Tensor:
    """Look up vectors in a table whose rows are dropped at random in training.

    ``y_i = E[t_i] m[t_i] / (1 - p)`` in training and ``y_i = E[t_i]`` in evaluation: t holds numbers of words, E is the table,
    p the rate, and m has one entry for each word of the vocabulary, 0 with probability p and otherwise 1, shared over the
    batch: a dropped word is gone wherever it stands.

    Args:
        tokens: integer numbers of words.
        weight: the table.
        p: probability of dropping a word, in [0, 1]. Default: 0.1.
        training: whether to drop. Default: True.
        padding_idx: a word whose vector gets no gradient.
        max_norm: rows that are looked up and longer than this are shortened, in the table itself.
        norm_type: the p of the norm that ``max_norm`` speaks of. Default: 2.
        scale_grad_by_freq: whether a word's gradient is divided by how often it occurs. Default: False.
        sparse: whether the table gets a sparse gradient. Default: False.
        generator: draw the seed from here.
        stream: the site's name under ``dk.keyed``.

    Returns:
        The vectors, those of dropped words zero.

    Raises:
        InputError: for a rate outside [0, 1].

    Shape:
        tokens: any. weight: (words, features). Output: (..., features).

    Use:
        In language models and text classifiers, so that no prediction hangs on a single word. Not where tokens are few and
        each carries much, such as bytes or actions: one dropped row takes a large share of the input away.

    Rates:
        0.1 in language models.

    Evidence:
        The first paper derives it; the second's ablation loses perplexity on Penn Treebank and WikiText-2 without it.

    Example:
        >>> y = embedding_dropout(torch.tensor([2, 0, 2]), torch.ones(3, 4), p=0.5)
        >>> torch.equal(y[0], y[2])
        True

    References:
        Gal, Ghahramani: "A theoretically grounded application of dropout in recurrent neural networks", NeurIPS 2016.
        Merity, Keskar, Socher: "Regularizing and optimizing LSTM language models", ICLR 2018.
    """
    rate = acting_rate(p, training, generator, stream)
    words = tokens if rate is None else tokens.flatten()
    vectors = F.embedding(words, weight, padding_idx, max_norm, norm_type, scale_grad_by_freq, sparse)
    if rate is None:
        return vectors
    # A factor for each word, looked up as the vectors are: the table itself is never copied, however large it is.
    ones = torch.ones(weight.shape[0], 1, dtype=torch.promote_types(weight.dtype, torch.float32), device=weight.device)
    factor = draw_masked(ones, rate, ones.shape, generator, stream, rows=SAME)[words]
    scale = _scale_in_place if weight.is_cpu and is_eager(tokens) and is_eager(weight) else _scale
    return scale(vectors.to(factor.dtype), factor).to(vectors.dtype).view(*tokens.shape, weight.shape[1])


class EmbeddingDropout(RateSite):
    """An embedding whose words are dropped at random in training; `embedding_dropout` as a module.

    Args:
        embedding: an ``nn.Embedding``, whose table and settings become this module's.
        p: probability of dropping a word, in [0, 1]. Default: 0.1.

    Raises:
        InputError: for a rate outside [0, 1], or a module that is no embedding.

    Shape:
        Input: any. Output: (..., features).

    Example:
        >>> layer = EmbeddingDropout(nn.Embedding(10, 3), 0.1)
        >>> layer, list(layer.state_dict())
        (EmbeddingDropout(10, 3, p=0.1), ['weight'])
    """

    extras: ClassVar[Mapping[str, Any]] = {"padding_idx": None, "max_norm": None, "norm_type": 2.0, "scale_grad_by_freq": False,
                                           "sparse": False}

    def __init__(self, embedding: nn.Module, p: float = 0.1) -> None:
        super().__init__()
        if not isinstance(embedding, nn.Embedding):
            raise InputError("words are dropped of an nn.Embedding", got=phrase(str(embedding)),
                             fix="Pass the embedding, as in EmbeddingDropout(nn.Embedding(10000, 400))")
        self.weight, self.p = embedding.weight, p
        self.num_embeddings, self.embedding_dim = embedding.num_embeddings, embedding.embedding_dim
        self.padding_idx, self.sparse = embedding.padding_idx, embedding.sparse
        self.max_norm, self.norm_type = embedding.max_norm, embedding.norm_type
        self.scale_grad_by_freq = embedding.scale_grad_by_freq
        self.train(embedding.training)

    def extra_repr(self) -> str:
        """The table's size and the rate."""
        return ", ".join([f"{self.num_embeddings}, {self.embedding_dim}, p={self.p}", *self._changed_extras()])

    def forward(self, input: Tensor) -> Tensor:
        """Look up, with dropped words in training mode; see `embedding_dropout`.

        Args:
            input: integer numbers of words.
        """
        return embedding_dropout(input, self.weight, self.current_rate(), self.training, padding_idx=self.padding_idx,
                                 max_norm=self.max_norm, norm_type=self.norm_type,
                                 scale_grad_by_freq=self.scale_grad_by_freq, sparse=self.sparse, stream=self.stream)


def _scale(vectors: Tensor, factor: Tensor) -> Tensor:
    return torch.where(factor != 0, vectors * factor, 0.0)


def _scale_in_place(vectors: Tensor, factor: Tensor) -> Tensor:
    """`_scale` by writing whole rows, in a third of the time; how many are dropped is a size that compilers do not know."""
    dropped = (factor.view(-1) == 0).nonzero().view(-1)
    return vectors.index_fill_(0, dropped, 0.0).mul_(factor)
