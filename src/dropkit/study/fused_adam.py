"""Adam without its class: what that costs is the import of PyTorch's compiler, two seconds in every worker process."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.optim.adam import adam

from dropkit.study.experiment import Experiment
from dropkit.study.objectives import optimizer_of


class Adam:
    """``torch.optim.Adam`` and ``AdamW`` with ``fused=True``, to the bit.

    Args:
        parameters: which are changed in place.
        lr: the learning rate.
        weight_decay: added to the gradient, or with ``decoupled`` taken from the weights.
        decoupled: AdamW.

    Example:
        >>> weight = nn.Parameter(torch.ones(2))
        >>> optimizer = Adam([weight], lr=0.1, weight_decay=0.0, decoupled=False)
        >>> weight.sum().backward()
        >>> optimizer.step()
        >>> weight.data
        tensor([0.9000, 0.9000])
    """

    def __init__(self, parameters: Iterable[nn.Parameter], *, lr: float, weight_decay: float, decoupled: bool) -> None:
        self._parameters = list(parameters)
        self._lr, self._weight_decay, self._decoupled = lr, weight_decay, decoupled
        self._state: dict[nn.Parameter, tuple[Tensor, Tensor, Tensor]] = {}  # both averages, and how many steps are in them

    def zero_grad(self) -> None:
        """Forget the gradients."""
        for parameter in self._parameters:
            parameter.grad = None

    @torch.no_grad()
    def step(self) -> None:
        """Change the parameters that have a gradient."""
        live = [(parameter, parameter.grad) for parameter in self._parameters if parameter.grad is not None]
        for parameter, _ in live:
            if parameter not in self._state:
                self._state[parameter] = torch.zeros_like(parameter), torch.zeros_like(parameter), torch.zeros(())
        if not live:
            return
        parameters, grads = zip(*live, strict=True)
        means, squares, steps = zip(*(self._state[parameter] for parameter in parameters), strict=True)
        adam(list(parameters), list(grads), list(means), list(squares), [], list(steps), fused=True,
             decoupled_weight_decay=self._decoupled, amsgrad=False, beta1=0.9, beta2=0.999, lr=self._lr,
             weight_decay=self._weight_decay, eps=1e-8, maximize=False)


def stacked_optimizer(experiment: Experiment, parameters: Iterable[nn.Parameter]) -> Adam | Optimizer:
    """Return the experiment's optimiser for the stacked parameters of many runs.

    Args:
        experiment: gives its kind, by name, rate and decay.
        parameters: a dimension of runs in front.
    """
    if experiment.optimizer in ("adam", "adamw"):
        return Adam(parameters, lr=experiment.lr, weight_decay=experiment.weight_decay,
                    decoupled=experiment.optimizer == "adamw")
    return optimizer_of(experiment, nn.ParameterList(parameters))
