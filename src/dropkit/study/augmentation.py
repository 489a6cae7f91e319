"""Inputs changed at random in training: images mirrored and moved, a function of the user's own, and noise.

Every draw is a function of a run's tag and its step alone, so that it shifts no other random draw.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

import numpy as np
import torch
from torch import Tensor

from dropkit.core.errors import FAILURES, InputError, phrase
from dropkit.core.streams import stream_number
from dropkit.study.recipe import Recipe

Augment = Callable[[Tensor, torch.Generator], Tensor]
"""A function ``(x, generator) -> x`` of a batch of standardised inputs, of the same shape and type."""
_CHANNELS = 4  # most values that a last dimension has which is taken for colours


def augmented(x: Tensor, recipe: Recipe, own: Augment | None, tag: str, step: int) -> Tensor:
    """Return the batch as a training step sees it: mirrored, moved, through the user's function, and with noise, in this order.

    Args:
        x: a batch of standardised inputs; images (N, H, W) or (N, C, H, W) where the recipe mirrors or moves.
        recipe: the arm's.
        own: the experiment's function, which arms with ``augment`` use.
        tag: the run's.
        step: the optimiser's.

    Example:
        >>> x = torch.randn(2, 5, 5)
        >>> augmented(x, Recipe(), None, "0", 3) is x
        True
    """
    if recipe.flip:
        x = mirror(x, draw_flips(len(x), tag, step))
    if recipe.shift:
        x = translate(x, *draw_offsets(len(x), recipe.shift, tag, step))
    if recipe.augment and own is not None:
        x = apply_own(own, x, tag, step)
    if recipe.noise:
        noise = torch.randn(x.shape, generator=_generator("noise", tag, step), dtype=torch.float32)
        x = x + recipe.noise * noise.to(x)
    return x


def translate(x: Tensor, down: Tensor, right: Tensor) -> Tensor:
    """Move each image by whole pixels; what comes into view repeats the edge.

    Pixel (i, j) of the result is pixel (clamp(i - down), clamp(j - right)) of the image. Zeros would not do for a border:
    in standardised inputs 0 is the mean grey.

    Args:
        x: images.
        down: (N,) whole numbers, by how many rows; negative moves up.
        right: (N,) whole numbers, by how many columns; negative moves left.

    Shape:
        (N, H, W) or (N, C, H, W), the result alike.

    Example:
        >>> x = torch.tensor([[[1.0, 2.0, 3.0]]])
        >>> translate(x, torch.tensor([0]), torch.tensor([1])), translate(x, torch.tensor([0]), torch.tensor([-1]))
        (tensor([[[1., 1., 2.]]]), tensor([[[2., 3., 3.]]]))
    """
    n, (height, width) = len(x), x.shape[-2:]
    rows = (torch.arange(height) - down[:, None]).clamp(0, height - 1)
    columns = (torch.arange(width) - right[:, None]).clamp(0, width - 1)
    # One gather over flat images: a third of the time of indexing by rows and columns.
    index = (rows[:, :, None] * width + columns[:, None, :]).view(n, 1, height * width)
    flat = x.reshape(n, -1, height * width)
    return flat.gather(2, index.expand(flat.shape)).view(x.shape)


def mirror(x: Tensor, which: Tensor) -> Tensor:
    """Mirror images left to right.

    Args:
        x: images.
        which: (N,) booleans, the images to mirror.

    Shape:
        (N, H, W) or (N, C, H, W), the result alike.

    Example:
        >>> mirror(torch.tensor([[[1.0, 2.0]], [[3.0, 4.0]]]), torch.tensor([True, False])).flatten().tolist()
        [2.0, 1.0, 3.0, 4.0]
    """
    return torch.where(which.view(-1, *[1] * (x.dim() - 1)), x.flip(-1), x)


def draw_offsets(n: int, most: int, tag: str, step: int) -> Tensor:
    """Return (2, n) offsets, down and to the right, each uniform on the whole numbers from -``most`` to ``most``.

    Args:
        n: images.
        most: pixels, at least 1.
        tag: the run's.
        step: the optimiser's.

    Example:
        >>> torch.equal(draw_offsets(3, 2, "0", 5), draw_offsets(3, 2, "0", 5))
        True
    """
    return torch.randint(-most, most + 1, (2, n), generator=_generator("shift", tag, step))


def draw_flips(n: int, tag: str, step: int) -> Tensor:
    """Return (n,) booleans, each true with probability 1/2.

    Args:
        n: images.
        tag: the run's.
        step: the optimiser's.

    Example:
        >>> draw_flips(3, "0", 5).dtype
        torch.bool
    """
    return torch.randint(2, (n,), generator=_generator("flip", tag, step)).bool()


def apply_own(own: Augment, x: Tensor, tag: str, step: int) -> Tensor:
    """Return what the user's function makes of a batch.

    What it draws past its generator, from torch's, NumPy's or Python's own state, is a function of tag and step, too, and
    those states come back as they were.

    Args:
        own: the function.
        x: the batch.
        tag: the run's.
        step: the optimiser's.

    Raises:
        InputError: the result is no tensor of the batch's shape and type.
    """
    number = stream_number(f"augment:{tag}:{step}")
    with _apart(number), torch.no_grad():
        found = own(x, torch.Generator().manual_seed(number))
    if not isinstance(found, Tensor) or found.shape != x.shape or found.dtype != x.dtype:
        got = f"{found.dtype} of shape {tuple(found.shape)}" if isinstance(found, Tensor) else type(found).__name__
        raise InputError("augment(x, generator) returns a batch of the shape and type that it was given",
                         got=phrase(f"{got} for {x.dtype} of shape {tuple(x.shape)}"),
                         fix="Return a tensor like x; what the whole batch needs belongs into the model")
    return found


def check_augmentation(recipe: Recipe, own: Augment | None, x: Tensor, arm: str) -> None:
    """Refuse changes that the inputs cannot take, and a function that is none of its batch and its generator.

    Args:
        recipe: the arm's.
        own: the experiment's function.
        x: some standardised inputs, (N, ...).
        arm: the arm's name, which the errors give.

    Raises:
        InputError: with what does not fit.
    """
    if recipe.noise and not x.is_floating_point():
        raise InputError("noise is added to floating-point inputs", got=phrase(f"inputs of {x.dtype}, in arm {arm!r}"),
                         fix="Drop words or embeddings in the model instead")
    _check_images(x.shape, x.is_floating_point(), recipe, arm)
    if not recipe.augment:
        return
    if own is None:
        raise InputError("an arm that augments has the experiment's function to do so", got=phrase(f"none, in arm {arm!r}"),
                         fix="Pass augment= to the Experiment, a function (x, generator) -> x")
    _check_own(own, x, arm)


def _check_images(shape: Sequence[int], floating: bool, recipe: Recipe, arm: str) -> None:
    asked = [name for name in ("shift", "flip") if getattr(recipe, name)]
    if not asked:
        return
    what = " and ".join(asked)
    if len(shape) not in (3, 4) or not floating:
        sizes = ", ".join(map(str, ("N", *shape[1:])))
        kind = f"of shape ({sizes})" if floating else "of whole numbers, which are taken for token ids"
        raise InputError(f"{what} of images needs floating-point inputs of shape (N, H, W) or (N, C, H, W)",
                         got=phrase(f"inputs {kind}, in arm {arm!r}"),
                         fix="Give the images in that shape, and flatten them in the model (nn.Flatten)" if floating else
                             "Pass images as floats or bytes, or leave the change out")
    if len(shape) == 4 and shape[3] <= _CHANNELS < shape[1]:
        raise InputError("images have their channels before height and width, (N, C, H, W)",
                         got=phrase(f"inputs of shape (N, {shape[1]}, {shape[2]}, {shape[3]}), in arm {arm!r}"),
                         fix="Turn them by x.permute(0, 3, 1, 2) for tensors, or x.transpose(0, 3, 1, 2) for arrays")
    if recipe.shift >= min(shape[-2:]):
        raise InputError("shift is smaller than the images", got=phrase(f"shift={recipe.shift} for images of {shape[-2]} x "
                         f"{shape[-1]} pixels, in arm {arm!r}"), fix="Lower shift; a tenth of the width is much already")


def _check_own(own: Augment, x: Tensor, arm: str) -> None:
    try:
        found = apply_own(own, x.clone(), "0", 0)
        again = apply_own(own, x.clone(), "0", 0)
    except InputError as error:
        raise InputError(error.rule, got=phrase(f"{error.got}, in arm {arm!r}"), fix=error.fix) from error
    except FAILURES as error:
        raise InputError("augment takes (x, generator), a batch of standardised inputs and a torch.Generator",
                         got=phrase(f"{type(error).__name__}: {error}, in arm {arm!r}"),
                         fix=f"One example has shape {tuple(x.shape[1:])} and type {x.dtype}") from error
    if not bool(torch.isfinite(found).all()):
        raise InputError("augment returns finite numbers", got=phrase(f"NaN or infinite ones, in arm {arm!r}"),
                         fix="Look for divisions and logarithms; inputs are standardised, so that many are below 0")
    if not torch.equal(found, again):
        raise InputError("augment is a function of its batch and its generator",
                         got=phrase(f"two results for the same, in arm {arm!r}"),
                         fix="Draw from the generator that it is given, and keep nothing from call to call")


@contextmanager
def _apart(number: int) -> Iterator[None]:
    """Random states that start at ``number``; the run's come back."""
    python, numpy = random.getstate(), np.random.get_state()
    try:
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(number)
            random.seed(number)
            np.random.seed(number % 2**32)
            yield
    finally:
        random.setstate(python)
        np.random.set_state(numpy)


def _generator(what: str, tag: str, step: int) -> torch.Generator:
    return torch.Generator().manual_seed(stream_number(f"{what}:{tag}:{step}"))
