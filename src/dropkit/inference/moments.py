"""Mean and variance of a model's output over dropout's masks, in one pass."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager, nullcontext
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.nn.utils.rnn import PackedSequence
from torch.utils import _pytree as pytree

from dropkit.core.errors import InputError, phrase
from dropkit.core.flags import check_flag
from dropkit.core.intercept import THREAD
from dropkit.inference.accepted import accepted, check_acting
from dropkit.inference.active import evaluated
from dropkit.inference.moment_functions import ASKING, BERNOULLI, FUNCTIONS, MOVING, by_parts, call_moments, is_random
from dropkit.inference.moment_joint import run_joint
from dropkit.inference.moment_rules import NOISE, RULES, Moments
from dropkit.inference.moment_sources import followed
from dropkit.inference.plain import is_plain
from dropkit.inference.twin import twin_of
from dropkit.surgery.calls import copy_inputs, unmoved
from dropkit.surgery.functional import Call, read
from dropkit.surgery.modules import kind_of, modules_of

_HALVES = (torch.float16, torch.bfloat16)
_REMEDY = "Use Monte-Carlo passes for this model, or a layer that is supported; docs/moments.md lists them"


def moment_predict(model: nn.Module, inputs: Any, *, linearised: bool = False, covariance: bool = False) -> Any:
    """Predict with dropout in one pass: mean and variance of the outputs over masks.

    Every site drops, as in training, and everything else is in evaluation mode. From the first site on each layer gets mean
    mu and variance v of its input's elements and gives those of its output, as if elements were independent and, where a
    layer is not linear, normal: dropout ``v / q + mu^2 p / q``, linear layers and convolutions ``W mu + b`` and ``(W o W) v``,
    ReLU and leaky ReLU by the moments of the rectified normal distribution, GELU, tanh, sigmoid, SiLU, softplus and ELU by
    quadrature, averages, batch normalisation, layer normalisation with its divisor at its expectation, softmax by its
    mean-field rule; the variances of terms that are added add up. What comes before the first site runs as it is.

    One dropout and linear layers without anything between them are exact when there is one linear layer. In deeper networks
    what is neglected is that units vary together, because they hang on the same masks: the mean is close, and the variance is
    mostly too small, in deep networks by a factor of several; masks that channels or sequences share count as independent.

    With ``linearised=True`` each output is followed back to what varies: to every site, where the noise of an element has the
    variance ``(mu^2 + v) p / q``, and to every activation, which hands on what varies by its expected slope and adds the rest.
    The output's variance is the sum of these times its squared derivatives, so that units that hang on one mask do vary
    together, and so do elements that share one. It costs one backward pass for each output of an example, and the variance of a
    trained network is near, also with convolutions and in any forward. With ``covariance=True`` covariances are followed
    forwards instead, through networks of linear layers, ReLU and dropout of single elements, which costs as much as one example
    more for each unit of the widest layer.

    Args:
        model: a module of supported layers, in ``nn.Sequential`` or in any forward that ``torch.fx`` can trace. It stays as
            it is.
        inputs: what the model is called with: a tensor, a tuple or list of arguments, or a dict of keyword arguments.
        linearised: whether to follow outputs back; examples are the first dimension of all that varies, and have no part in one
            another. Default: False.
        covariance: whether to follow covariances; for ``nn.Sequential`` of ``nn.Linear``, ReLU, leaky ReLU and `Dropout`,
            behind torch's layers of any kind, and for a single tensor. Default: False.

    Returns:
        An object with ``mean``, ``variance`` and ``std``, tensors of the output's shape, and ``covariance``; where the model
        returns several tensors, the same structure of such objects. A model of half precision is computed in float32.

    Raises:
        InputError: for a layer or function without a rule, naming it and its place; for a forward that cannot be traced, a
            scripted module that drops, a model that cannot be copied, and inputs that it does not take; and when nothing in the
            output is random.

    Example:
        >>> model = nn.Sequential(nn.Dropout(0.5), nn.Linear(2, 1, bias=False))
        >>> _ = nn.init.ones_(model[1].weight)
        >>> found = moment_predict(model, torch.tensor([[1.0, 2.0]]))
        >>> found.mean.tolist(), found.variance.tolist()
        ([[3.0]], [[5.0]])

    References:
        Wang, Manning: "Fast dropout training", ICML 2013. Gast, Roth: "Lightweight probabilistic deep networks", CVPR 2018.
        Lu, Ie, Sha: "Mean-field approximation to Gaussian-softmax integral with application to uncertainty estimation", 2020.
    """
    ways = check_flag(linearised, "linearised"), check_flag(covariance, "covariance")
    if all(ways):
        raise InputError("variances are found in one way", got=phrase("linearised=True and covariance=True"),
                         fix="Pass one of them")
    check_acting(model, "moment_predict")
    with accepted(model, inputs), nullcontext() if is_plain(model) else unmoved(model), torch.no_grad(), _without_autocast():
        twin = _wide_twin(model)  # what a forward does to its module, when it is traced or run, it does to the twin
        args, kwargs = _arguments(pytree.tree_map_only(Tensor, _wide, copy_inputs(inputs)))
        if linearised:
            output = _run_back(twin, args, kwargs)
        else:
            output = run_joint(twin, "", _single(args, kwargs)) if covariance else _run(twin, "", args, kwargs)
    if not is_random(output):
        raise InputError("a model whose moments are asked for has dropout with a rate above 0",
                         got=phrase("an output that does not vary"), fix="dropkit.sites(model, inputs) lists what drops")
    return pytree.tree_map_only(Tensor, lambda x: Moments(x, torch.zeros_like(x)), output)


def _run_back(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """Call a module with its sources recorded, and give its outputs the variance that these make."""
    if any(x.dim() < 2 for x in pytree.tree_leaves((args, kwargs)) if isinstance(x, Tensor)):
        raise InputError("a model that is followed back gets batches of examples", got=phrase("a tensor of one dimension"),
                         fix="Pass x[None]")
    with _constant(module), followed() as sources:
        args, kwargs = pytree.tree_map_only(Tensor, torch.clone, (args, kwargs))  # outside of inference mode
        output = _run(module, "", args, kwargs)
        return pytree.tree_map_only(Moments, lambda x: Moments(x.mean.detach(), sources.variance_of(x.mean)), output,
                                    is_leaf=lambda x: isinstance(x, Moments))


@contextmanager
def _constant(model: nn.Module) -> Iterator[None]:
    """Take no derivatives in parameters, which would make graphs of all that comes before the first site."""
    asking = [parameter for parameter in model.parameters() if parameter.requires_grad]
    try:
        for parameter in asking:
            parameter.requires_grad_(False)
        yield
    finally:
        for parameter in asking:
            parameter.requires_grad_(True)


def _single(args: tuple[Any, ...], kwargs: dict[str, Any]) -> Tensor:
    if kwargs or len(args) != 1 or not isinstance(args[0], Tensor):
        raise InputError("a model whose covariances are followed takes one tensor", got=phrase(f"{len(args)} arguments and "
                         f"{len(kwargs)} named ones"), fix="Pass the tensor, or leave covariance=False")
    return args[0]


def _arguments(inputs: Any) -> tuple[tuple[Any, ...], dict[str, Any]]:
    if isinstance(inputs, Mapping):
        return (), dict(inputs)
    if isinstance(inputs, tuple | list) and not isinstance(inputs, PackedSequence):
        return tuple(inputs), {}
    return (inputs,), {}


@contextmanager
def _without_autocast() -> Iterator[None]:
    with ExitStack() as undo:
        for kind in filter(torch.is_autocast_enabled, ("cpu", "cuda")):
            undo.enter_context(torch.autocast(kind, enabled=False))
        yield


def _wide_twin(model: nn.Module) -> nn.Module:
    """A twin in evaluation. Squares of halves overflow soon, so that it computes in float32 where the model does in less."""
    twin = evaluated(twin_of(model)[0])
    modules, memo = modules_of(twin), dict[int, Tensor]()
    if all(x is None or x.dtype not in _HALVES for module in modules
           for x in (*module._parameters.values(), *module._buffers.values())):
        return twin
    for module in modules:
        stores: tuple[dict[str, Any], ...] = (module._parameters, module._buffers, vars(module))
        for held in stores:
            for name, x in list(held.items()):
                if isinstance(x, Tensor) and x.dtype in _HALVES:
                    wide = memo.setdefault(id(x), _like(x, _wide(x.detach())))
                    if held is vars(module):
                        held[name] = wide
                    else:
                        setattr(module, name, wide)  # recurrent modules keep them in a list, too
    return twin


def _like(x: Tensor, wide: Tensor) -> Tensor:
    return nn.Parameter(wide, requires_grad=False) if isinstance(x, nn.Parameter) else wide


def _wide(x: Any) -> Any:
    """A tensor of a half type in float32, and so a half type itself; all else as it is."""
    if isinstance(x, torch.dtype):
        return torch.float32 if x in _HALVES else x
    return x.float() if x.dtype in _HALVES else x


def _run(module: nn.Module, path: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """Call a module on values that may be moments."""
    if type(module) in NOISE:
        return NOISE[type(module)](module, *args, **kwargs)
    if type(module) is nn.Sequential and not _is_hooked(module):
        for name, child in module.named_children():
            args, kwargs = (_run(child, f"{path}.{name}" if path else name, args, kwargs),), {}
        return args[0]
    if not _is_leaf(module):
        return _run_graph(module, path, args, kwargs)
    if not is_random((args, kwargs)):
        _refuse_active(module, path)
        return module(*args, **kwargs)
    rule = RULES.get(type(module))
    if rule is None:
        raise _unsupported(f"a {type(module).__name__}", path)
    return _placed(rule, (module, *args), kwargs, path)


def _is_leaf(module: nn.Module) -> bool:
    own = type(module).__module__.startswith(("torch.nn.", "torch.ao.nn."))
    return type(module) in RULES or type(module) in NOISE or kind_of(module) is not None or (
        own and type(module) is not nn.Sequential and not isinstance(module, nn.ModuleList | nn.ModuleDict))


def _is_hooked(module: nn.Module) -> bool:
    return bool(module._forward_hooks or module._forward_pre_hooks)


def _refuse_active(module: nn.Module, path: str) -> None:
    """A leaf that is called as it is must not hold a site: its noise would be lost."""
    for name, inner in module.named_modules():
        rate = getattr(inner, "dropout" if isinstance(inner, nn.MultiheadAttention | nn.RNNBase) else "p", 1.0)
        if kind_of(inner) is not None and rate != 0:
            raise _unsupported(f"a {type(inner).__name__}", ".".join(part for part in (path, name) if part))


class _Tracer(fx.Tracer):
    """Keeps whole what has a rule, or is torch's; hands calls of dropkit's functions to the graph."""

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        """Tell whether a module is called as one; see ``torch.fx.Tracer``."""
        return _is_leaf(m)

    def handle(self, function: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Answer a call of one of dropkit's functions, as an `Interceptor`."""
        return self.create_proxy("call_function", function, args, kwargs)


def _trace(module: nn.Module, path: str) -> fx.Graph:
    if _is_hooked(module):
        raise _unsupported(f"a {type(module).__name__} with hooks", path)
    tracer, outer = _Tracer(), THREAD.interceptor
    modes = [(inner, inner.training) for inner in module.modules()]
    module.train()  # functional calls that heed the mode are to drop; modules are not run here
    THREAD.interceptor = tracer
    try:
        return tracer.trace(module)
    except Exception as error:
        raise InputError("a forward that torch.fx can trace", got=phrase(
            f"{type(error).__name__} in {type(module).__name__}{_at(path)}: {error}"), fix=_REMEDY) from error
    finally:
        THREAD.interceptor = outer
        for inner, mode in modes:
            vars(inner)["training"] = mode


def _run_graph(module: nn.Module, path: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    graph, values, given = _trace(module, path), dict[fx.Node, Any](), list(args)
    for node in graph.nodes:
        if node.op == "placeholder":
            values[node] = given.pop(0) if given else kwargs.get(str(node.target), *node.args)
            continue
        of = pytree.tree_map_only(torch.dtype, _wide, fx.node.map_arg((node.args, node.kwargs), values.__getitem__))
        taken: tuple[Any, ...] = tuple(of[0])
        named: dict[str, Any] = dict(of[1])
        if node.op == "output":
            return taken[0]
        values[node] = _step(module, path, node, taken, named)
    raise AssertionError("a graph has an output")


def _step(module: nn.Module, path: str, node: fx.Node, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    target: Any = node.target
    if node.op == "get_attr":
        found: Any = module
        for name in target.split("."):
            found = getattr(found, name)
        return found
    if node.op == "call_module":
        return _run(module.get_submodule(target), f"{path}.{target}" if path else target, args, kwargs)
    place = _place(path, node)
    if node.op == "call_method":
        target = "float" if target in ("half", "bfloat16") else target
        return _call(target, lambda x, *rest, **options: getattr(x, target)(*rest, **options), args, kwargs, place)
    call = read(target, args, kwargs)
    return _call(target, target, args, kwargs, place) if call is None else _dropped(call, target, args, kwargs, place)


def _dropped(call: Call, function: Any, args: tuple[Any, ...], kwargs: dict[str, Any], place: str) -> Any:
    """Answer a functional call of dropout, at work or not."""
    active = call.training and call.p != 0
    known = call.rule.kind in BERNOULLI
    if active and known:
        return call_moments(call)
    if not active and not is_random((args, kwargs)):
        return function(*args, **kwargs)
    if not active and known and call.arguments.get("scaling") != "classic" and "residual" not in call.arguments:
        return args[0] if args else call.arguments[call.rule.parameters[0]]
    raise _unsupported(f"the function {call.rule.name}", place)


def _call(key: Any, function: Any, args: tuple[Any, ...], kwargs: dict[str, Any], place: str) -> Any:
    """Call a function or a method on values that may be moments."""
    if not is_random((args, kwargs)):
        return function(*args, **kwargs)
    if key is getattr and isinstance(args[0], Moments):
        asked = getattr(args[0].mean, args[1])
        return by_parts(getattr, args, {}) if isinstance(asked, Tensor) else asked  # x.T moves elements
    if key in ASKING:
        return function(args[0].mean, *args[1:], **kwargs)
    if key in FUNCTIONS:
        return _placed(FUNCTIONS[key], args, kwargs, place)
    if key in MOVING:
        if not isinstance(args[0], Moments) and getattr(key, "__name__", "") == "getitem":
            return function(*args, **kwargs)  # an item of a tuple
        return by_parts(function, args, kwargs)
    name = key if isinstance(key, str) else getattr(key, "__name__", str(key))
    raise _unsupported(f"the {'method' if isinstance(key, str) else 'function'} {name}", place)


def _placed(rule: Any, args: tuple[Any, ...], kwargs: dict[str, Any], place: str) -> Any:
    """Apply a rule; what it refuses is told with the place."""
    try:
        return rule(*args, **kwargs)
    except InputError as error:
        raise InputError(f"{error.rule}{_at(place)}", got=error.got, fix=error.fix) from error
    except TypeError as error:  # an argument that the rule does not know
        raise InputError(f"what is called has a rule for its moments{_at(place)}", got=phrase(str(error)),
                         fix=_REMEDY) from error


def _unsupported(what: str, place: str) -> InputError:
    return InputError("every layer and function on the way of what varies has a rule for its moments",
                      got=phrase(f"{what}{_at(place)}"), fix=_REMEDY)


def _at(path: str) -> str:
    return f" at {path!r}" if path else " in the model's own forward"


def _place(path: str, node: fx.Node) -> str:
    stack = list((node.meta.get("nn_module_stack") or {}).values())
    inner = stack[-1][0] if stack else ""
    return ".".join(part for part in (path, inner) if part)
