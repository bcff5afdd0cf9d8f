"""A score as a table, as JSON and as Markdown."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from typing import Any

from pose.metrics.scoring.bootstrap import LEVEL
from pose.metrics.scoring.score import Estimate, Row, Score


def as_table(score: Score) -> str:
    """Aligned columns: each value, and between which values it lies."""
    header, *lines = _cells(score)
    widths = [max(map(len, column)) for column in zip(header, *lines, strict=True)]

    def line(cells: Sequence[str]) -> str:
        first, *others = (cell.ljust(width) for cell, width in zip(cells, widths, strict=True))
        return "  ".join([first, *others]).rstrip()

    return "\n".join([*_title(score), "", line(header), *map(line, lines)])


def as_markdown(score: Score) -> str:
    """A table of Markdown, with what was scored above it."""
    header, *lines = _cells(score)
    rows = [f"| {' | '.join(cells)} |" for cells in (header, ["---"] * len(header), *lines)]
    return "\n\n".join([*_title(score), "\n".join(rows)])


def as_json(score: Score) -> str:
    """Everything, by table and metric; low and high are null where there is no interval."""
    tables: dict[str, Any] = {}
    for row in score.rows:
        entry: dict[str, Any] = {"values": [_numbers(one) for one in row.values]}
        if row.difference:
            entry["difference"] = _numbers(row.difference)
        tables.setdefault(row.table, {})[row.metric] = entry
    content = {
        "files": [str(path) for path in score.files],
        "truth": str(score.truth),
        "skeleton": score.skeleton,
        "counts": [dict(counts) for counts in score.counts],
        "bootstrap": {"resamples": score.resamples, "seed": score.seed, "level": LEVEL},
        "tables": tables,
    }
    return json.dumps(content, indent=2, allow_nan=False)


FORMATS: dict[str, Callable[[Score], str]] = {"table": as_table, "json": as_json, "markdown": as_markdown}


def _title(score: Score) -> list[str]:
    counts = [", ".join(f"{count:,} {name}" for name, count in one.items()) for one in score.counts]
    lines = [f"{' and '.join(map(str, score.files))} against {score.truth} ({score.skeleton})", *counts]
    if score.resamples:
        of = f"from {score.resamples:,} samples of the images (seed {score.seed})"
        lines.append(f"In brackets: {LEVEL:g} % intervals, {of}.")
    return lines


def _cells(score: Score) -> list[list[str]]:
    """The header and a line for each metric."""
    header = ["", *map(str, score.files), *(["second - first"] if len(score.files) == 2 else [])]
    return [header, *([_name(row), *_values(row)] for row in score.rows)]


def _name(row: Row) -> str:
    at = "@" if row.metric[0].isdigit() else " "  # PCKh@0.5, COCO AP
    return f"{row.table}{at}{row.metric}"


def _values(row: Row) -> list[str]:
    digits = 2 if row.table.startswith("PCK") else 4  # percent, and fractions
    cells = [_words(one, f".{digits}f") for one in row.values]
    return [*cells, _words(row.difference, f"+.{digits}f")] if row.difference else cells


def _words(one: Estimate, form: str) -> str:
    value = f"{one.value:{form}}"
    return f"{value} ({one.interval[0]:{form}} to {one.interval[1]:{form}})" if one.interval else value


def _numbers(one: Estimate) -> dict[str, float | None]:
    low, high = one.interval or (None, None)
    return {"value": one.value, "low": low, "high": high}
