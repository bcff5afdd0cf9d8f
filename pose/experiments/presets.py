"""Presets: small files of values that are written into `params.yaml`; its comments and layout stay."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, MutableMapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pose.experiments.yaml_file import as_yaml, load_commented, plain
from pose.io.errors import UserError
from pose.io.files import read_text, write_text
from pose.params import Params, parse_params

PARAMS, PRESETS = Path("params.yaml"), Path("presets")


@dataclass(frozen=True)
class Change:
    """One key with its old and its new value."""

    key: str
    old: Any
    new: Any

    def __str__(self) -> str:
        return f"{self.key}: {_as_text(self.old)} -> {_as_text(self.new)}"


def preset_names(folder: Path = PRESETS) -> list[str]:
    """The presets in a folder; UserError if there is no such folder."""
    if not folder.is_dir():
        raise UserError(f"{folder}: no such folder, expected to be run where params.yaml and {folder}/ are")
    return sorted(path.stem for path in folder.glob("*.yaml"))


def describe(name: str, folder: Path = PRESETS) -> str:
    """The comment on the first line of a preset."""
    first = read_text(folder / f"{name}.yaml").partition("\n")[0]
    return first.removeprefix("#").strip() if first.startswith("#") else ""


def apply_preset(name: str, params: Path = PARAMS, folder: Path = PRESETS) -> list[Change]:
    """Write a preset's values into `params`, atomically; returns what changed.

    UserError for an unknown preset, a key that `params` lacks, or values that its types refuse.
    """
    values, changes = _with_preset(name, params, folder)
    if changes:
        write_text(params, as_yaml(values))
    return changes


def params_with(name: str, params: Path = PARAMS, folder: Path = PRESETS) -> Params:
    """The parameters as they would be with a preset; nothing is written. UserError as of `apply_preset`."""
    return _parsed(_with_preset(name, params, folder)[0], name, params)


def _with_preset(name: str, params: Path, folder: Path) -> tuple[Any, list[Change]]:
    names = preset_names(folder)
    if name not in names:
        raise UserError(f"preset: found {name!r}, expected one of: {', '.join(names)}")
    preset = folder / f"{name}.yaml"
    values = load_commented(params)
    changes = [
        change
        for change in _merge(values, load_commented(preset), params, preset)
        if change.old != change.new
    ]
    _parsed(values, name, params)
    return values, changes


def _merge(
    values: MutableMapping[str, Any], preset: Mapping[str, Any], file: Path, source: Path, prefix: str = ""
) -> Iterator[Change]:
    """Put the preset's values into `values`."""
    for name, new in preset.items():
        key = f"{prefix}{name}"
        if name not in values:
            raise UserError(f"{source}: unknown key {key}, expected one that {file} has")
        old = values[name]
        if isinstance(old, MutableMapping) and isinstance(new, Mapping) and not _is_other_kind(old, new):
            yield from _merge(old, new, file, source, f"{key}.")
        else:
            values[name] = new
            yield Change(key, old, new)


def _is_other_kind(old: Mapping[str, Any], new: Mapping[str, Any]) -> bool:
    """Whether a preset's mapping replaces the old one as a whole: its `kind` or `name` has other keys."""
    return bool({"kind", "name"} & new.keys()) and old.keys() != new.keys()


def _parsed(values: Any, name: str, params: Path) -> Params:
    return parse_params(plain(values), f"{params} with preset {name}")


def _as_text(value: Any) -> str:
    return as_yaml([value]).strip().removeprefix("- ").partition(" #")[0].strip()
