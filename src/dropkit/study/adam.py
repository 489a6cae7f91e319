"""Adam without PyTorch's class: what that costs is the import of PyTorch's compiler, two seconds in every process."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim.adam import adam

_State = tuple[Tensor, Tensor, Tensor]  # of a parameter: the averages of gradients and of squares, and how many are in them


class Adam:
    """``torch.optim.Adam`` and ``AdamW`` with ``fused=True``, to the bit.

    Args:
        parameters: which are changed in place; of floating point.
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
        self.lr, self.weight_decay, self._decoupled = lr, weight_decay, decoupled
        self._state: dict[int, _State] = {}  # by the parameter's place

    def zero_grad(self) -> None:
        """Forget the gradients."""
        for parameter in self._parameters:
            parameter.grad = None

    @torch.no_grad()
    def step(self) -> None:
        """Change the parameters that have a gradient.

        Raises:
            RuntimeError: a gradient is sparse.
        """
        live = [(place, parameter, parameter.grad) for place, parameter in enumerate(self._parameters)
                if parameter.grad is not None]
        if not live:
            return
        for place, parameter, grad in live:
            if grad.is_sparse:
                raise RuntimeError("Adam does not support sparse gradients; build the embedding with sparse=False")
            if place not in self._state:
                self._state[place] = torch.zeros_like(parameter), torch.zeros_like(parameter), torch.zeros(())
        places, parameters, grads = zip(*live, strict=True)
        means, squares, steps = zip(*(self._state[place] for place in places), strict=True)
        adam(list(parameters), list(grads), list(means), list(squares), [], list(steps), fused=True,
             decoupled_weight_decay=self._decoupled, amsgrad=False, beta1=0.9, beta2=0.999, lr=self.lr,
             weight_decay=self.weight_decay, eps=1e-8, maximize=False)

    def state_dict(self) -> dict[str, Any]:
        """Return how many parameters there are, and the averages, by the place of their parameter."""
        return {"parameters": len(self._parameters), "averages": dict(self._state)}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take over what `state_dict` returned for the same parameters.

        Raises:
            ValueError: it is of other parameters, or of another optimiser.
        """
        averages: dict[int, _State] = state.get("averages", {})
        if state.get("parameters") != len(self._parameters) or any(
                mean.shape != self._parameters[place].shape for place, (mean, _, _) in averages.items()):
            raise ValueError("the optimiser's state is of other parameters, or of another optimiser")
        self._state = {place: (mean.clone(), square.clone(), count.clone())
                       for place, (mean, square, count) in averages.items()}
