"""Word dropout: tokens become unknown."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor

from dropkit.core.errors import InputError
from dropkit.variants.draw import acting_rate, draw_keep
from dropkit.variants.site import RateSite


def word_dropout(tokens: Tensor, p: float | Tensor = 0.1, training: bool = True, *, unknown: int = 0,
                 protected: Iterable[int] = (), mask: Tensor | None = None, generator: torch.Generator | None = None,
                 stream: str | None = None) -> Tensor:
    """Replace tokens by the unknown one at random in training.

    ``y = t`` where the random mask m keeps or the token is protected, by its number or its place, and ``y = unknown``
    otherwise: t is a token's number, m drops it with probability p. Nothing is rescaled.

    Args:
        tokens: integer numbers of tokens.
        p: probability of replacing a token, in [0, 1]. Default: 0.1.
        training: whether to replace. Default: True.
        unknown: the number of the unknown token. Default: 0.
        protected: numbers that are never replaced, such as those of padding, beginning and end.
        mask: bool, true where a token may be replaced; everywhere when omitted.
        generator: draw the seed from here.
        stream: the site's name under ``dk.keyed``.

    Returns:
        A tensor like the tokens; the tokens themselves where nothing is to be done.

    Raises:
        InputError: for a rate outside [0, 1], tokens that are not integers, an unknown token that their type cannot hold, or a
            mask that is not bool or does not broadcast to the tokens.

    Shape:
        tokens: any. mask: broadcasts to the tokens. Output: as the tokens.

    Use:
        On the input of text classifiers and taggers, so that the unknown token is trained at all, and on the decoder of
        variational autoencoders, so that it uses the latent variable. Name every special token: by default none is protected.
        Not on targets.

    Rates:
        0.1 to 0.3 for classifiers; higher for decoders.

    Evidence:
        The first paper reports better sentiment classification by averaging word vectors with a rate of 0.3; the second
        finds it necessary for a text autoencoder to use its latent variable.

    Example:
        >>> word_dropout(torch.tensor([5, 6, 1]), p=1.0, unknown=0, protected=[1])
        tensor([0, 0, 1])

    References:
        Iyyer, Manjunatha, Boyd-Graber, Daumé: "Deep unordered composition rivals syntactic methods for text
        classification", ACL 2015. Bowman, Vilnis, Vinyals, Dai, Jozefowicz, Bengio: "Generating sentences from a continuous
        space", CoNLL 2016.
    """
    _check_tokens(tokens, unknown)
    _check_mask(mask, tokens)
    numbers = _check_numbers(protected)
    rate = acting_rate(p, training, generator, stream)
    if rate is None:
        return tokens
    keep = draw_keep(tokens.shape, rate, generator, stream, device=tokens.device)
    for number in numbers:
        keep = keep | (tokens == number)
    if mask is not None:
        keep = keep | ~mask
    return torch.where(keep, tokens, unknown)


class WordDropout(RateSite):
    """Replace tokens by the unknown one at random in training; `word_dropout` as a module.

    Args:
        p: probability of replacing a token, in [0, 1]. Default: 0.1.
        unknown: the number of the unknown token. Default: 0.
        protected: numbers that are never replaced.

    Raises:
        InputError: for a rate outside [0, 1], or numbers that are not integers.

    Shape:
        Input: any. mask: broadcasts to the input. Output: as the input.

    Example:
        >>> WordDropout(0.1, unknown=3, protected=(0, 1))
        WordDropout(p=0.1, unknown=3, protected=(0, 1))
    """

    def __init__(self, p: float = 0.1, *, unknown: int = 0, protected: Iterable[int] = ()) -> None:
        super().__init__()
        self.p, self.unknown, self.protected = p, _check_numbers((unknown,))[0], _check_numbers(protected)

    def extra_repr(self) -> str:
        """The rate, the unknown token and the protected ones."""
        return f"p={self.p}, unknown={self.unknown}, protected={self.protected}"

    def forward(self, input: Tensor, mask: Tensor | None = None) -> Tensor:
        """Replace in training mode; see `word_dropout`.

        Args:
            input: integer numbers of tokens.
            mask: true where a token may be replaced.
        """
        return word_dropout(input, self.current_rate(), self.training, unknown=self.unknown, protected=self.protected,
                            mask=mask, stream=self.stream)


def _check_tokens(tokens: Any, unknown: Any) -> None:
    if not isinstance(tokens, Tensor) or tokens.is_floating_point() or tokens.is_complex() or tokens.dtype is torch.bool:
        raise InputError("tokens are a tensor of integers", got=getattr(tokens, "dtype", tokens),
                         fix="Pass the numbers of tokens, before the embedding")
    number, = _check_numbers((unknown,))
    limits = torch.iinfo(tokens.dtype)
    if not limits.min <= number <= limits.max:  # it would wrap around to another token
        raise InputError(f"the unknown token is a number that {tokens.dtype} holds", got=number,
                         fix="Convert the tokens to int64")


def _check_mask(mask: Any, tokens: Tensor) -> None:
    if mask is None:
        return
    if not isinstance(mask, Tensor) or mask.dtype is not torch.bool:
        raise InputError("mask is a bool tensor, true where a token may be replaced", got=getattr(mask, "dtype", mask),
                         fix="Compare to get one, as in tokens != padding")
    sizes = zip(reversed(mask.shape), reversed(tokens.shape), strict=False)
    if mask.dim() > tokens.dim() or any(size not in (1, full) for size, full in sizes):
        raise InputError("mask broadcasts to the tokens", got=tuple(mask.shape),
                         fix=f"The tokens' shape is {tuple(tokens.shape)}")


def _check_numbers(numbers: Any) -> tuple[int, ...]:
    values = tuple(numbers) if isinstance(numbers, Iterable) else (None,)
    if any(isinstance(value, bool) or not isinstance(value, int) for value in values):
        raise InputError("tokens have integer numbers", got=numbers, fix="Pass ints, such as protected=(0, 1)")
    return values
