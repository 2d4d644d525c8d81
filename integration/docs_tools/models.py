"""Describe settings and manifest fields by their pydantic models."""

from __future__ import annotations

import inspect
import json
import re
import types
import typing
from collections.abc import Iterator, Mapping
from typing import Any

from pydantic import BaseModel
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from bucketwheel.runs import drift_records, manifest
from bucketwheel.runs.record import Record
from bucketwheel.settings import DatasetSettings, LayoutSettings, Settings
from bucketwheel.settings.base import parse_bytes, parse_memory

from .parts import Words, table

_UNITS = (("GiB", 2**30), ("GB", 10**9), ("MiB", 2**20), ("KiB", 2**10))
# Heading of the settings at the top level.
_GENERAL = "General"
_ATTRIBUTE = re.compile(r"^    (\w+): (.*)$")


def attributes(model: type[BaseModel]) -> dict[str, str]:
    """Return the description of each field in the section `Attributes:` of a docstring."""
    _, _, section = (inspect.getdoc(model) or "").partition("Attributes:\n")
    descriptions: dict[str, str] = {}
    name = ""
    for line in section.splitlines():
        if match := _ATTRIBUTE.match(line):
            name = match[1]
            descriptions[name] = match[2]
        elif name and line.strip():
            descriptions[name] += f" {line.strip()}"
    return descriptions


def help_of(model: type[BaseModel], name: str) -> str:
    """Return the description of a field."""
    return model.model_fields[name].description or attributes(model).get(name, "")


def leaves(model: type[BaseModel], prefix: str = "") -> Iterator[tuple[str, type[BaseModel], str]]:
    """Yield every setting as (dotted name, model, field)."""
    for name, field in model.model_fields.items():
        kind = field.annotation
        if isinstance(kind, type) and issubclass(kind, BaseModel):
            yield from leaves(kind, f"{prefix}{name}.")
        elif name == "datasets":
            yield from leaves(DatasetSettings, "datasets.<name>.")
        else:
            yield f"{prefix}{name}", model, name
            if name == "layouts":
                yield from leaves(LayoutSettings, "layouts.<number>.")


def settings(old: Words) -> str:
    """Return a section with a table for each group of settings: datasets first, then those without a group."""
    groups: dict[str, list[tuple[str, str, str]]] = {"datasets": [], _GENERAL: []}
    for dotted, model, name in leaves(Settings):
        group = dotted.partition(".")[0] if "." in dotted else _GENERAL
        text = help_of(model, name) or old.get((group, dotted), "")
        row = (f"`{dotted}`", f"`{default_text(model.model_fields[name])}`", text)
        groups.setdefault(group, []).append(row)
    return "\n\n".join(
        f"## {group if group == _GENERAL else f'`{group}`'}\n\n{table(('setting', 'default', 'meaning'), rows)}"
        for group, rows in groups.items()
    )


def default_text(field: FieldInfo) -> str:
    """Return the default of a setting in YAML."""
    value = field.default
    if value is PydanticUndefined:
        return "required"
    if isinstance(value, int) and not isinstance(value, bool) and _is_size(field):
        unit, size = next(((unit, size) for unit, size in _UNITS if value % size == 0), ("", 1))
        return f"{value // size}{unit}"
    if isinstance(value, str):
        return value
    if isinstance(value, float):
        return repr(value).removesuffix(".0")
    if isinstance(value, tuple | Mapping) and value:
        return ", ".join(value)
    return json.dumps(value)


def _is_size(field: FieldInfo) -> bool:
    functions = [getattr(part, "func", None) for part in field.metadata]
    return parse_bytes in functions or parse_memory in functions


def records() -> list[type[BaseModel]]:
    """Return the models of a manifest: the manifest first, the others in the order of the code."""
    record_classes = [
        kind
        for kind in {**vars(manifest), **vars(drift_records)}.values()
        if isinstance(kind, type) and issubclass(kind, Record) and kind is not Record
    ]
    return sorted(record_classes, key=lambda kind: (kind is not manifest.Manifest, kind is not manifest.StageRecord))


def manifest_fields(old: Words) -> str:
    """Return a section for each record of the manifest, with a table of its fields."""
    sections = []
    for model in records():
        rows = []
        for name, field in model.model_fields.items():
            text = help_of(model, name) or old.get((model.__name__, name), "")
            rows.append((f"`{name}`", _type_text(field.annotation), _default_cell(field), text))
        says = (inspect.getdoc(model) or "").partition("Attributes:")[0].strip().replace("\n\n", " ")
        stages = [f"`{stage}`" for stage, kind in manifest.RESULTS.items() if kind is model]
        of = f" Result of the stage {' and '.join(stages)}." if stages else ""
        sections.append(
            f"### `{model.__name__}`\n\n{says}{of}\n\n{table(('field', 'type', 'default', 'meaning'), rows)}"
        )
    return "\n\n".join(sections)


def _default_cell(field: FieldInfo) -> str:
    return "" if field.default is PydanticUndefined else f"`{json.dumps(field.default)}`"


def _type_text(kind: Any) -> str:
    """Return the JSON type of a field; records by name."""
    origin, inner = typing.get_origin(kind), typing.get_args(kind)
    if origin in (types.UnionType, typing.Union):
        return " or ".join(_type_text(part) for part in inner)
    if origin is typing.Literal:
        return " or ".join(f"`{json.dumps(value)}`" for value in inner)
    if origin is tuple:
        return f"list of {_type_text(inner[0])}"
    if origin in (dict, Mapping):
        return f"object of {_type_text(inner[1])}"
    names = {str: "text", int: "integer", float: "number", bool: "boolean", type(None): "null", Any: "any"}
    if kind in names:
        return names[kind]
    return f"[`{kind.__name__}`](#{kind.__name__.lower()})" if inspect.isclass(kind) else str(kind)
