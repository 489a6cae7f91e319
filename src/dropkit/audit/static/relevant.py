"""Which files are worth reading in full: the standard library's parser tells it thirty times as fast as LibCST reads them."""

from __future__ import annotations

import ast
import re
import warnings

_FUNCTIONS = frozenset(("dropout", "dropout1d", "dropout2d", "dropout3d"))
_ATTENTION = "scaled_dot_product_attention"
_MODULES = frozenset(("Dropout", "Dropout1d", "Dropout2d", "Dropout3d", "AlphaDropout", "FeatureAlphaDropout"))
_CALLS = _FUNCTIONS | _MODULES | {_ATTENTION}
_DROPS = re.compile("drop|scaled_dot", re.IGNORECASE)
_MODES = re.compile(r"backward|load_state_dict|prepare|\.(train|eval)\b(?!\s*\()")
_STEPS = frozenset(("backward", "load_state_dict", "prepare", "prepare_fx"))
_CALIBRATES = re.compile(r"quanti[sz].*calib|calib.*quanti[sz]", re.DOTALL | re.IGNORECASE)
_EXPLAINS = re.compile(r"captum|grad_cam|\bshap\b|def \w*(saliency|attribution|expla|heatmap|gradcam|relevance|importance|"
                       "sensitivity)", re.IGNORECASE)


def parsed(text: str) -> ast.Module:
    """Read a source with the standard library's parser.

    Args:
        text: the source.

    Raises:
        ValueError: it is no Python source.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of the source's own escapes and comparisons
            return ast.parse(text)
    except SyntaxError as error:
        raise ValueError(f"line {error.lineno}: {error.msg}") from error


def may_drop_always(tree: ast.Module, text: str) -> bool:
    r"""Whether a method calls something that drops and is not told the mode: what rule DK101 asks for.

    Args:
        tree: a file.
        text: its source.

    Example:
        >>> source = "class A:\n def forward(self, x):\n  return F.dropout(x{})"
        >>> [may_drop_always(ast.parse(text), text) for text in (source.format(""), source.format(", training=self.training"))]
        [True, False]
    """
    if not _DROPS.search(text):
        return False
    nodes = list(ast.walk(tree))
    names = {alias.asname: alias.name for node in nodes if isinstance(node, ast.ImportFrom) for alias in node.names
             if alias.asname and alias.name in _CALLS}
    methods = (node for node in nodes if isinstance(node, ast.FunctionDef) and node.name != "__init__")
    return any(isinstance(node, ast.Call) and _drops_always(node, names) for method in methods for node in ast.walk(method))


def may_mistake_mode(tree: ast.Module, text: str) -> bool:
    """Whether a file does what makes a mode wrong: what rules DK401 and DK402 ask for.

    Args:
        tree: the file.
        text: its source.

    Example:
        >>> may_mistake_mode(ast.parse("model.eval()"), "model.eval()"), may_mistake_mode(ast.parse("model.eval"), "model.eval")
        (False, True)
    """
    if _CALIBRATES.search(text) or _EXPLAINS.search(text):
        return True
    return bool(_MODES.search(text)) and any(
        (isinstance(node, ast.Attribute) and node.attr in _STEPS)
        or (isinstance(node, ast.alias) and node.name.rpartition(".")[2] in _STEPS)
        or (isinstance(node, ast.Expr) and isinstance(node.value, ast.Attribute) and node.value.attr in ("train", "eval"))
        for node in ast.walk(tree))


def _drops_always(call: ast.Call, names: dict[str, str]) -> bool:
    keywords = {found.arg: found.value for found in call.keywords}
    called = _called(call.func)
    called = names.get(called, called)
    if called == _ATTENTION:
        return isinstance(keywords.get("dropout_p"), ast.Constant | ast.Attribute)
    return called in _MODULES or (called in _FUNCTIONS and "training" not in keywords)


def _called(found: ast.expr) -> str:
    """The last name of what is called; empty where that is an attribute of ``self``."""
    if isinstance(found, ast.Name):
        return found.id
    if not isinstance(found, ast.Attribute):
        return ""
    root: ast.expr = found
    while isinstance(root, ast.Attribute):
        root = root.value
    return "" if isinstance(root, ast.Name) and root.id == "self" else found.attr
