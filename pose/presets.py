"""Presets: small files of values that are written into `params.yaml`, where `git diff` and `dvc params diff` show them.

Only the text of the values changes, so that comments, order and layout stay, and a number is written as the preset writes it.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError
from ruamel.yaml.nodes import MappingNode, Node

from pose.errors import UserError
from pose.files import read_text, write_text
from pose.params import Params, parse_params

PARAMS, PRESETS = Path("params.yaml"), Path("presets")
LEAST_GAP = 1  # spaces between a value and the comment behind it


@dataclass(frozen=True)
class Change:
    """One key, and its value as it was and as it is now written."""

    key: str
    old: str
    new: str

    def __str__(self) -> str:
        return f"{self.key}: {self.old} -> {self.new}"


def preset_names(folder: Path = PRESETS) -> list[str]:
    """Presets that there are; UserError where there is no such folder."""
    if not folder.is_dir():
        raise UserError(f"{folder}: no such folder, expected to be run where params.yaml and {folder}/ are")
    return sorted(path.stem for path in folder.glob("*.yaml"))


def describe(name: str, folder: Path = PRESETS) -> str:
    """The comment on the first line of a preset."""
    first = (folder / f"{name}.yaml").read_text(encoding="utf-8").partition("\n")[0]
    return first.removeprefix("#").strip() if first.startswith("#") else ""


def apply_preset(name: str, params: Path = PARAMS, folder: Path = PRESETS) -> list[Change]:
    """Write a preset's values into `params`, whole or not at all, and return what changed.

    UserError for an unknown preset, a key that `params` lacks, or values that its types refuse.
    """
    new, changes = _with_preset(name, params, folder)
    if changes:
        write_text(params, new)
    return changes


def params_with(name: str, params: Path = PARAMS, folder: Path = PRESETS) -> Params:
    """The parameters as they would be with a preset; nothing is written. UserError as in `apply_preset`."""
    return parse_params(YAML(typ="safe").load(_with_preset(name, params, folder)[0]), f"{params} with preset {name}")


def _with_preset(name: str, params: Path, folder: Path) -> tuple[str, list[Change]]:
    names = preset_names(folder)
    if name not in names:
        raise UserError(f"preset: found {name!r}, expected one of: {', '.join(names)}")
    preset = folder / f"{name}.yaml"
    new, changes = merge(read_text(params), read_text(preset), str(params), str(preset))
    parse_params(YAML(typ="safe").load(new), f"{params} with preset {name}")
    return new, changes


def merge(text: str, wanted: str, params: str = "params.yaml", preset: str = "preset") -> tuple[str, list[Change]]:
    """A YAML text with the values of another in place of its own; UserError, by the two names, for a key that it lacks."""
    pairs = list(_pairs(_compose(params, text), _compose(preset, wanted), params, preset))
    changes = []
    for key, here, there in sorted(pairs, key=lambda pair: pair[1].start_mark.index, reverse=True):  # from the end: places before stay
        old, new = _source(text, here), _source(wanted, there)
        if old != new:
            text = _replaced(text, here.start_mark.index, here.end_mark.index, new)
            changes.append(Change(key, old, new))
    return text, changes[::-1]


def _pairs(here: MappingNode, there: MappingNode, params: str, preset: str, prefix: str = "") -> Iterator[tuple[str, Node, Node]]:
    """Each value that the preset gives, with the one of the parameters that it replaces."""
    values = {key.value: value for key, value in here.value}
    for name_node, new in there.value:
        name = name_node.value
        key = f"{prefix}{name}"
        if name not in values:
            raise UserError(f"{preset}: unknown key {key}, expected one that {params} has")
        old = values[name]
        # What else there is depends on `kind`: such a value is given whole.
        whole = isinstance(new, MappingNode) and new.flow_style and "kind" in (entry.value for entry, _ in new.value)
        if isinstance(old, MappingNode) and isinstance(new, MappingNode) and not whole:
            yield from _pairs(old, new, params, preset, f"{key}.")
            continue
        for file, node in ((params, old), (preset, new)):
            if isinstance(node, MappingNode) and not node.flow_style:
                raise UserError(f"{file}: {key}: found a block of lines where the other file has one value; write it as {{...}}")
        yield key, old, new


def _source(text: str, node: Node) -> str:
    return text[node.start_mark.index : node.end_mark.index]


def _replaced(text: str, start: int, end: int, new: str) -> str:
    """The text with `new` between start and end; a comment behind it on its line keeps its column if it shares it with a neighbour,
    else its distance."""
    line_end = text.find("\n", end) if "\n" in text[end:] else len(text)
    comment = re.search(r" +#", text[end:line_end])
    if not comment:
        return text[:start] + new + text[end:]
    line_start = text.rfind("\n", 0, start) + 1
    above = text[text.rfind("\n", 0, max(line_start - 1, 0)) + 1 : line_start]
    below = text[line_end + 1 :].partition("\n")[0]
    column = end + comment.end() - 1 - line_start
    gap = len(comment.group()) - 1
    if any(_comment_column(line) == column for line in (above, below)):
        gap = max(LEAST_GAP, gap - len(new) + end - start)
    return text[:start] + new + text[end : end + comment.start()] + " " * gap + text[end + comment.end() - 1 :]


def _comment_column(line: str) -> int | None:
    found = re.search(r"(?<= )#", line)
    return found.start() if found else None


def _compose(name: str, text: str) -> MappingNode:
    try:
        node = YAML(pure=True).compose(text)
    except YAMLError as error:
        raise UserError(f"{name}: not valid YAML: {' '.join(str(error).split())}") from None
    if not isinstance(node, MappingNode):
        raise UserError(f"{name}: expected keys and values")
    return node
