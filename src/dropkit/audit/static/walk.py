"""Follows a model's mode through a file: statements. Functions of the file are read where they are called."""

from __future__ import annotations

import functools
from abc import ABC, abstractmethod
from collections.abc import Iterable
from dataclasses import replace

import libcst as cst

from dropkit.audit.finding import Finding
from dropkit.audit.static.facts import Cell, Context, Frame, State
from dropkit.audit.static.source import Source, children, dotted, names_in, nodes, words

HELD = {"val", "valid", "validation", "test", "held", "heldout", "holdout"}  # data that is kept from training
EVALUATION = HELD | {"validate", "dev", "eval", "evaluate", "evaluation"}
# Sampling with dropout on is meant in these, and so is a generator's noise.
PREDICTION = {"predict", "prediction", "predictions", "infer", "inference"}
MEANT = {"mc", "monte", "carlo", "bayes", "bayesian", "uncertainty", "epistemic", "bald", "stochastic"}
_STATEMENTS = 50_000  # loops are read twice and functions where they are called: a file that is deeper than this is left
_SWITCHES = {"eval", "evaluation", "evaluating", "mode", "training"}
_NUMBERS = ("item", "tolist", "numpy", "argmax")
_NO_GRAD = ("no_grad", "inference_mode")


class StatementWalker(ABC):
    """Reads statements in the order in which they run; what a call means is decided in `Walker`."""

    def __init__(self, source: Source) -> None:
        self.source = source
        self.state = State()
        self.frame = Frame()
        self.context = Context()
        self.result: Cell | None = None
        self.left = _STATEMENTS
        self.found: dict[tuple[str, int], Finding] = {}
        self.moded, self.unmoded = source.moded, source.unmoded

    @abstractmethod
    def evaluate(self, node: cst.CSTNode) -> Cell | None:
        """Read an expression; return the model that it names."""

    def block(self, statements: Iterable[cst.CSTNode]) -> bool:
        """Read statements; return whether the block is left in its midst."""
        return any(self.statement(found) for found in statements)

    def statement(self, node: cst.CSTNode) -> bool:
        """Read a statement; return whether nothing after it in its block runs."""
        self.left -= 1
        if self.left < 0:
            return True
        match node:
            case cst.If():
                return self._branches(node)
            case cst.For():
                self.evaluate(node.iter)
                self._loop(node, names_in(node.iter))
                if dotted(node.target) in self.moded:  # a loop over models: which ones cannot be seen
                    self.state.forget()
            case cst.While():
                self.evaluate(node.test)
                self._loop(node, frozenset())
            case cst.With():
                return self._with(node)
            case cst.Try() | cst.TryStar():
                left = self.block(children(node.body))
                for part in (node.orelse, node.finalbody):
                    left = self.block(children(part)) or left if part is not None else left
                return left
            case cst.FunctionDef():
                self.frame.functions[node.name.value] = node
            case cst.Assign() | cst.AnnAssign():
                self._assign(node)
            case cst.Return() | cst.Raise():
                self._returned(node)
                return True
            case cst.Break() | cst.Continue():
                return True
            case cst.ClassDef() | cst.Import() | cst.ImportFrom():
                pass
            case _:
                self.evaluate(node)
        return False

    def assign(self, target: cst.CSTNode, cell: Cell | None) -> None:
        """Let a variable name a model, or no longer any."""
        if isinstance(target, cst.Tuple | cst.List):
            for element in target.elements:
                self.assign(element.value, None)
            return
        name = dotted(target)
        names = self.frame.own if name.startswith("self.") else self.frame.names
        if cell is not None:
            names[name] = cell
        elif name in names or name in self.moded:
            names[name] = Cell(name)

    @abstractmethod
    def assigned(self, target: cst.CSTNode, value: cst.BaseExpression) -> None:
        """Note what a variable's value was made of."""

    def within(self, context: Context, statements: Iterable[cst.CSTNode]) -> bool:
        """Read statements in another context."""
        before, self.context = self.context, context
        try:
            return self.block(statements)
        finally:
            self.context = before

    def inline(self, function: cst.FunctionDef, names: dict[str, Cell], own: dict[str, Cell] | None = None,
               owner: cst.ClassDef | None = None, *, held: bool = False) -> Cell | None:
        """Read a function's body with its arguments bound; return the model that it returns.

        Data that is held out, among the arguments of a function that takes measures of it, says that it evaluates.
        """
        frame, name = self.frame, function.name.value
        evaluating = (is_evaluation(name) or (held and measures(function))) and not trains(function)
        evaluating = evaluating and not _switches(function)
        self.frame = Frame(name, dict(names), frame.own if own is None else own, dict(frame.functions), owner or frame.owner,
                           frame.depth + 1)
        context = replace(self.context, evaluating=evaluating or (self.context.evaluating and not trains(function)),
                          no_grad=self.context.no_grad or any(_is_no_grad(mark.decorator) for mark in function.decorators))
        self.result = None
        self.within(context, children(function.body))
        self.frame = frame
        result, self.result = self.result, None
        return result

    def _returned(self, node: cst.Return | cst.Raise) -> None:
        value = node.value if isinstance(node, cst.Return) else node.exc
        cell = None if value is None else self.evaluate(value)
        self.result = cell if cell is not None else self.result

    def _assign(self, node: cst.Assign | cst.AnnAssign) -> None:
        if node.value is None:
            return
        targets = [found.target for found in node.targets] if isinstance(node, cst.Assign) else [node.target]
        cell = self.evaluate(node.value)
        for target in targets:
            self.assign(target, cell)
            self.assigned(target, node.value)

    def _branches(self, node: cst.If) -> bool:
        self.evaluate(node.test)
        before = State(self.state)
        left = self.block(children(node.body))
        after, self.state = self.state, before
        other = node.orelse
        left_other = False
        if isinstance(other, cst.If):
            left_other = self.statement(other)
        elif other is not None:
            left_other = self.block(children(other.body))
        if not left:
            self.state = after if left_other else self.state.merged(after)
        return left and left_other

    def _loop(self, node: cst.For | cst.While, over: frozenset[str]) -> None:
        evaluating = (bool(over & EVALUATION) or self.context.evaluating) and not trains(node)
        phases = self.context.phases or (isinstance(node, cst.For) and _are_phases(node.iter))
        context = replace(self.context, loop=True, evaluating=evaluating, over=self.context.over | over, phases=phases)
        for _ in range(2):  # what one pass leaves behind is what the next one meets
            self.within(context, children(node.body))
        if node.orelse is not None:
            self.block(children(node.orelse.body))

    def _with(self, node: cst.With) -> bool:
        context = self.context
        for item in node.items:
            self.evaluate(item.item)
            if _is_no_grad(item.item):
                context = replace(context, no_grad=True)
        return self.within(context, children(node.body))


def is_evaluation(name: str) -> bool:
    """Whether a function's name says that it evaluates; a test function's does not."""
    return not name.startswith("test_") and bool(words(name) & (EVALUATION | PREDICTION)) and not words(name) & MEANT


@functools.lru_cache(maxsize=4096)
def trains(node: cst.CSTNode) -> bool:
    """Whether gradients are computed somewhere in a piece of source."""
    return any(isinstance(found, cst.Attribute) and found.attr.value == "backward" for found in nodes(node))


@functools.lru_cache(maxsize=4096)
def measures(node: cst.FunctionDef) -> bool:
    """Whether a function turns a model's outputs into numbers that no gradient flows through."""
    for found in nodes(node):
        if isinstance(found, cst.Attribute) and found.attr.value in _NUMBERS:
            return True
        if (isinstance(found, cst.Decorator) and _is_no_grad(found.decorator)) or (
                isinstance(found, cst.WithItem) and _is_no_grad(found.item)):
            return True
    return False


def _are_phases(node: cst.BaseExpression) -> bool:
    """Whether an expression lists the names of training and of an evaluation."""
    if not isinstance(node, cst.Tuple | cst.List):
        return False
    said = [words(found.value.value) for found in node.elements if isinstance(found.value, cst.SimpleString)]
    return any(name & {"train", "training"} for name in said) and any(name & EVALUATION for name in said)


def _switches(function: cst.FunctionDef) -> bool:
    """Whether a decorator may put the model into a mode."""
    return any(names_in(mark.decorator) & _SWITCHES and not _is_no_grad(mark.decorator) for mark in function.decorators)


def _is_no_grad(node: cst.CSTNode) -> bool:
    name = dotted(node.func if isinstance(node, cst.Call) else node)
    return name.rpartition(".")[2] in _NO_GRAD
