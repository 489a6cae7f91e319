"""Tell by a look at its code that a module's forward draws nothing, so that it need not be run to find out."""

from __future__ import annotations

import builtins
import functools
import types
from typing import Any

from torch import nn

from dropkit.surgery.modules import modules_of

_OURS = ("torch.nn.", "dropkit.variants.", "builtins.")
_NAMES = frozenset("""
    torch nn functional F relu relu_ gelu silu mish tanh sigmoid softmax log_softmax softplus leaky_relu elu selu
    hardswish glu add add_ sub mul mul_ div matmul bmm einsum linear conv1d conv2d conv3d max_pool1d max_pool2d
    max_pool3d avg_pool1d avg_pool2d adaptive_avg_pool1d adaptive_avg_pool2d adaptive_max_pool2d interpolate pad
    layer_norm batch_norm group_norm normalize embedding cat stack chunk split unbind flatten unflatten reshape view
    view_as expand expand_as permute transpose T mT movedim squeeze unsqueeze contiguous clone detach to type float half
    bfloat16 double long int masked_fill where gather index_select roll flip mean sum amax amin max min argmax exp log
    sqrt rsqrt pow square abs clamp norm cumsum size shape dim numel dtype device ndim arange zeros ones zeros_like
    ones_like full new_zeros new_ones tril triu repeat repeat_interleave len range enumerate zip reversed list tuple
    dict int float bool isinstance items values keys append get
""".split())  # noqa: SIM905 -- a list of one a line would be a page
"""Names of functions, methods and attributes that draw no random numbers."""


def is_plain(model: nn.Module) -> bool:
    """Whether `makes_no_calls` holds for all modules of a model.

    Args:
        model: any module.

    Example:
        >>> is_plain(nn.Sequential(nn.Linear(2, 2), nn.Dropout(0.5)))
        True
    """
    return all(map(makes_no_calls, modules_of(model)))


def makes_no_calls(module: nn.Module) -> bool:
    """Whether a module's own forward certainly neither calls dropout functions nor draws random numbers.

    So it is of torch's and dropkit's modules, which sites know, and of a forward in which every name is that of a submodule or
    parameter of the module, or of a known function of torch's. Anything else, such as a hook, a method of its own, a function
    of the user's, or a look at ``self.training``, counts as a call.

    Args:
        module: any module; of its children nothing is said.

    Example:
        >>> class Block(nn.Module):
        ...     def __init__(self):
        ...         super().__init__()
        ...         self.body = nn.Linear(2, 2)
        ...     def forward(self, x):
        ...         return x + self.body(x).relu()
        >>> makes_no_calls(Block()), makes_no_calls(nn.ReLU())
        (True, True)
    """
    if "forward" in vars(module) or module._forward_hooks or module._forward_pre_hooks:
        return False
    kind: Any = type(module)
    if _is_ours(kind):
        return True
    return _is_called_as_usual(kind) and _is_plain(kind.forward, module)


@functools.lru_cache(maxsize=1024)
def _is_called_as_usual(kind: Any) -> bool:
    usual = kind.__call__ is nn.Module.__call__ and kind.__getattr__ is nn.Module.__getattr__
    return usual and not any("__getattribute__" in vars(base) for base in kind.__mro__[:-1])


@functools.lru_cache(maxsize=1024)
def _is_ours(kind: Any) -> bool:
    return all(f"{base.__module__}.".startswith(_OURS) for base in kind.__mro__)


def _is_plain(forward: Any, module: nn.Module) -> bool:
    if not isinstance(forward, types.FunctionType) or forward.__closure__:
        return False
    code = forward.__code__
    if any(isinstance(constant, types.CodeType) for constant in code.co_consts):  # a function inside
        return False
    parts = {*module._modules, *module._parameters, *module._buffers}
    return all(name in parts or _is_known(name, forward.__globals__, module) for name in code.co_names)


def _is_known(name: str, scope: dict[str, Any], module: nn.Module) -> bool:
    """Whether a name is on the list, and the user has not given it another meaning."""
    if name in vars(module) and isinstance(vars(module)[name], int | float | str | bool | tuple | None):
        return name != "training"
    if name not in _NAMES or name in vars(module) or (hasattr(type(module), name) and not hasattr(nn.Module, name)):
        return False
    found = scope.get(name, getattr(builtins, name, None))
    if found is None or found is getattr(builtins, name, None):
        return True
    return str(getattr(found, "__name__" if isinstance(found, types.ModuleType) else "__module__", "")).startswith("torch")
