"""One watched forward of a model: its operations, its sites, and randomness that no site explains."""

from __future__ import annotations

import linecache
import math
import os
import random
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode
from torch.utils import checkpoint
from torch.utils._pytree import tree_leaves

from dropkit.audit.deadline import ENDED, Unfinished, ended_after
from dropkit.audit.finding import Place
from dropkit.audit.observation import Op, Opaque, Pass, SiteCall
from dropkit.surgery.calls import call_model, copy_inputs
from dropkit.surgery.draws import Draws
from dropkit.surgery.functional import Call, read
from dropkit.surgery.modules import kind_of, rate_attribute, walk
from dropkit.surgery.watch import Frame, Watch
from dropkit.variants.recurrent_module import RecurrentSites

_TORCH = os.path.dirname(torch.__file__) + os.sep
_MOST = 100_000  # operations of a pass: what the graph keeps of them grows with their square
LIMIT = 300.0
_OURS = os.path.dirname(os.path.dirname(__file__)) + os.sep


def place_of_call(module: str) -> Place:
    """The line of user code that runs: the nearest frame outside torch and dropkit, below the probe.

    Args:
        module: the path of the innermost module.
    """
    frame = sys._getframe(1)
    while frame is not None and frame.f_code is not run_pass.__code__:
        name = frame.f_code.co_filename
        if not name.startswith((_TORCH, _OURS)) and os.sep + "contextlib" not in name:
            return Place(module, name, frame.f_lineno, linecache.getline(name, frame.f_lineno).strip())
        frame = frame.f_back  # type: ignore[assignment]
    return Place(module)


def _forgetful() -> Place | None:
    """The line that calls a checkpoint around what runs now that keeps no random state; None where there is none."""
    frame = sys._getframe(1)
    while frame is not None and frame.f_code is not run_pass.__code__:
        if frame.f_code.co_filename == checkpoint.__file__ and frame.f_locals.get("preserve") is False:
            above = frame.f_back
            while above is not None and above.f_code.co_filename.startswith((_TORCH, _OURS)):
                above = above.f_back
            if above is not None:
                name = above.f_code.co_filename
                return Place(None, name, above.f_lineno, linecache.getline(name, above.f_lineno).strip())
        frame = frame.f_back  # type: ignore[assignment]
    return None


class _Recorder:
    """What the modes and hooks of one pass share."""

    def __init__(self, mode: str, limit: float) -> None:
        self.result = Pass(mode)
        self.limit, self.end = limit, time.monotonic() + limit
        self.stack: list[str] = []
        self.made: dict[int, Op] = {}
        self.alive: list[Any] = []  # an id names one tensor only as long as that lives
        self.depth = 0
        self.pending: SiteCall | None = None
        self.names: dict[int, str] = {}

    @property
    def path(self) -> str:
        return self.stack[-1] if self.stack else ""

    def go_on(self) -> None:
        """End a pass that runs for too long, or whose operations are too many to be kept.

        Raises:
            Unfinished: it does.
        """
        if time.monotonic() > self.end:
            raise Unfinished(f"it runs for longer than {self.limit:g} s")
        if len(self.result.ops) >= _MOST:
            raise Unfinished(f"it has more than {_MOST} operations")

    def op(self, name: str, given: Any, result: Any, arguments: dict[str, Any] | None = None) -> Op:
        tensors = [leaf for leaf in tree_leaves(given) if isinstance(leaf, Tensor)]
        parents = tuple(dict.fromkeys(self.made[id(x)] for x in tensors if id(x) in self.made))
        outputs = [leaf for leaf in tree_leaves(result) if isinstance(leaf, Tensor)]
        op = Op(len(self.result.ops), name, self.path, place_of_call(self.path), parents, [],
                tuple(outputs[0].shape) if outputs else (), tuple(self.names[id(x)] for x in tensors if id(x) in self.names),
                None, arguments or {})
        for parent in parents:
            parent.users.append(op)
        self.made.update((id(x), op) for x in outputs)
        self.alive += outputs
        self.result.ops.append(op)
        return op

    def site(self, name: str, kind: str, p: float, active: bool, functional: bool) -> None:
        op = Op(-1, kind, self.path, place_of_call(self.path))
        op.site = self.pending = SiteCall(name, kind, p, active, functional, op, _forgetful())
        self.result.sites.append(self.pending)

    def drawn(self, operator: Any, result: Any) -> None:
        if not self.depth:
            self.result.opaque.append(Opaque(str(operator), self.path, place_of_call(self.path)))

    def settle(self, result: Any, start: int) -> None:
        """Give the site that waits for its operation the one that made the result: dropkit's functions are several.

        A site that returned its argument gets an operation of its own, after that which made the argument.
        """
        site, self.pending = self.pending, None
        outputs = [leaf for leaf in tree_leaves(result) if isinstance(leaf, Tensor)]
        if site is None or not outputs:
            return
        made = self.made.get(id(outputs[0]))
        if made is None or made.index < start or made.site is not None:
            made = self.op(site.kind, outputs, outputs)
        _take_for_one(made, start)
        made.site, made.name, site.op = site, site.kind, made

    def module_site(self, path: str, module: nn.Module, output: Any, before: int, start: int) -> None:
        """Note a module that is a site and that called no function of `RULES` by which it would have been noted."""
        if any(site.name == path for site in self.result.sites[before:]):
            return
        if isinstance(module, RecurrentSites):  # its children hold rates and modes, and it does their work: one operation
            held: dict[str, Any] = {name: child for name, child in module.named_children() if kind_of(child) is not None}
            self.result.entered.update(f"{path}.{name}".removeprefix(".") for name in held)
            p = max((float(child.p) for child in held.values()), default=0.0)
            active = any(child.training and child.p != 0 for child in held.values())
        else:
            name = "dropout" if isinstance(module, nn.RNNBase) else rate_attribute(module)
            p = float(getattr(module, name)) if name is not None else math.nan
            active = module.training and p != 0
        self.site(path, kind_of(module) or "recurrent", p, active, False)
        self.settle(output, start)

    def notice(self, frame: Frame, key: str, call: Call, p: float) -> bool:
        name = f"{frame.path}:{key}" if key else frame.path
        self.site(name, call.rule.kind, float(p), bool(call.training) and p != 0, bool(key))
        return False


def _take_for_one(op: Op, start: int) -> None:
    """Let an operation stand for all since ``start`` that led to it, back to what these were given or another site made."""
    before, to_see, seen = set[Op](), list(op.parents), set[Op]()
    while to_see:
        parent = to_see.pop()
        if parent.index < start or parent.site is not None:
            before.add(parent)
        elif parent not in seen:
            seen.add(parent)
            to_see += parent.parents
    op.parents = tuple(sorted(before, key=lambda parent: parent.index))
    for parent in op.parents:
        parent.users = [user for user in parent.users if user not in seen and user is not op] + [op]


class _Sites(Watch):
    """Marks the time in which a function that drops runs."""

    recorder: _Recorder

    def handle(self, function: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Answer a call; see `Watch.handle`."""
        self.recorder.depth += 1
        start = len(self.recorder.result.ops)
        try:
            result = super().handle(function, args, kwargs)
            self.recorder.settle(result, start)
            return result
        finally:
            self.recorder.depth -= 1


class _Semantic(TorchFunctionMode):
    def __init__(self, recorder: _Recorder) -> None:
        super().__init__()
        self.recorder = recorder

    def __torch_function__(self, func: Any, types: Any, args: tuple[Any, ...] = (),
                           kwargs: dict[str, Any] | None = None) -> Any:
        given, recorder = kwargs or {}, self.recorder
        recorder.go_on()
        result = func(*args, **given)
        if any(isinstance(leaf, Tensor) for leaf in tree_leaves(result)):
            call = read(func, args, given)
            kept = {} if call is None else {k: v for k, v in call.arguments.items() if not isinstance(v, Tensor)}
            op = recorder.op(getattr(func, "__name__", str(func)).strip("_"), (args, given), result, kept or dict(
                (k, v) for k, v in given.items() if not isinstance(v, Tensor)))
            if call is not None and recorder.pending is not None:
                op.site, recorder.pending.op, recorder.pending = recorder.pending, op, None
        return result


def _moved(state: Any) -> bool:
    """Whether numpy's global generator has moved from a state: its key and position."""
    now = np.random.get_state(legacy=False)["state"]
    return bool(now["pos"] != state["state"]["pos"]) or not np.array_equal(now["key"], state["state"]["key"])


@contextmanager
def _hooks(model: nn.Module, recorder: _Recorder) -> Iterator[None]:
    """Keep the stack of modules; modules that are sites, recurrent ones too, explain what is drawn in them."""
    with ExitStack() as undo:
        for path, module in walk(model):
            if isinstance(module, torch.jit.ScriptModule):  # takes no hooks; the truth pass sees what it draws
                continue
            recurrent = isinstance(module, RecurrentSites) or (
                isinstance(module, nn.RNNBase) and module.dropout > 0 and module.num_layers > 1)
            known = recurrent or kind_of(module) is not None
            starts: list[tuple[int, int]] = []

            def enter(part: nn.Module, args: Any, path: str = path, known: bool = known,
                      starts: list[tuple[int, int]] = starts) -> None:
                recorder.stack.append(path)
                starts.append((len(recorder.result.sites), len(recorder.result.ops)))
                recorder.result.entered.add(path)
                recorder.depth += known

            def leave(part: nn.Module, args: Any, output: Any, path: str = path, known: bool = known,
                      starts: list[tuple[int, int]] = starts) -> None:
                before, start = starts.pop()
                if known:
                    recorder.module_site(path, part, output, before, start)
                recorder.stack.pop()
                recorder.depth -= known

            undo.callback(module.register_forward_pre_hook(enter).remove)
            undo.callback(module.register_forward_hook(leave).remove)
        yield


def run_pass(model: nn.Module, inputs: Any, mode: str, seed: int = 0, limit: float = LIMIT) -> Pass:
    """Run a model once, watched, in the mode in which it is. What the model raises, or what ends it, is kept in the result.

    A loop is ended where it calls torch, or, if it never does, a second later wherever it is.

    Args:
        model: any module; what its forward changes stays changed.
        inputs: as in `dropkit.surgery.calls.call_model`.
        mode: the pass's name.
        seed: of torch's, Python's and numpy's generators.
        limit: seconds.
    """
    recorder = _Recorder(mode, limit)
    recorder.names = {id(x): name for name, x in model.named_parameters()}
    given = copy_inputs(inputs)
    recorder.op("input", (), given)
    torch.default_generator.manual_seed(seed)  # torch.manual_seed would seed devices that are not in use yet, when they are
    if torch.cuda.is_initialized():  # type: ignore[no-untyped-call]
        torch.cuda.manual_seed_all(seed)
    random.seed(seed)
    np.random.seed(seed)
    states, differentiates = (random.getstate(), np.random.get_state(legacy=False)), torch.is_grad_enabled()
    watch = _Sites(model, recorder.notice)
    watch.recorder = recorder
    try:
        with (ended_after(limit, grace=1.0), torch.no_grad(), _hooks(model, recorder), Draws(recorder.drawn),
              _Semantic(recorder), watch):
            recorder.result.output = call_model(model, given)
    except ENDED as error:
        recorder.result.error = error
    finally:
        torch.set_grad_enabled(differentiates)  # a pass that is ended leaves the model's own `no_grad` blocks by the same error
    for name, moved in (("python random", random.getstate() != states[0]), ("numpy random", _moved(states[1]))):
        if moved:
            recorder.result.opaque.append(Opaque(name, "", Place("")))
    return recorder.result
