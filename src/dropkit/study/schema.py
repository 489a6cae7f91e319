"""The form of ``result.json`` as a JSON Schema, made from the records that it holds."""

from __future__ import annotations

import types
import typing
from dataclasses import fields, is_dataclass
from typing import Any, Union, get_args, get_origin

from dropkit.study.result import SCHEMA, StudyResult

_PLAIN: dict[Any, str] = {str: "string", int: "integer", float: "number", bool: "boolean", type(None): "null"}


def json_schema() -> dict[str, Any]:
    """Return the JSON Schema (draft 2020-12) of ``result.json``.

    Every record becomes a definition with its docstring for a description; all its fields are required, and no others are
    allowed. The number in ``schema`` changes whenever a field is added, taken away or given another meaning.

    Example:
        >>> made = json_schema()
        >>> made["properties"]["schema"], made["$defs"]["SiteRate"]["required"]
        ({'const': 3}, ['name', 'kind', 'p'])

    References:
        Wright, Andrews, Hutton, Dennis, "JSON Schema: A Media Type for Describing JSON Documents", draft 2020-12.
    """
    definitions: dict[str, Any] = {}
    top = _record(StudyResult, definitions, leave_out=("out",))
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", "title": "result.json of a dropkit study", **top,
            "properties": {"schema": {"const": SCHEMA}, **top["properties"]}, "required": ["schema", *top["required"]],
            "$defs": definitions}


def _record(kind: Any, definitions: dict[str, Any], leave_out: tuple[str, ...] = ()) -> dict[str, Any]:
    hints = typing.get_type_hints(kind)
    kept = [item for item in fields(kind) if item.name not in leave_out]
    text = " ".join((kind.__doc__ or "").split("Args:")[0].split())
    return {"type": "object", "description": text, "additionalProperties": False,
            "properties": {item.name: _of(hints[item.name], definitions) for item in kept},
            "required": [item.name for item in kept]}


def _of(hint: Any, definitions: dict[str, Any]) -> dict[str, Any]:
    if hint in _PLAIN:
        return {"type": _PLAIN[hint]}
    if is_dataclass(hint):
        name = typing.cast("type", hint).__name__
        if name not in definitions:
            definitions[name] = {}  # first, so that a record that holds itself ends
            definitions[name] = _record(hint, definitions)
        return {"$ref": f"#/$defs/{name}"}
    origin, inner = get_origin(hint), get_args(hint)
    if origin in (Union, types.UnionType):
        return {"anyOf": [_of(part, definitions) for part in inner]}
    if origin is list:
        return {"type": "array", "items": _of(inner[0], definitions)}
    if origin is dict:
        return {"type": "object", "additionalProperties": _of(inner[1], definitions)}
    return {}  # anything
