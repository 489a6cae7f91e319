"""Dropout in a graph: made by torch.fx, torch.export or torch.jit, with the mode of that moment written into it."""

from __future__ import annotations

import linecache
import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import torch
from torch import fx, nn
from torch.nn.modules.module import register_module_forward_pre_hook

from dropkit.audit.finding import Place
from dropkit.audit.observation import EVAL, Observation
from dropkit.audit.probe_pass import place_of_call, run_pass
from dropkit.surgery.calls import unmoved
from dropkit.surgery.functional import read

Fixed = tuple[float, bool]  # a rate, and whether the call drops
_RATES = ("p", "dropout", "dropout_p")
_DROPS = re.compile(r"dropout|lstm|gru|rnn_|attention")
_LINE = re.compile(r"^(?P<file>[^\n]+)\((?P<line>\d+)\): ", re.MULTILINE)
_TRACER = str(Path("torch", "jit", "_trace.py"))
_COMPILER = str(Path("torch", "_dynamo"))


def graphs(modules: dict[str, nn.Module]) -> dict[str, nn.Module]:
    """The modules that run a graph, by path; of scripts in scripts the outermost, whose graph holds the others.

    Args:
        modules: of a model, by path.
    """
    found: dict[str, nn.Module] = {}
    for path, module in modules.items():
        inside = any(isinstance(part, torch.jit.ScriptModule) and (not above or path.startswith(f"{above}."))
                     for above, part in found.items())
        if isinstance(module, fx.GraphModule) or (isinstance(module, torch.jit.ScriptModule) and not inside):
            found[path] = module
    return found


def fixed_calls(module: nn.Module) -> list[Fixed]:
    """The calls of a graph that drop, or do not, whatever the mode is; in the mode in which the module is.

    Args:
        module: a `torch.fx.GraphModule`, or a module of `torch.jit`.

    Example:
        >>> class Net(nn.Module):
        ...     def forward(self, x):
        ...         return torch.dropout(x, 0.2, self.training)
        >>> fixed_calls(fx.symbolic_trace(Net())), fixed_calls(fx.symbolic_trace(Net().eval()))
        ([(0.2, True)], [(0.2, False)])
    """
    if isinstance(module, fx.GraphModule):
        found = (_call(node.target, node.args, node.kwargs) for node in module.graph.nodes if node.op == "call_function")
    else:
        found = (_by_name(_arguments(node)) for node in script_nodes(module))
    return [(rate, training) for rate, training in filter(None, found)
            if isinstance(rate, float | int) and rate > 0 and isinstance(training, bool)]


def script_nodes(module: Any) -> Iterator[Any]:
    """The nodes of a script that may drop.

    Args:
        module: of `torch.jit`; another has none.
    """
    if not isinstance(module, torch.jit.ScriptModule):
        return
    try:
        queue: list[Any] = [module.inlined_graph]
    except (AttributeError, RuntimeError):  # a container without a forward has no graph
        return
    while queue:
        for node in queue.pop().nodes():
            queue += node.blocks()
            if node.kind().startswith("aten::") and _DROPS.search(node.kind()):
                yield node


def traced_at(module: nn.Module, path: str) -> Place | None:
    """The line that traced a module; None where the graph does not tell.

    Args:
        module: any; only one of `torch.jit` tells.
        path: of the module.
    """
    for node in script_nodes(module):
        frames = [(match["file"], int(match["line"])) for match in _LINE.finditer(node.sourceRange())]
        last = max((index for index, (file, _) in enumerate(frames) if file.endswith(_TRACER)), default=None)
        # Once anything has been compiled, torch's compiler stands between the tracer and its caller.
        callers = [] if last is None else [frame for frame in frames[last + 1:] if _COMPILER not in frame[0]]
        if callers:
            file, line = callers[0]
            return Place(path, file, line, linecache.getline(file, line).strip())
    return None


def called_from(seen: Observation, parts: dict[str, nn.Module]) -> dict[str, Place]:
    """The lines of user code that call some modules, by path, from a pass in evaluation.

    Args:
        seen: what the probe has seen.
        parts: the modules.
    """
    names = {id(part): path for path, part in parts.items()}
    found: dict[str, Place] = {}

    def note(module: nn.Module, args: Any) -> None:
        path = names.get(id(module))
        if path is not None:
            found.setdefault(path, place_of_call(path))

    hook = register_module_forward_pre_hook(note)  # of all modules: a script takes no hook of its own
    try:
        with unmoved(seen.model):
            run_pass(seen.model, seen.inputs, EVAL)
    finally:
        hook.remove()
    return {path: place for path, place in found.items() if place.file and not place.file.startswith("<")}


def _call(target: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[Any, Any] | None:
    if isinstance(target, torch._ops.OpOverload):
        names = [argument.name for argument in target._schema.arguments]
        return _by_name({**dict(zip(names, args, strict=False)), **kwargs})
    call = read(target, args, kwargs)
    return None if call is None else (call.p, call.training)


def _by_name(given: dict[str, Any]) -> tuple[Any, Any] | None:
    """The rate and the flag of an operator; one that takes a ``dropout_p`` and no flag drops whenever that is above zero."""
    rate = next((given[name] for name in _RATES if name in given), None)
    if rate is None or given.get("num_layers") == 1:  # between layers only
        return None
    return rate, given.get("train", given.get("training", "dropout_p" in given or None))


def _arguments(node: Any) -> dict[str, Any]:
    names: Iterable[Any] = torch._C.parse_schema(node.schema()).arguments
    return {argument.name: value.toIValue() for argument, value in zip(names, node.inputs(), strict=False)}
