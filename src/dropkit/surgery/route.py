"""Route a module's forward: the functions that it calls draw dropkit's masks, at rates that can be set."""

from __future__ import annotations

import copyreg
import functools
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from dropkit.core.errors import InputError, phrase
from dropkit.core.intercept import THREAD
from dropkit.core.rates import check_rate
from dropkit.surgery.discover import Found
from dropkit.surgery.functional import Call, read
from dropkit.surgery.mode import DropMode
from dropkit.surgery.watch import tell

_ATTRIBUTE = "_dropkit_routing"
_NEW: Any = copyreg.__newobj__  # type: ignore[attr-defined]
_MARK = "_dropkit_routed_class"


@dataclass
class RoutedCall:
    """A functional call in a routed forward.

    Args:
        key: the function's name, with a number from the second call on.
        kind: a catalog name.
        called: the rate that the code gave it when it was found.
        training: whether it may drop in training.
        always: whether it drops in evaluation too.
        where: file and line.
    """

    key: str
    kind: str
    called: float
    training: bool
    always: bool
    where: str
    _p: float | None = None
    _rate: Tensor | None = field(default=None, repr=False)

    @property
    def p(self) -> float:
        """The rate: the one that was set, or the code's own."""
        return self.called if self._p is None else self._p

    @p.setter
    def p(self, p: float) -> None:
        rate = check_rate(p)
        self._p = None if rate == self.called else rate
        self._rate = None if self._p is None else torch.tensor(rate, dtype=torch.float64, device="cpu")

    @property
    def is_set(self) -> bool:
        """Whether the rate is another than the code's own."""
        return self._p is not None

    def current_rate(self) -> float | Tensor | None:
        """What was set, as functions take it: a tensor while compiling, so that no value is burnt in; None for nothing."""
        return self._rate if torch.compiler.is_compiling() else self._p


class Routing:
    """What a routed module knows.

    Args:
        path: its path in the model, which names the streams.
        calls: the functional calls in its forward; None for a module that is a site itself.
        in_evaluation: whether the forward is routed in evaluation mode too.
    """

    def __init__(self, path: str, calls: Iterable[RoutedCall] | None, in_evaluation: bool) -> None:
        self.path, self.in_evaluation = path, in_evaluation
        self.calls = None if calls is None else {call.key: call for call in calls}


class _Router:
    """One forward of a routed module, as an `Interceptor`."""

    def __init__(self, routing: Routing, training: bool) -> None:
        self._routing, self._training = routing, training
        self._counts: dict[str, int] = {}

    def handle(self, function: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        call = read(function, args, kwargs)
        THREAD.interceptor = None
        try:
            if call is None:
                return getattr(function, "__wrapped__", function)(*args, **kwargs)
            p, stream = self._resolve(call)
            if THREAD.watchers and tell(call, p):
                return call.without_dropout()
            return call.dropped(p, stream)
        finally:
            THREAD.interceptor = self

    def _resolve(self, call: Call) -> tuple[Any, str]:
        """The rate and the stream of a call."""
        path, calls = self._routing.path, self._routing.calls
        name = "" if calls is None else call.rule.name
        count = self._counts.get(name, 0)
        self._counts[name] = count + 1
        # A colon and not "#": a second forward in one keyed context appends "#1" to every name.
        stream = (f"{path}:{name}" if name else path) + (f":{count}" if count else "")
        known = None if calls is None else calls.get(f"{name}#{count}" if count else name)
        rate = None if known is None else known.current_rate()
        # The code may turn dropout off by a rate of 0 in evaluation: there a rate that was set does not turn it on.
        may_act = self._training or isinstance(call.p, Tensor) or call.p != 0
        return (call.p if rate is None or not may_act else rate), stream


def routing_of(module: nn.Module) -> Routing | None:
    """What a module's routing knows, or None where it has none.

    Args:
        module: any module.

    Example:
        >>> routing_of(nn.Linear(1, 1)) is None
        True
    """
    routing: Routing | None = vars(module).get(_ATTRIBUTE)
    return routing


def check_routable(name: str, module: nn.Module) -> None:
    """Refuse a module whose forward cannot be routed.

    Args:
        name: its path.
        module: the module.

    Raises:
        InputError: for a scripted, traced or parametrised module, and one whose ``forward`` was assigned to the instance.
    """
    graph = any(base.__module__ == "torch.fx.graph_module" for base in type(module).__mro__)
    reason = (
        ("a scripted or traced module", "Swap before torch.jit") if isinstance(module, torch.jit.ScriptModule) else
        ("an fx graph", "Swap before tracing") if graph else
        ("a parametrised module", "Swap before parametrising; or remove its parametrisations, swap and register them again")
        if "parametrizations" in module._modules else
        ("a module whose forward was replaced on the instance", "Swap before what replaced it, such as accelerate's hooks")
        if "forward" in vars(module) else None)
    if reason is not None:
        raise InputError("a module whose forward is routed has an ordinary forward", got=phrase(f"{reason[0]} at {name!r}"),
                         fix=reason[1])


def route(module: nn.Module, routing: Routing) -> None:
    """Route a module's forward, by a change of its class to a subclass of the same name.

    Args:
        module: one that `check_routable` lets through.
        routing: what it knows from now on; replaces what it knew.
    """
    if routing_of(module) is None:
        module.__class__ = _routed_class(type(module))
    vars(module)[_ATTRIBUTE] = routing


def unroute(module: nn.Module) -> None:
    """Give a module its own forward back.

    Args:
        module: a routed one.
    """
    module.__class__ = type(module).__bases__[0]
    del vars(module)[_ATTRIBUTE]


def routed_calls(path: str, found: Iterable[Found], before: Routing | None) -> Routing:
    """The routing of a module in whose forward calls were found; rates that were set stay.

    Args:
        path: the module's.
        found: the calls.
        before: the routing that it has.
    """
    calls = {call.key: RoutedCall(call.key, call.kind, call.called, call.training, call.always, call.where) for call in found}
    for key, known in ((before.calls or {}) if before is not None else {}).items():
        if key not in calls:
            calls[key] = known
        elif known.is_set:
            calls[key].p = known.p
    return Routing(path, calls.values(), any(call.always for call in calls.values()))


def _routed_class(base: type[nn.Module]) -> type[nn.Module]:
    """The class of routed modules of a class; made once, and gone with the last of them."""
    return next((known for known in base.__subclasses__() if _MARK in vars(known)), None) or _make_routed_class(base)


def _make_routed_class(base: Any) -> type[nn.Module]:
    def forward(self: nn.Module, *args: Any, **kwargs: Any) -> Any:
        routing = routing_of(self)
        if routing is None:
            return base.forward(self, *args, **kwargs)
        outer = THREAD.interceptor
        try:
            if not (self.training or routing.in_evaluation):
                # Shielded from the router of a module around it, whose calls these are not.
                THREAD.interceptor = THREAD.watchers[-1] if THREAD.watchers else None
                return base.forward(self, *args, **kwargs)
            router = _Router(routing, self.training)
            THREAD.interceptor = router
            with DropMode(router):
                return base.forward(self, *args, **kwargs)
        finally:
            THREAD.interceptor = outer

    def reduce(self: nn.Module, protocol: Any) -> Any:
        reduced: Any = base.__reduce_ex__(self, protocol)
        if not isinstance(reduced, tuple) or reduced[0] is not _NEW or reduced[1] != (type(self),):
            raise InputError("a routed module is pickled as PyTorch pickles modules", got=phrase(f"{base.__name__}.__reduce__"),
                             fix='Call dropkit.swap(model, to="torch") first')
        return (_new_routed, (base,), *reduced[2:])

    members = {"forward": functools.wraps(base.forward)(forward), "__reduce_ex__": reduce, "__module__": base.__module__,
               "__qualname__": base.__qualname__, "__doc__": base.__doc__, _MARK: True}
    routed: type[nn.Module] = type(base)(base.__name__, (base,), members)
    return routed


def _new_routed(base: type[nn.Module]) -> nn.Module:
    routed = _routed_class(base)
    return routed.__new__(routed)
