"""What Monte-Carlo dropout returns."""

from __future__ import annotations

from dataclasses import dataclass, field
from statistics import NormalDist
from typing import Any

import torch
from torch import Tensor

from dropkit.core.errors import InputError, phrase
from dropkit.core.levels import check_level, check_precision, check_variance
from dropkit.inference.statistics import entropy


@dataclass(frozen=True)
class MCPrediction:
    """Predictions over stochastic passes; examples are in the order of the inputs.

    Args:
        mean: mean over passes: of the class probabilities in classification, of the output otherwise.
        variance: unbiased variance over passes of the same; NaN of a single pass.
        passes: the numbers of the passes.
        method: ``"vmap"`` where passes ran at once, ``"loop"`` where they ran one after the other.
        why: the reason for the loop, empty without one.
        sites: the names of the sites that acted.
        task: ``"classification"``, ``"regression"`` or None.
        class_dim: the dimension of the classes.
        samples: the outputs of all passes, passes first, where they were asked for; in classification the logits.
        votes: in classification how many passes each class won.
        expected_entropy: in classification the mean over passes of the entropy, in nats: aleatoric uncertainty.
    """

    mean: Tensor = field(repr=False)
    variance: Tensor = field(repr=False)
    passes: tuple[int, ...] = field(repr=False)
    method: str
    why: str
    sites: tuple[str, ...]
    task: str | None
    class_dim: int = -1
    samples: Tensor | None = field(default=None, repr=False)
    votes: Tensor | None = field(default=None, repr=False)
    expected_entropy: Tensor | None = field(default=None, repr=False)

    @property
    def predictive_entropy(self) -> Tensor:
        """Entropy of the mean probabilities, in nats: total uncertainty."""
        self._need("classification", "predictive_entropy")
        return entropy(self.mean, self.class_dim)

    @property
    def mutual_information(self) -> Tensor:
        """Mutual information of label and mask (BALD), in nats: epistemic uncertainty, total less aleatoric.

        References:
            Houlsby, Huszar, Ghahramani, Lengyel: "Bayesian active learning for classification and preference learning", 2011.
        """
        self._need("classification", "mutual_information")
        assert self.expected_entropy is not None
        return (self.predictive_entropy - self.expected_entropy).clamp(min=0.0)  # below 0 by rounding only

    @property
    def variation_ratio(self) -> Tensor:
        """The fraction of passes in which another class than the most frequent one won."""
        self._need("classification", "variation_ratio")
        assert self.votes is not None
        return 1.0 - self.votes.amax(self.class_dim) / len(self.passes)

    @property
    def labels(self) -> Tensor:
        """The class of the largest mean probability."""
        self._need("classification", "labels")
        return self.mean.argmax(self.class_dim)

    def predictive_variance(self, tau: float | None = None, noise: Tensor | float | None = None) -> Tensor:
        """Epistemic variance plus that of the noise.

        Args:
            tau: precision of the noise, above 0; its variance ``1 / tau`` is added.
            noise: variance of the noise that was estimated elsewhere, such as by a head of its own.

        Raises:
            InputError: for a precision of 0 or less, a negative variance, or in classification.
        """
        self._refuse_classes("predictive_variance")
        total = self.variance if tau is None else self.variance + 1.0 / check_precision(tau)
        return total if noise is None else total + check_variance(noise, total)

    def interval(self, level: float = 0.95, tau: float | None = None,
                 noise: Tensor | float | None = None) -> tuple[Tensor, Tensor]:
        """An interval that holds the target with a probability, for a normal predictive distribution.

        Without ``tau`` and ``noise`` it is one for the noiseless function.

        Args:
            level: the probability, in (0, 1).
            tau: as in `predictive_variance`.
            noise: as in `predictive_variance`.

        Returns:
            Its lower and its upper end.

        Raises:
            InputError: for a level outside (0, 1), and as `predictive_variance` does.
        """
        width = NormalDist().inv_cdf(0.5 + check_level(level) / 2)
        half = self.predictive_variance(tau, noise).sqrt() * width
        return self.mean - half, self.mean + half

    def _need(self, task: str, what: str) -> None:
        if self.task != task:
            raise InputError(f"{what} belongs to {task}", got=phrase(f"task={self.task!r}"),
                             fix=f'Pass task="{task}" to mc_predict, where the output holds logits')

    def _refuse_classes(self, what: str) -> None:
        if self.task == "classification":
            raise InputError(f"{what} belongs to regression", got=phrase("task='classification'"),
                             fix='Pass task="regression" to mc_predict')


def joined(parts: list[dict[str, Any]], whole: dict[str, Any]) -> MCPrediction:
    """The prediction of several batches.

    Args:
        parts: the tensors of each batch, by the names of `MCPrediction`.
        whole: what holds for all.

    Raises:
        InputError: for batches that cannot be joined.

    Example:
        >>> part = {"mean": torch.ones(2), "variance": torch.ones(2)}
        >>> joined([part, part], {"passes": (0, 1), "method": "vmap", "why": "", "sites": ("0",), "task": None}).mean.shape
        torch.Size([4])
    """
    dims = {name: 1 if name == "samples" else 0 for name in parts[0]}
    tensors: dict[str, Any] = {name: parts[0][name] if len(parts) == 1 else _joined([part[name] for part in parts], dim)
                               for name, dim in dims.items()}
    return MCPrediction(**tensors, **whole)


def _joined(parts: list[Tensor], dim: int) -> Tensor:
    try:
        return torch.cat(parts, dim)
    except RuntimeError as error:
        shapes = ", ".join(map(str, dict.fromkeys(tuple(part.shape) for part in parts)))
        raise InputError("outputs of several batches have the examples in the first dimension, and else one shape",
                         got=phrase(f"shapes {shapes}"), fix="Predict each batch by itself, or pad to one shape") from error
