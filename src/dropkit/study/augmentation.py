"""Inputs changed at random in training: noise, moved and mirrored images, and what a user brings.

Each change depends on the run and the step alone, so that it shifts no other random draw: an arm with it has the split, order,
initial weights and masks of the others.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from dropkit.core.errors import FAILURES, InputError, phrase
from dropkit.core.streams import stream_number
from dropkit.study.recipe import Recipe

Augment = Callable[[Tensor, torch.Generator], Tensor]
_CHANNELS = 4  # images with this many or fewer along the last dimension alone are taken to have their channels there


def augmented(x: Tensor, recipe: Recipe, own: Augment | None, tag: str, step: int) -> Tensor:
    """Return a batch of inputs as an arm trains on it; the batch itself where the recipe changes none.

    Args:
        x: standardised inputs, (N, ...).
        recipe: the arm's.
        own: the experiment's, for recipes with ``augment``.
        tag: the run's.
        step: the optimiser's.

    Example:
        >>> x = torch.zeros(2, 3)
        >>> torch.equal(augmented(x, Recipe(noise=0.1), None, "0", 5), augmented(x, Recipe(noise=0.1), None, "0", 5))
        True
        >>> augmented(x, Recipe(), None, "0", 5) is x
        True
    """
    if recipe.augment and own is not None:
        x = own(x, _generator("augment", tag, step))
    if recipe.flip:
        x = flipped(x, _generator("flip", tag, step))
    if recipe.shift:
        x = shifted(x, recipe.shift, _generator("shift", tag, step))
    if recipe.noise:
        noise = torch.randn(x.shape, generator=_generator("noise", tag, step), dtype=torch.float32)
        x = x + recipe.noise * noise.to(x)
    return x


def flipped(x: Tensor, generator: torch.Generator) -> Tensor:
    """Mirror each image left to right with probability 1/2.

    Args:
        x: (N, H, W) or (N, C, H, W).
        generator: decides which.

    Example:
        >>> flipped(torch.tensor([[[1, 2]], [[1, 2]]]), torch.Generator().manual_seed(1)).tolist()
        [[[1, 2]], [[2, 1]]]
    """
    chosen = torch.rand(len(x), generator=generator) < 0.5
    return torch.where(chosen.view(-1, *[1] * (x.dim() - 1)), x.flip(-1), x)


def shifted(x: Tensor, most: int, generator: torch.Generator) -> Tensor:
    """Move each image by a whole number of pixels, uniform in [-most, most] each way; what comes in repeats the edge.

    Args:
        x: (N, H, W) or (N, C, H, W).
        most: pixels.
        generator: decides how far.

    Example:
        >>> shifted(torch.tensor([[[1, 2], [3, 4]]]), 1, torch.Generator().manual_seed(3)).tolist()
        [[[1, 1], [3, 3]]]
    """
    images = x if x.dim() == 4 else x.unsqueeze(1)
    n, channels, height, width = images.shape
    down, right = torch.randint(-most, most + 1, (2, n, 1), generator=generator)
    rows = (torch.arange(height) - down).clamp(0, height - 1)
    columns = (torch.arange(width) - right).clamp(0, width - 1)
    moved = images[torch.arange(n).view(-1, 1, 1, 1), torch.arange(channels).view(-1, 1, 1), rows.view(n, 1, -1, 1),
                   columns.view(n, 1, 1, -1)]
    return moved.view_as(x)


def check_augmentation(recipe: Recipe, own: Augment | None, x: Tensor, arm: str) -> None:
    """Refuse changes that the inputs cannot take, and a function of the user's own that does something else.

    Args:
        recipe: the arm's.
        own: the experiment's.
        x: some standardised inputs, (N, ...).
        arm: its name.

    Raises:
        InputError: with what does not fit.
    """
    shape = phrase(f"inputs (N{''.join(f', {size}' for size in x.shape[1:])}) of {x.dtype}, in arm {arm!r}")
    if recipe.noise and not x.is_floating_point():
        raise InputError("noise is added to floating-point inputs", got=shape,
                         fix="Drop words or embeddings in the model instead")
    if recipe.shift or recipe.flip:
        _check_images(x, recipe.shift, shape)
    if recipe.augment:
        _check_own(own, x, arm)


def _check_images(x: Tensor, most: int, shape: object) -> None:
    if x.dim() not in (3, 4) or not x.is_floating_point():
        raise InputError("shift and flip change images, (N, H, W) or (N, C, H, W)", got=shape,
                         fix="Reshape the inputs, and flatten them in the model")
    if x.dim() == 4 and x.shape[3] <= _CHANNELS < x.shape[1]:
        raise InputError("images have their channels before height and width, (N, C, H, W)", got=shape,
                         fix="Move them by x.permute(0, 3, 1, 2)")
    if most >= min(x.shape[-2:]):
        raise InputError("a shift is smaller than the image", got=shape, fix=f"Lower it from {most}")


def _check_own(own: Augment | None, x: Tensor, arm: str) -> None:
    if own is None:
        raise InputError("an arm that augments has the experiment's function to do so", got=phrase(f"none, in arm {arm!r}"),
                         fix="Pass augment= to the Experiment, a function (x, generator) -> x")
    try:
        found = own(x.clone(), torch.Generator().manual_seed(0))
    except FAILURES as error:
        raise InputError("augment takes a batch of inputs and a torch.Generator",
                         got=phrase(f"{type(error).__name__}: {error}"), fix="Correct the function") from error
    fits = isinstance(found, Tensor) and found.shape == x.shape and found.dtype == x.dtype
    if not fits or (found.is_floating_point() and not bool(torch.isfinite(found).all())):
        said = f"{tuple(found.shape)} of {found.dtype}" if isinstance(found, Tensor) else type(found).__name__
        raise InputError(f"augment returns finite inputs like its own, {tuple(x.shape)} of {x.dtype}", got=phrase(said),
                         fix="Correct the function")


def _generator(what: str, tag: str, step: int) -> torch.Generator:
    return torch.Generator().manual_seed(stream_number(f"{what}:{tag}:{step}"))
