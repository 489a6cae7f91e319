"""The terms that variants with learned noise add to the loss."""

from __future__ import annotations

from typing import ClassVar, Protocol

from torch import Tensor, nn

from dropkit.core.errors import InputError, phrase
from dropkit.core.seeds import check_integer


class Regularized(Protocol):
    """What `regularization_loss` looks for in the modules of a model: a class with a method ``regularization``.

    A class whose term stands beside a mean over examples as it is, because it is such a mean or because its factors hold the
    size of the data, says so by ``per_example = True``. Without that the term is one for the whole data set.
    """

    per_example: ClassVar[bool]

    def regularization(self) -> Tensor:
        """The term, a tensor with no dimensions."""
        ...


def regularization_loss(model: nn.Module, data_size: int | None = None) -> Tensor:
    """The sum of the terms that a model's modules add to the loss.

    ``R = sum_i R_i / N + sum_j r_j``. Each R_i belongs beside the sum of the losses of all N training examples: the
    divergence of variational dropout, in nats. Each r_j belongs beside their mean as it is: the regulariser of concrete
    dropout, whose factors hold N, and the divergence of information dropout, a mean over the batch. Without ``data_size``
    nothing is divided.

    Args:
        model: any module; a module used in several places counts once, and wrappers do not count.
        data_size: the number N of training examples, at least 1, when the loss is a mean over examples; None leaves the
            terms as they are. Default: None.

    Returns:
        A tensor with no dimensions, differentiable, of the type and on the device of the first term.

    Raises:
        InputError: for a model none of whose modules has a term, a size below 1, or information dropout that has not run.

    Use:
        Add it to the loss of each batch: ``loss = F.cross_entropy(model(x), y) + regularization_loss(model, len(dataset))``.
        Multiply it by a weight where the variant says so, such as one that rises from 0 to 1 over the first epochs.

    Example:
        >>> from dropkit.variants.variational import VariationalDropout
        >>> model = nn.Sequential(VariationalDropout(nn.Linear(4, 8)), nn.ReLU(), VariationalDropout(nn.Linear(8, 1)))
        >>> regularization_loss(model, data_size=1000).shape
        torch.Size([])
    """
    if not isinstance(model, nn.Module):
        raise InputError("a regularisation loss is that of a model", got=model, fix="Pass the nn.Module")
    size = 1 if data_size is None else check_integer(data_size, "data_size", 63)
    if size < 1:
        raise InputError("data_size is a number of training examples, at least 1", got=data_size, fix="Pass len(dataset)")
    # Looked up in the class: wrappers such as torch.compile's pass attributes of what they wrap on as their own.
    found = [module for module in model.modules() if callable(getattr(type(module), "regularization", None))]
    if not found:
        raise InputError("a model with a regularisation loss has modules with a term for it", got=phrase(type(model).__name__),
                         fix="Variational, concrete and information dropout have one; without them leave this loss out")
    terms = [_term(module, size) for module in found]
    total = terms[0]
    for term in terms[1:]:
        total = total + term.to(total)
    return total


def _term(module: nn.Module, size: int) -> Tensor:
    term: Tensor = module.regularization()  # type: ignore[operator]
    return term if getattr(type(module), "per_example", False) else term / size
