"""What layers are given in training, as a multiple of what they are given in evaluation: scales in the code around them."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.loss import _Loss
from torch.overrides import TorchFunctionMode
from torch.utils import _pytree as pytree

from dropkit.inference.factors import LOOKS, Factor, interval, keeps_mean
from dropkit.surgery.calls import call_model, copy_inputs
from dropkit.surgery.functional import read
from dropkit.surgery.modules import is_compiled, kind_of, walk

_TRIES = 4  # passes in training after which a flow that has not differed is taken to be the same
# What takes an argument's shape and not its values.
_MADE = frozenset(("rand_like", "randn_like", "randint_like", "zeros_like", "ones_like", "full_like", "empty_like", "new",
                   "new_empty", "new_zeros", "new_ones", "new_full", "new_tensor"))
_VIEWS = frozenset(("view", "reshape", "flatten", "unflatten", "squeeze", "unsqueeze", "transpose", "permute", "contiguous",
                    "t", "get", "to", "type", "float", "double", "clone", "detach", "chunk", "split", "unbind", "expand",
                    "type_as", "swapaxes", "expand_as", "view_as", "movedim"))
_SUMS = frozenset(("add", "iadd", "radd", "sub", "isub", "rsub", "subtract", "cat", "concat", "stack", "sum", "mean", "neg"))
_PRODUCTS = frozenset(("mul", "imul", "rmul", "multiply", "linear", "matmul", "rmatmul", "conv1d", "conv2d", "conv3d"))
_QUOTIENTS = frozenset(("div", "idiv", "truediv", "itruediv", "true_divide", "divide"))
_SET_DATA: Any = vars(torch._C.TensorBase)["data"].__set__
_Roots = frozenset[Any]
_CONSTANT: _Roots = frozenset()
_ADDED: _Roots = frozenset(["what is added"])  # a mask's token, a margin: it is no scale, so both modes are to have it
_TOLD = (_Loss, nn.Softmax, nn.Softmax2d, nn.LogSoftmax)  # are given what a model tells, where a temperature may be meant
_Key = tuple[str, int, int]  # a layer's path, which of its calls, which of its arguments


class _Taken:
    """What the layers of one pass were given: by key the tensor, and the values on which it depends linearly, if it does."""

    def __init__(self) -> None:
        self.given: dict[_Key, tuple[Tensor, _Roots | None]] = {}
        self.returned: dict[tuple[str, int], Any] = {}
        self.others: dict[tuple[str, str, int], Tensor] = {}  # results of what is not linear, by module, name and count


class _Flow(TorchFunctionMode):
    """Follows values from layer to layer through the code between them; see `flow_factors`.

    Args:
        model: it.
        known: the pass in evaluation, whose layers' results are returned again; None in that pass.
    """

    def __init__(self, model: nn.Module, known: _Taken | None) -> None:
        super().__init__()
        self.taken, self.known = _Taken(), known
        self.roots: dict[int, _Roots | None] = {id(x): _CONSTANT for x in (*model.parameters(), *model.buffers())}
        self.alive: list[Any] = []  # an id names one tensor only as long as that lives
        self.counts: dict[Any, int] = {}
        self.path, self.inside, self.lost = "", False, False

    def count(self, key: Any) -> int:
        self.counts[key] = self.counts.get(key, -1) + 1
        return self.counts[key]

    def start(self, given: Any) -> None:
        """Let the model's inputs be values that depend on nothing else."""
        self.name(given, lambda n: frozenset([("input", n)]))

    def name(self, result: Any, roots: Callable[[int], _Roots | None]) -> None:
        self.alive.append(result)
        self.roots.update((id(x), roots(n)) for n, x in enumerate(_tensors(result)))

    def layer(self, path: str, forward: Callable[..., Any], args: Any, kwargs: Any) -> Any:
        """Answer the call of a layer as it is answered in evaluation. What runs meanwhile is not followed."""
        if self.inside:
            return forward(*args, **kwargs)
        self.inside = True
        try:
            return self.answer(path, forward, args, kwargs)
        finally:
            self.inside = False

    def answer(self, path: str, forward: Callable[..., Any], args: Any, kwargs: Any) -> Any:
        call = self.count(path)
        for n, x in enumerate(_tensors((args, kwargs))):
            if x.is_floating_point():
                self.taken.given[path, call, n] = x.detach().clone(), None if self.lost else self.roots.get(id(x))
        if self.known is None:
            kept = self.taken.returned[path, call] = copy_inputs(forward(*args, **kwargs))
            result = copy_inputs(kept)  # a tensor of its own, also where a layer returns its argument
        elif (path, call) in self.known.returned:
            result = copy_inputs(self.known.returned[path, call])
        else:  # evaluation does not get there
            result = forward(*args, **kwargs)
            self.name(result, lambda n: None)
            return result
        self.name(result, lambda n: frozenset([(path, call, n)]))
        return result

    def __torch_function__(self, func: Any, types: Any, args: tuple[Any, ...] = (),
                           kwargs: dict[str, Any] | None = None) -> Any:
        given = kwargs or {}
        result = func(*args, **given)
        if not self.inside:
            name = getattr(func, "__name__", str(func)).strip("_")
            found = self.linear(name, func, args, given)
            if _tensors(result):
                found = self.other(name, result) if found is None else found
                # What is written over may share its memory with others.
                self.lost |= found is None and result is (args or (None,))[0] and name not in _VIEWS
                self.name(result, lambda n: found)
            elif name == "setitem" or func == _SET_DATA:
                self.lost |= any(self.roots.get(id(x)) != _CONSTANT for x in _tensors((args, given)))
        return result

    def linear(self, name: str, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> _Roots | None:
        """What a result depends on linearly, but for constants and noise; None where it does not."""
        if name in _MADE:
            return _CONSTANT
        each = [self.roots.get(id(x)) for x in _tensors((args, kwargs))]
        if any(roots is None for roots in each) or "out" in kwargs:
            return None
        depends = [roots for roots in each if roots]
        together: _Roots = frozenset().union(*depends)
        call = read(func, args, kwargs)
        if not depends or name in _VIEWS or (name == "getitem" and len(each) == 1):
            return together
        if name in _SUMS:
            return together | (_ADDED if len(depends) < len(each) or _number(name, args) else _CONSTANT)
        first = len(depends) == 1 and bool(each[0])
        if call is not None:
            return together if first and keeps_mean(call.rule.kind) and call.rule.training is not None else None
        alone = name in _PRODUCTS and len(depends) == 1 and not (name.startswith(("linear", "conv")) and not first)
        chosen = name == "where" and len(args) == 3 and not each[0] and (len(each) == len(depends) + 1) and all(
            isinstance(x, Tensor) or x == 0 for x in args)
        filled = name == "masked_fill" and first and len(args) == 3 and args[2] == 0
        return together if alone or chosen or filled or (name in _QUOTIENTS and first) else None

    def other(self, name: str, result: Any) -> _Roots | None:
        """The roots of what is not linear: itself, where it is what it is in evaluation."""
        key = self.path, name, self.count((self.path, name, "other"))
        values = _tensors(result)
        if len(values) != 1:
            return None
        if self.known is None:
            self.taken.others[key] = values[0].detach().clone()
        elif key not in self.known.others or not _equal(self.known.others[key], values[0]):
            return None
        return frozenset([key])


def flow_factors(model: nn.Module, inputs: Any, passes: int, *, level: float, near: float = 0.0) -> list[Factor]:
    """The factors of what layers are given, where the code between them acts in training.

    The layers, torch's modules and all that have no children, return in training what they return in evaluation. So what they
    are given differs by what the code between them does itself. It is measured where it depends linearly on layers' results and
    on the same ones in both modes; then its mean in training is to be what it is in evaluation. What softmax layers and losses
    are given is not measured.

    Args:
        model: any module, which is left in evaluation; what its forward changes stays changed.
        inputs: as in `dropkit.surgery.calls.call_model`.
        passes: in training, at least 2.
        level: of the intervals.
        near: as in `dropkit.inference.factors.module_factors`.

    Returns:
        Factors by the paths of the layers that are given something else.

    Example:
        >>> class Twice(nn.Module):
        ...     def __init__(self):
        ...         super().__init__()
        ...         self.drop, self.last = nn.Dropout(0.5), nn.Linear(4, 4)
        ...     def forward(self, x):
        ...         return self.last(self.drop(x) / 0.5 if self.training else self.drop(x))
        >>> [(found.name, found.factor) for found in flow_factors(Twice().eval(), torch.ones(2, 4), 9, level=0.999)]
        [('last', 2.0)]
    """
    if any(isinstance(module, torch.jit.ScriptModule) or is_compiled(module) or vars(module).get("_compiled_call_impl")
           for module in model.modules()):
        return []  # whose code cannot be followed
    try:
        return _measured(model, inputs, passes, level, near)
    except Exception:  # the model runs by itself, and not where its layers' results are given
        return []
    finally:
        model.eval()


def _measured(model: nn.Module, inputs: Any, passes: int, level: float, near: float) -> list[Factor]:
    known = _passed(model, inputs, None, False)
    again = _passed(model, inputs, known, False)
    told = {path for path, module in walk(model) if isinstance(module, _TOLD)}
    same = {key for key, (x, roots) in known.given.items() if roots and key[0] not in told and _found(again, key, x, roots) == 1
            and _equal(again.given[key][0], x)}
    each: dict[_Key, list[float]] = {key: [] for key in same}
    acts: set[_Key] = set()
    for n in range(passes):
        found = _passed(model, inputs, known, True)
        for key in list(each):
            x, roots = known.given[key]
            multiple = _found(found, key, x, roots)
            if multiple is None or not math.isfinite(multiple):
                del each[key]
                continue
            each[key].append(multiple)
            if not _equal(found.given[key][0], x):
                acts.add(key)
        acts &= each.keys()
        if (n + 1 >= _TRIES and not acts) or (near and n + 1 in LOOKS and all(
                abs(end - 1) < near for key in acts for end in interval(each[key], level))):
            break
    return [_factor(key, each[key], level) for key in each if key in acts]


def _factor(key: _Key, each: list[float], level: float) -> Factor:
    low, high = interval(each, level)
    return Factor(key[0], (low + high) / 2, low, high, True)


def _found(taken: _Taken, key: _Key, x: Tensor, roots: _Roots | None) -> float | None:
    """What a layer is given, as a multiple of what it is given in evaluation; None where the two cannot be compared."""
    value, depends = taken.given.get(key, (None, None))
    norm = float(x.double().square().sum())
    if value is None or depends != roots or value.shape != x.shape or not 0 < norm < math.inf:
        return None
    return 1.0 if _equal(value, x) else float((value.double() * x.double()).sum()) / norm


def _passed(model: nn.Module, inputs: Any, known: _Taken | None, training: bool) -> _Taken:
    model.train(training)
    given = copy_inputs(inputs)
    flow = _Flow(model, known)
    flow.start(given)
    with _layers(model, flow), flow:
        call_model(model, given)
    return flow.taken


@contextmanager
def _layers(model: nn.Module, flow: _Flow) -> Iterator[None]:
    """Let a flow answer for the layers of a model, and know whose forward runs otherwise."""
    with ExitStack() as undo:
        for path, module in walk(model):
            own = vars(module).get("forward")
            make = _answered if _is_layer(module) else _entered
            vars(module)["forward"] = make(flow, path, module.forward)
            undo.callback(vars(module).pop, "forward") if own is None else undo.callback(
                vars(module).__setitem__, "forward", own)
        yield


def _answered(flow: _Flow, path: str, forward: Callable[..., Any]) -> Callable[..., Any]:
    return lambda *args, **kwargs: flow.layer(path, forward, args, kwargs)


def _entered(flow: _Flow, path: str, forward: Callable[..., Any]) -> Callable[..., Any]:
    def run(*args: Any, **kwargs: Any) -> Any:
        outer, flow.path = flow.path, path
        try:
            return forward(*args, **kwargs)
        finally:
            flow.path = outer

    return run


def _is_layer(module: nn.Module) -> bool:
    if kind_of(module) is not None or not module._modules:
        return True
    return type(module).__module__.startswith("torch.nn.modules") and not isinstance(module, nn.Sequential)


def _number(name: str, args: tuple[Any, ...]) -> bool:
    return name not in ("sum", "mean", "cat", "concat", "stack", "neg") and any(
        isinstance(x, int | float) and x != 0 for x in args)


def _tensors(x: Any) -> list[Tensor]:
    return [leaf for leaf in pytree.tree_leaves(x) if isinstance(leaf, Tensor)]


def _equal(a: Tensor, b: Tensor) -> bool:
    return a.shape == b.shape and a.dtype == b.dtype and torch.equal(a, b)
