"""Every public symbol says what it is."""

import ast
from pathlib import Path

import dropkit

ROOT = Path(dropkit.__file__).parent
PUBLIC = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)


def is_setter(node):
    """A property is described at its getter."""
    return any(isinstance(mark, ast.Attribute) and mark.attr == "setter" for mark in node.decorator_list)


def is_overload(node):
    """A signature is described at its implementation."""
    return any(isinstance(mark, ast.Name) and mark.id == "overload" for mark in node.decorator_list)


def undocumented(source):
    """Names without a docstring: the module, and public classes, functions and methods reachable by public names."""
    tree = ast.parse(source)
    missing = [] if ast.get_docstring(tree) else ["<module>"]
    queue = [("", node) for node in tree.body]
    while queue:
        prefix, node = queue.pop()
        if not isinstance(node, PUBLIC) or node.name.startswith("_") or is_setter(node) or is_overload(node):
            continue
        name = prefix + node.name
        is_protocol = prefix and isinstance(node.body[0], ast.Expr) and node.body[0].value is not None and (
            isinstance(node.body[0].value, ast.Constant) and node.body[0].value.value is Ellipsis)
        if not ast.get_docstring(node) and not is_protocol:
            missing.append(name)
        if isinstance(node, ast.ClassDef):
            queue += [(name + ".", child) for child in node.body]
    return sorted(missing)


def test_public_symbols_are_documented():
    found = {str(file.relative_to(ROOT)): undocumented(file.read_text(encoding="utf-8")) for file in ROOT.rglob("*.py")}
    assert {file: names for file, names in found.items() if names} == {}


def test_what_is_exported_is_documented_and_exists():
    for name in dropkit.__all__:
        assert getattr(dropkit, name).__doc__, name


def test_a_missing_docstring_is_found():
    assert undocumented('"""M."""\nclass A:\n    """A."""\n    def f(self): return 1\n    def _g(self): return 1') == ["A.f"]
    assert undocumented("def f(): return 1") == ["<module>", "f"]
