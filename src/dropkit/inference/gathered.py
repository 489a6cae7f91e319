"""What is gathered of one batch while its passes run."""

from __future__ import annotations

import torch
from torch import Tensor

from dropkit.core.errors import InputError, phrase
from dropkit.inference.outputs import Picker
from dropkit.inference.statistics import Classes, Moments

_BINARY = ("cat([torch.zeros_like(z), z], -1)", "stack([torch.zeros_like(z), z], -1)")
"""The logits of two classes from a single one in a dimension of its own, and from one without."""
_PIECE = 1 << 18  # numbers whose statistics are taken at once


class Gathered:
    """The statistics of one batch.

    Args:
        task: as in `dk.mc_predict`; ``"auto"`` is decided by the first output.
        class_dim: the dimension of the classes.
        samples: whether the outputs are kept.
        picker: knows whether the output holds logits.
    """

    def __init__(self, task: str | None, class_dim: int, samples: bool, picker: Picker) -> None:
        self.task, self.varies = task, False
        self._dim, self._picker = class_dim, picker
        self._kept: list[Tensor] | None = [] if samples else None
        self._first: Tensor | None = None
        self._moments, self._classes = Moments(), Classes(class_dim)

    def add(self, chunk: Tensor, examples: int | None = None) -> None:
        """Take the outputs of further passes in.

        Args:
            chunk: the outputs, passes first.
            examples: how many the batch has, where that is known.

        Raises:
            InputError: in classification for an output without classes.
        """
        if self._first is None:
            self._first = chunk[0].clone()
            self._decide(self._first, examples)
        self.varies = self.varies or not torch.equal(chunk, self._first.expand_as(chunk))
        if self._kept is not None:
            self._kept.append(chunk.clone())
        statistics = self._classes if self.task == "classification" else self._moments
        size = max(1, _PIECE // max(1, chunk[0].numel()))
        for piece in torch.split(chunk, size):  # float64 takes twice the memory, several times
            statistics.add(piece)

    def tensors(self) -> dict[str, Tensor]:
        """Return the statistics by the names of `MCPrediction`, in the output's precision and in float32 at least."""
        assert self._first is not None
        moments = self._classes.moments if self.task == "classification" else self._moments
        found = {"mean": moments.mean, "variance": moments.variance()}
        if self.task == "classification":
            found.update(votes=self._classes.votes, expected_entropy=self._classes.expected_entropy)
        wide = torch.promote_types(self._first.dtype, torch.float32)
        kept = {} if self._kept is None else {"samples": torch.cat(self._kept)}
        return {name: x.to(wide) for name, x in found.items()} | kept

    def _decide(self, output: Tensor, examples: int | None) -> None:
        if self.task == "auto":
            self.task = "classification" if self._picker.named else None
        if self.task == "classification":
            check_classes(output, self._dim, examples)


def check_classes(output: Tensor, dim: int, examples: int | None) -> None:
    """Refuse an output without classes: a single logit, be it in a dimension of its own or one number an example.

    Args:
        output: of a model, examples first.
        dim: the dimension of the classes.
        examples: how many the batch has; None where that is not known.

    Raises:
        InputError: for such an output.

    Example:
        >>> check_classes(torch.ones(5, 3), -1, 5)
    """
    rank = output.dim()
    single = rank == 1 and dim in (0, -1) and examples == output.shape[0]
    if single or not -rank <= dim < rank or output.shape[dim] < 2:
        of = f"of {examples} examples" if single else f"with class_dim={dim}"
        more = "; to a single example add a dimension" if single else ""
        raise InputError("an output of classification holds the logits of two classes at least along class_dim",
                         got=phrase(f"shape {tuple(output.shape)} {of}"),
                         fix="Name the dimension of the classes; of a single logit z, classes have the logits 0 and z, as in "
                             f"outputs=lambda z: torch.{_BINARY[single]}{more}")
