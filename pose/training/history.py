"""The history of a run as CSV files, which `dvc plots` and the report read."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from pathlib import Path

from pose.io.files import atomic_write
from pose.io.paths import TaskPaths
from pose.training.loop import TrainerState


def write_history(paths: TaskPaths, state: TrainerState) -> None:
    """Write `train.csv` and `val.csv`, and the seconds of training."""
    write_rows(paths.plots / "train.csv", state.train)
    write_rows(paths.plots / "val.csv", state.val)
    write_rows(paths.train_time, state.times)


def write_rows(path: Path, rows: Sequence[dict[str, float]]) -> None:
    """Write rows as CSV, with a column for every name that any row has."""
    with atomic_write(path) as temporary, temporary.open("w", encoding="utf-8", newline="") as file:
        names = list(dict.fromkeys(name for row in rows for name in row))
        writer = csv.DictWriter(file, names, lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
