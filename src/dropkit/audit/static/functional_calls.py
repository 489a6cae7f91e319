"""Calls in a forward that drop whatever the mode is: the form of rule DK101 that source code shows."""

from __future__ import annotations

from collections.abc import Iterator

import libcst as cst

from dropkit.audit.finding import Finding
from dropkit.audit.static.source import Source, dotted, methods_of, names_in, nodes, parts

_RULE = "DK101"
_ALWAYS = {f"torch.nn.functional.{name}" for name in ("dropout", "dropout1d", "dropout2d", "dropout3d")}
_MODULES = {f"torch.nn.{name}" for name in ("Dropout", "Dropout1d", "Dropout2d", "Dropout3d", "AlphaDropout",
                                            "FeatureAlphaDropout")}
_ATTENTION = "torch.nn.functional.scaled_dot_product_attention"


def functional_calls(source: Source) -> Iterator[Finding]:
    """What rule DK101 finds in a file: dropout in a forward that does not ask for the mode."""
    for owner in source.classes.values():
        if source.is_module(owner) or source.is_lightning(owner):
            for method in _forwards(owner):
                yield from _in_forward(source, owner, method)


def _forwards(owner: cst.ClassDef) -> list[cst.FunctionDef]:
    """``forward`` and the methods that it calls."""
    methods = methods_of(owner)
    reached, queue = {}, ["forward"]
    while queue:
        name = queue.pop()
        if name in methods and name not in reached:
            reached[name] = methods[name]
            queue += [dotted(found.func)[5:] for found in nodes(methods[name])
                      if isinstance(found, cst.Call) and dotted(found.func).startswith("self.")]
    return list(reached.values())


def _in_forward(source: Source, owner: cst.ClassDef, method: cst.FunctionDef) -> Iterator[Finding]:
    switched = {dotted(found.value) for found in nodes(method) if isinstance(found, cst.Attribute)
                and found.attr.value in ("train", "eval")}
    built = {dotted(found.targets[0].target) for found in nodes(method) if isinstance(found, cst.Assign)
             and isinstance(found.value, cst.Call) and source.resolved(found.value.func) in _MODULES}
    for call in _unguarded(method.body):
        message = _wrong(source, call, {name for name in built if "." not in name} - switched)
        if message:
            subject = f"{owner.name.value}.{method.name.value}"
            yield Finding(_RULE, f"{message[0]} in {subject}", source.place(call), "error", message[1], subject=subject)


def _wrong(source: Source, call: cst.Call, built: set[str]) -> tuple[str, str] | None:
    name, keywords = source.resolved(call.func), {found.keyword.value: found.value for found in call.args if found.keyword}
    last = name.rpartition(".")[2]
    if any(found.star for found in call.args):
        return None
    positional = len(call.args) - len(keywords)
    if name in _ALWAYS and "training" not in keywords and positional < 3 and not _never(call, keywords):
        return (f"{last}() without training= drops in evaluation, too", "Pass training=self.training")
    if name == _ATTENTION and _ungated(keywords.get("dropout_p")):
        return (f"{last}() with dropout_p whatever the mode is drops in evaluation, too",
                "Pass dropout_p=... if self.training else 0.0")
    inner = source.resolved(call.func.func) if isinstance(call.func, cst.Call) else ""
    if inner in _MODULES or dotted(call.func) in built:
        return ("A dropout module that is built in each call is always in training mode and drops in evaluation, too",
                "Build it in __init__ as an attribute, so that eval() reaches it")
    return None


def _ungated(rate: cst.BaseExpression | None) -> bool:
    if isinstance(rate, cst.Float | cst.Integer):
        return float(rate.value) > 0
    return isinstance(rate, cst.Attribute) and dotted(rate).startswith("self.") and "training" not in names_in(rate)


def _never(call: cst.Call, keywords: dict[str, cst.BaseExpression]) -> bool:
    rate = keywords.get("p", call.args[1].value if len(call.args) > 1 and not call.args[1].keyword else None)
    return isinstance(rate, cst.Float | cst.Integer) and float(rate.value) == 0


def _unguarded(node: cst.CSTNode) -> Iterator[cst.Call]:
    """Calls that no condition on the mode guards."""
    if isinstance(node, cst.If | cst.IfExp) and names_in(node.test) & {"training", "train", "mc", "stochastic"}:
        return
    if isinstance(node, cst.Call):
        yield node
    for child in parts(node):
        yield from _unguarded(child)
