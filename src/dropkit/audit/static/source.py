"""A source file as the static rules read it: tree, positions, imports."""

from __future__ import annotations

import functools
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, fields
from functools import cached_property

import libcst as cst
from libcst.metadata import CodeRange, MetadataWrapper, PositionProvider

from dropkit.audit.finding import Place

_TYPOGRAPHY = re.compile(r"whitespace|lines|header|footer|[lr]par|[lr]brace|[lr]bracket|comma|semicolon|colon|dot|equal")
_LIGHTNING = re.compile(r"Lightning|(^|\.)(pl|lightning|L)\.")
_SWITCHES = ("train", "eval")
_MODELS = {"model", "net", "network", "classifier"}


@dataclass(frozen=True, eq=False)
class Source:
    """A parsed file.

    Args:
        path: as it is shown.
        text: its content.
        wrapper: its syntax tree, with what can be asked about it.
    """

    path: str
    text: str
    wrapper: MetadataWrapper = field(repr=False)

    @property
    def tree(self) -> cst.Module:
        """The syntax tree."""
        return self.wrapper.module

    @cached_property
    def every(self) -> list[cst.CSTNode]:
        """Every node, in the order of the text."""
        return list(nodes(self.tree))

    @cached_property
    def moded(self) -> set[str]:
        """The names whose mode is set somewhere; modules that are imported are none."""
        found = {dotted(node.value) for node in self.every if isinstance(node, cst.Attribute) and node.attr.value in _SWITCHES}
        return {name for name in found - {""} if "." not in name or name.partition(".")[0] not in self.imports}

    @cached_property
    def unmoded(self) -> set[str]:
        """Names of models, by their words, that are called, and that the file neither imports, defines nor puts into a mode."""
        called = {dotted(node.func) for node in self.every if isinstance(node, cst.Call)}
        defined = {node.name.value for node in self.every if isinstance(node, cst.FunctionDef | cst.ClassDef)}
        plain = {name for name in called if name.removeprefix("self.").isidentifier()}
        return {name for name in plain - self.moded if words(name) & _MODELS and name not in self.imports
                and name.removeprefix("self.") not in defined}

    @cached_property
    def positions(self) -> Mapping[cst.CSTNode, CodeRange]:
        """Where each node lies; found out for files with findings only, as it takes as long as reading them."""
        return self.wrapper.resolve(PositionProvider)

    @cached_property
    def lines(self) -> list[str]:
        """The lines, without their ends."""
        return self.text.splitlines()

    @cached_property
    def imports(self) -> dict[str, str]:
        """What each imported name stands for, such as ``{"F": "torch.nn.functional"}``."""
        return dict(pair for node in self.every for pair in _imported(node))

    @cached_property
    def functions(self) -> dict[str, cst.FunctionDef]:
        """Functions of the module's own level, by name."""
        return {node.name.value: node for node in children(self.tree) if isinstance(node, cst.FunctionDef)}

    @cached_property
    def classes(self) -> dict[str, cst.ClassDef]:
        """Every class, by name."""
        return {node.name.value: node for node in self.every if isinstance(node, cst.ClassDef)}

    def line(self, node: cst.CSTNode) -> int:
        """The first line of a node, from 1."""
        return self.positions[node].start.line

    def place(self, node: cst.CSTNode) -> Place:
        """A finding's place at a node."""
        line = self.line(node)
        return Place(file=self.path, line=line, code=self.lines[line - 1].strip() if line <= len(self.lines) else "")

    def resolved(self, node: cst.CSTNode) -> str:
        """A dotted name with its import written out: ``"F.dropout"`` as ``"torch.nn.functional.dropout"``; empty if none."""
        root, dot, rest = dotted(node).partition(".")
        return self.imports.get(root, root) + dot + rest

    def is_module(self, node: cst.ClassDef) -> bool:
        """Whether a class is an ``nn.Module`` as far as its text and the file's other classes tell."""
        return any(self._is_module_name(base.value, {node.name.value}) for base in node.bases)

    def is_lightning(self, node: cst.ClassDef) -> bool:
        """Whether a trainer switches this class's modes."""
        return any(_LIGHTNING.search(dotted(base.value)) or "lightning" in self.resolved(base.value) for base in node.bases)

    def _is_module_name(self, base: cst.BaseExpression, seen: set[str]) -> bool:
        name = dotted(base)
        if name in seen or name not in self.classes:
            return name.endswith("Module") or self.resolved(base) == "torch.nn.Sequential"
        return any(self._is_module_name(above.value, {*seen, name}) for above in self.classes[name].bases)


def parse_text(text: str, shown: str) -> Source:
    """Read a source.

    Args:
        text: the source.
        shown: how findings name its file.

    Raises:
        ValueError: it is no Python source.
    """
    try:
        return Source(shown, text, MetadataWrapper(cst.parse_module(text), unsafe_skip_copy=True))
    except cst.ParserSyntaxError as error:
        raise ValueError(f"line {error.raw_line}: {error.message}") from error


@functools.lru_cache(maxsize=2**16)
def parts(node: cst.CSTNode) -> tuple[cst.CSTNode, ...]:
    """The children of a node that say something: no white space, brackets or commas.

    The library's own list is made by copying the node, and the same lines are read many times.
    """
    found: list[cst.CSTNode] = []
    for name in _fields(type(node)):
        value = getattr(node, name)
        if isinstance(value, cst.CSTNode):
            found.append(value)
        elif isinstance(value, list | tuple):
            found += [one for one in value if isinstance(one, cst.CSTNode)]
    return tuple(found)


@functools.cache
def _fields(kind: type[cst.CSTNode]) -> tuple[str, ...]:
    return tuple(one.name for one in fields(kind) if not _TYPOGRAPHY.search(one.name))


def nodes(node: cst.CSTNode) -> Iterator[cst.CSTNode]:
    """A node and everything in it, what is nested after what it is nested in."""
    stack = [node]
    while stack:
        found = stack.pop()
        yield found
        stack += reversed(parts(found))


def children(node: cst.CSTNode) -> Iterator[cst.CSTNode]:
    """The statements of a block, single-line statements taken apart."""
    body = getattr(node, "body", None)
    if isinstance(body, cst.BaseSuite):
        yield from children(body)
        return
    for statement in body or ():
        if isinstance(statement, cst.SimpleStatementLine):
            yield from statement.body
        else:
            yield statement


def methods_of(owner: cst.ClassDef) -> dict[str, cst.FunctionDef]:
    """A class's methods by name."""
    return {found.name.value: found for found in children(owner.body) if isinstance(found, cst.FunctionDef)}


def dotted(node: cst.CSTNode) -> str:
    """``"a.b.c"`` for a name or attribute; empty for anything else."""
    if isinstance(node, cst.Name):
        return node.value
    if isinstance(node, cst.Attribute):
        base = dotted(node.value)
        return f"{base}.{node.attr.value}" if base else ""
    return ""


def words(text: str) -> set[str]:
    """The words of identifiers in lower case: ``"valLoader"`` and ``"val_loader"`` give ``{"val", "loader"}``."""
    return {part.lower() for part in re.findall(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+", text)}


@functools.lru_cache(maxsize=2**12)
def names_in(node: cst.CSTNode) -> frozenset[str]:
    """The words of every identifier in an expression."""
    return frozenset(word for found in nodes(node) if isinstance(found, cst.Name) for word in words(found.value))


def _imported(node: cst.CSTNode) -> Iterator[tuple[str, str]]:
    if isinstance(node, cst.Import):
        for alias in node.names:
            name = dotted(alias.name)
            root = name.partition(".")[0]
            yield (dotted(alias.asname.name), name) if alias.asname else (root, root)
    elif isinstance(node, cst.ImportFrom) and node.module is not None and not isinstance(node.names, cst.ImportStar):
        for alias in node.names:
            name = dotted(alias.name)
            yield (dotted(alias.asname.name) if alias.asname else name), f"{dotted(node.module)}.{name}"
