"""What becomes of each kind of site in a model for serving."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from dropkit.catalog import CATALOG
from dropkit.core.errors import InputError, phrase
from dropkit.inference.uses import Alone
from dropkit.surgery.modules import kind_of
from dropkit.variants import recurrent_module
from dropkit.variants.attention import ScaledDotProductAttention
from dropkit.variants.concrete import ConcreteDropout
from dropkit.variants.drop_connect import DropConnect
from dropkit.variants.embedding import EmbeddingDropout
from dropkit.variants.layer_drop import LayerDrop
from dropkit.variants.mixout import Mixout
from dropkit.variants.multi_sample import MultiSampleDropout
from dropkit.variants.recurrent_dropout_rnn import RecurrentDropoutGRU, RecurrentDropoutLSTM, RecurrentDropoutRNN
from dropkit.variants.targeted import TargetedDropout
from dropkit.variants.variational import VariationalDropout, log_alpha
from dropkit.variants.variational_rnn import VariationalGRU, VariationalLSTM, VariationalRNN
from dropkit.variants.weight_drop import WeightDrop


class Scale(nn.Module):
    """Multiply by a number: what is left of a dropout with classic scaling.

    Args:
        factor: 1 - p.

    Example:
        >>> Scale(0.5)(torch.ones(2))
        tensor([0.5000, 0.5000])
    """

    def __init__(self, factor: float) -> None:
        super().__init__()
        self.factor = factor

    def forward(self, input: Tensor) -> Tensor:
        """Multiply.

        Args:
            input: of any shape.
        """
        return input * self.factor

    def extra_repr(self) -> str:
        """The factor."""
        return f"{self.factor:g}"


def folded_site(name: str, module: Any) -> nn.Module | None:
    """What takes a site's place; None for no site, and for one that was silenced in place.

    Args:
        name: its path, for errors.
        module: any module of the copy that is folded.

    Raises:
        InputError: for a site whose evaluation is random or is no plain layer, or which has hooks.

    Example:
        >>> folded_site("", nn.Dropout(0.5)), folded_site("", nn.ReLU())
        (Identity(), None)
    """
    if isinstance(module, nn.RNNBase):
        _silence_recurrent(name, module)
        return None
    kind = kind_of(module)
    if kind is None:
        return None
    if isinstance(module, nn.MultiheadAttention):
        module.dropout = 0.0
        return None
    if type(module) in _SILENT:
        module.p = 0.0
        return None
    if _is_hooked(module):
        raise _refused(name, module, "with hooks, which would be lost", "Remove the hooks, fold, and register them again")
    if type(module) in _LAYERS:
        return _LAYERS[type(module)](name, module)
    if type(module).forward not in _IDENTITIES or any(getattr(module, flag, False) for flag in _FLAGS):
        raise _refused(name, module, "whose evaluation is no plain layer",
                       "Replace it by what it is to do when served, then fold")
    return Scale(1.0 - module.p) if getattr(module, "scaling", "inverted") == "classic" and module.p > 0 else nn.Identity()


def absorb(model: nn.Module, is_alone: Alone) -> nn.Module:
    """Move each `Scale` that a layer follows in an ``nn.Sequential`` into that layer's weight.

    Both have to stand in one place of the model only, and the weight to be no other module's; nothing but ``nn.Identity`` and
    ``nn.Flatten`` lies between. The bias stays: ``W (q x) + b = (q W) x + b``.

    Args:
        model: changed in place.
        is_alone: tells whether the ``nn.Sequential`` alone uses both; see `dropkit.inference.uses`.

    Returns:
        The model.

    Example:
        >>> _ = torch.manual_seed(0)
        >>> absorb(nn.Sequential(Scale(0.5), nn.Linear(1, 1)), lambda *_: True)[0]
        Identity()
    """
    modules = list(model.modules())
    places = Counter(child for module in modules for child in module._modules.values() if child is not None)
    owners = Counter(weight for module in modules for weight in module._parameters.values() if weight is not None)
    for parent in modules:
        if type(parent) is not nn.Sequential:
            continue
        items = list(parent._modules.items())
        for index in reversed(range(len(items))):
            name, scale = items[index]
            target = _next_layer([parent._modules[later] for later, _ in items[index + 1:]])
            if (type(scale) is Scale and target is not None and places[scale] == places[target] == 1
                    and owners[target.weight] == 1 and is_alone(parent, scale, target)):
                with torch.no_grad():
                    target.weight.mul_(scale.factor)
                parent._modules[name] = nn.Identity().train(parent.training)
    return model


def _next_layer(following: list[nn.Module | None]) -> Any:
    target = next((module for module in following if type(module) not in (nn.Identity, nn.Flatten)), None)
    if target is None or type(target) not in (nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d) or _is_hooked(target):
        return None
    return target if isinstance(target._parameters.get("weight"), nn.Parameter) else None


def _is_hooked(module: nn.Module) -> bool:
    return bool(module._forward_pre_hooks or module._forward_hooks)


def _silence_recurrent(name: str, module: Any) -> None:
    if isinstance(module, recurrent_module.RecurrentSites):
        twin = _RECURRENT.get(type(module))
        if twin is None:
            raise _refused(name, module, "whose evaluation is no plain layer", "Serve it as it is; in evaluation it is "
                           "deterministic")
        recurrent_module.remove(module, twin)
    module.dropout = 0.0


def _refused(name: str, module: nn.Module, why: str, fix: str) -> InputError:
    return InputError("what is folded is plain in evaluation", got=phrase(f"a {type(module).__name__} at {name!r}, {why}"),
                      fix=fix)


def _plain(module: Any, weight: Tensor) -> nn.Module:
    """The layer that an adopting module took over, with a weight."""
    biased = module.bias is not None
    layer: Any
    if module.geometry.kind == "linear":
        layer = nn.Linear(module.in_features, module.out_features, biased, device="meta")
    else:
        kind = {"conv1d": nn.Conv1d, "conv2d": nn.Conv2d, "conv3d": nn.Conv3d}[module.geometry.kind]
        layer = kind(module.in_channels, module.out_channels, module.kernel_size, module.stride, module.padding,
                     module.dilation, module.groups, biased, module.padding_mode, device="meta")
    layer.weight, layer.bias = weight if isinstance(weight, nn.Parameter) else nn.Parameter(weight.detach()), module.bias
    plain: nn.Module = layer.eval()
    return plain


def _adopted(name: str, module: Any) -> nn.Module:
    return _plain(module, module.weight)


def _drop_connect(name: str, module: Any) -> nn.Module:
    if module.inference != "mean" and module.p > 0:
        raise _refused(name, module, 'whose evaluation is random (inference="gaussian")', 'Set inference to "mean"')
    return _plain(module, module.weight * (1 - module.p) if module.scaling == "classic" and module.p > 0 else module.weight)


def _pruned(name: str, module: Any) -> nn.Module:
    return _plain(module, torch.where(log_alpha(module.weight, module.log_sigma2) > module.threshold, 0.0, module.weight))


def _embedding(name: str, module: Any) -> nn.Module:
    count, width = module.weight.shape
    table = nn.Embedding(count, width, module.padding_idx, module.max_norm, module.norm_type, module.scale_grad_by_freq,
                         module.sparse, device="meta")
    table.weight = module.weight
    return table.eval()


def _inner(name: str, module: Any) -> nn.Module:
    found: nn.Module = module.module if isinstance(module, WeightDrop) else module.head
    return found


_SILENT = (ScaledDotProductAttention, LayerDrop)  # in evaluation, and at rate 0, they drop nothing
_FLAGS = ("return_mask", "return_indices")  # settings with which more than the input is returned
_LAYERS: dict[type[nn.Module], Callable[[str, Any], nn.Module]] = {
    DropConnect: _drop_connect, VariationalDropout: _pruned, EmbeddingDropout: _embedding,
    **dict.fromkeys((ConcreteDropout, TargetedDropout, Mixout), _adopted),
    **dict.fromkeys((WeightDrop, MultiSampleDropout), _inner),
}
_RECURRENT: dict[type[nn.Module], type[nn.RNNBase]] = {
    **dict.fromkeys((VariationalLSTM, RecurrentDropoutLSTM), nn.LSTM), **dict.fromkeys((VariationalGRU, RecurrentDropoutGRU),
                                                                                     nn.GRU),
    **dict.fromkeys((VariationalRNN, RecurrentDropoutRNN), nn.RNN)}
_IDENTITIES = {kind.forward for row in CATALOG if row.claims.eval_identity for kind in (row.module, row.torch_twin) if kind}
