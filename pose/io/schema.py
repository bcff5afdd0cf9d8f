"""Typed, frozen values from YAML or JSON: every key is required, and an error names the key in one line."""

from __future__ import annotations

import reprlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError
from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from pose.io.errors import UserError, reading
from pose.io.files import atomic_write, read_text

Schema = TypeVar("Schema", bound=BaseModel)


class Frozen(BaseModel):
    """Immutable values. Missing and unknown keys are errors; numbers are not made from texts or booleans."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)


def read_yaml(path: str | Path) -> dict[str, Any]:
    """A YAML 1.2 mapping, in which `2e-4` and `2e-05` are numbers (YAML 1.1 makes them strings).

    UserError naming the file if it cannot be read or holds something else.
    """
    with reading(path, "YAML"):
        try:
            found = YAML(typ="safe").load(read_text(path))
        except YAMLError as error:
            raise ValueError(str(error).replace(' in "<unicode string>",', " at")) from None
    if not isinstance(found, dict):
        raise UserError(f"{path}: found {type(found).__name__}, expected keys and values")
    return found


def write_yaml(path: str | Path, values: Mapping[str, Any]) -> None:
    """Plain values as YAML, without comments."""
    with atomic_write(path) as temporary, temporary.open("w", encoding="utf-8") as file:
        YAML(typ="safe").dump(dict(values), file)


def parse(schema: type[Schema], values: Any, source: str, context: Any = None) -> Schema:
    """Plain values as an instance of `schema`; UserError naming source, keys, what was found and expected.

    context: for the schema's own validators.
    """
    try:
        return schema.model_validate(values, context=context)
    except ValidationError as error:
        raise UserError(f"{source}: {explain(error, values)}") from None


def flatten(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested keys as dotted ones: `{"a": {"b": 1}}` -> `{"a.b": 1}`, as DVC and MLflow show them."""
    flat: dict[str, Any] = {}
    for key, value in values.items():
        name = f"{prefix}{key}"
        if isinstance(value, Mapping):
            flat.update(flatten(value, f"{name}."))
        else:
            flat[name] = value
    return flat


def explain(error: ValidationError, values: Any) -> str:
    """The first three mistakes in one line, with their keys. values: what was validated."""
    # An unknown key beside a missing one is most often a misspelling: the unknown one comes first.
    order = {"extra_forbidden": 0, "unexpected_keyword_argument": 0, "missing": 1}
    problems = sorted(error.errors(), key=lambda problem: order.get(problem["type"], 2))
    kinds = _kinds(values)  # pydantic adds a level to the key for each of them, which the file does not have
    lines = []
    for problem in problems[:3]:
        key = ".".join(str(part) for part in problem["loc"] if part not in kinds)
        if problem["type"] in ("extra_forbidden", "unexpected_keyword_argument"):
            lines.append(f"unknown key {key[:100]}")
        elif problem["type"] == "missing":
            lines.append(f"missing key {key}")
        elif problem["type"] == "union_tag_invalid":  # of schemas that `kind` or `name` tells apart
            context = problem["ctx"]
            found = f"found {reprlib.repr(context['tag'])}, expected one of {context['expected_tags']}"
            lines.append(f"{key}.{context['discriminator'].strip(chr(39))}: {found}")
        elif problem["type"] == "value_error":  # of a validator of ours, which names what it found
            message = problem["msg"].removeprefix("Value error, ")
            lines.append(f"{key}: {message}" if key else message)  # no key: of the values as a whole
        else:
            message = problem["msg"][0].lower() + problem["msg"][1:]
            lines.append(f"{key}: found {reprlib.repr(problem['input'])}, {message}")
    more = f" (and {len(problems) - 3} more)" if len(problems) > 3 else ""
    return "; ".join(lines) + more


def _kinds(values: Any) -> set[str]:
    """The values of all keys named `kind` or `name`, by which unions of schemas are told apart."""
    kinds, waiting, seen = set[str](), [values], set[int]()
    while waiting:
        inner = waiting.pop()
        if isinstance(inner, Mapping) and id(inner) not in seen:  # YAML may name one many times
            seen.add(id(inner))
            waiting += inner.values()
            kinds |= {inner[key] for key in ("kind", "name") if isinstance(inner.get(key), str)}
    return kinds
