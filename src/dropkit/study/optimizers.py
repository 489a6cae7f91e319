"""PyTorch's optimisers without their classes: what those cost is the import of its compiler, two seconds in every process."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim.adam import adam
from torch.optim.rmsprop import rmsprop
from torch.optim.sgd import sgd

_State = tuple[Tensor, ...]  # of a parameter: averages of its size, and for some kinds how many gradients are in them


class Functional(ABC):
    """An optimiser of parameters of floating point, which it changes in place.

    Args:
        parameters: of the network.
        lr: the learning rate.
        weight_decay: added to the gradient, unless the kind says otherwise.
        after_step: called after each step.
    """

    def __init__(self, parameters: Iterable[nn.Parameter], *, lr: float, weight_decay: float = 0.0,
                 after_step: Callable[[], object] | None = None) -> None:
        self._parameters = list(parameters)
        self.lr, self.weight_decay, self._after_step = lr, weight_decay, after_step
        self._state: dict[int, _State] = {}  # by the parameter's place

    @abstractmethod
    def begin(self, parameter: nn.Parameter) -> _State:
        """Return the state of a parameter before its first gradient."""

    @abstractmethod
    def update(self, parameters: list[Tensor], grads: list[Tensor], states: Sequence[list[Tensor]]) -> None:
        """Change parameters, and their states, which come by kind."""

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
        for place, parameter, grad in live:
            if grad.is_sparse:
                raise RuntimeError(f"{type(self).__name__} does not support sparse gradients; "
                                   "build the embedding with sparse=False")
            if place not in self._state:
                self._state[place] = self.begin(parameter)
        if live:
            places, parameters, grads = zip(*live, strict=True)
            states = [list(kind) for kind in zip(*(self._state[place] for place in places), strict=True)]
            self.update(list(parameters), list(grads), states)
        if self._after_step is not None:
            self._after_step()

    def state_dict(self) -> dict[str, Any]:
        """Return how many parameters there are, and the averages, by the place of their parameter."""
        return {"parameters": len(self._parameters), "averages": dict(self._state)}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take over what `state_dict` returned for the same parameters.

        Raises:
            ValueError: it is of other parameters, or of another optimiser.
        """
        averages: dict[int, _State] = state.get("averages", {})
        if state.get("parameters") != len(self._parameters) or any(not self._fits(*item) for item in averages.items()):
            raise ValueError("the optimiser's state is of other parameters, or of another optimiser")
        self._state = {place: tuple(kind.clone() for kind in kinds) for place, kinds in averages.items()}

    def _fits(self, place: int, state: _State) -> bool:
        return [kind.shape for kind in state] == [kind.shape for kind in self.begin(self._parameters[place])]


class Adam(Functional):
    """``torch.optim.Adam`` with ``fused=True``, to the bit.

    Example:
        >>> weight = nn.Parameter(torch.ones(2))
        >>> optimizer = Adam([weight], lr=0.1)
        >>> weight.sum().backward()
        >>> optimizer.step()
        >>> weight.data
        tensor([0.9000, 0.9000])
    """

    decoupled = False

    def begin(self, parameter: nn.Parameter) -> _State:
        """Return the averages of gradients and of squares, and how many are in them."""
        return torch.zeros_like(parameter), torch.zeros_like(parameter), torch.zeros(())

    def update(self, parameters: list[Tensor], grads: list[Tensor], states: Sequence[list[Tensor]]) -> None:
        """Move by the mean gradient over the root of the mean square."""
        means, squares, steps = states
        adam(parameters, grads, means, squares, [], steps, fused=True, decoupled_weight_decay=self.decoupled, amsgrad=False,
             beta1=0.9, beta2=0.999, lr=self.lr, weight_decay=self.weight_decay, eps=1e-8, maximize=False)


class AdamW(Adam):
    """``torch.optim.AdamW`` with ``fused=True``, to the bit: the decay is taken from the weights."""

    decoupled = True


class SGD(Functional):
    """``torch.optim.SGD`` with a momentum of 0.9 and ``fused=True``, to the bit.

    The average begins at 0 and not with the first gradient, which comes to the same, also where that comes late: PyTorch's
    class fails there.
    """

    def begin(self, parameter: nn.Parameter) -> _State:
        """Return the average of gradients."""
        return (torch.zeros_like(parameter),)

    def update(self, parameters: list[Tensor], grads: list[Tensor], states: Sequence[list[Tensor]]) -> None:
        """Move by the sum of gradients, older ones counting less."""
        averages: list[Tensor | None] = list(states[0])
        sgd(parameters, grads, averages, fused=True, weight_decay=self.weight_decay, momentum=0.9, lr=self.lr, dampening=0.0,
            nesterov=False, maximize=False)


class RMSprop(Functional):
    """``torch.optim.RMSprop``, to the bit."""

    def begin(self, parameter: nn.Parameter) -> _State:
        """Return the average of squares, and how many are in it."""
        return torch.zeros_like(parameter), torch.zeros(())

    def update(self, parameters: list[Tensor], grads: list[Tensor], states: Sequence[list[Tensor]]) -> None:
        """Move by the gradient over the root of the mean square."""
        squares, steps = states
        rmsprop(parameters, grads, squares, [], [], steps, foreach=False, lr=self.lr, alpha=0.99, eps=1e-8,
                weight_decay=self.weight_decay, momentum=0.0, centered=False)
