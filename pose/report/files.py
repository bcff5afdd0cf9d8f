"""Reading metrics, histories and predictions. UserError names a file that cannot be used."""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import pandas as pd

from pose.data.results.arrays import read_rows
from pose.data.results.coco import read_coco
from pose.io.errors import UserError
from pose.io.files import read_bytes, read_json
from pose.io.git import run_git
from pose.io.paths import TaskPaths
from pose.keypoints.people import People

T = TypeVar("T")

MAX_COLUMNS = 200  # of a table: each column of a history is a chart
MAX_VALUE = 1e15  # beyond it neither charts nor tables show anything


@dataclass(frozen=True)
class SinglePredictions:
    """One person a row: joint_NK2 in image px, score_NK, row_N of the prepared file."""

    joint_NK2: np.ndarray
    score_NK: np.ndarray
    row_N: np.ndarray


def try_read(missing: list[str], read: Callable[[], T]) -> T | None:
    """What `read` returns; None where a file cannot be used, which `missing` then names."""
    try:
        return read()
    except UserError as error:
        missing.append(str(error))
        return None


def read_metrics(path: Path) -> dict[str, float]:
    """The metrics of `metrics/TASK.json` by their dotted place."""
    return _flat_metrics(path, read_json(path))


def read_committed_metrics(task: str, root: Path) -> dict[str, float]:
    """`read_metrics` of the last commit of the repository at `root`; empty without one that can be read."""
    path = TaskPaths(task).metrics
    text = run_git("show", f"HEAD:./{path.as_posix()}", folder=root)
    try:
        return _flat_metrics(path, json.loads(text or "{}"))
    except (UserError, ValueError, RecursionError):
        return {}


def _flat_metrics(path: Path, content: Any) -> dict[str, float]:
    if not isinstance(content, dict) or not all(isinstance(table, dict) for table in content.values()):
        raise UserError(f"{path}: found something else, expected metrics by table and name")
    metrics = {f"{table}.{name}": value for table, row in content.items() for name, value in row.items()}
    for name, value in metrics.items():
        if not isinstance(value, int | float) or not abs(value) < MAX_VALUE:
            raise UserError(
                f"{path}: {name[:100]} is {repr(value)[:100]}, expected a number below {MAX_VALUE:g}"
            )
    return metrics


def read_history(path: Path, x: str, *others: str) -> pd.DataFrame:
    """Columns of numbers over ascending `x`; of rows with the same `x` the later one, as after a restart.

    Rows without `x` or `others`, columns without any number, and numbers beyond MAX_VALUE are left out.
    """
    table = read_table(path, x, *others)
    numbers = table.apply(pd.to_numeric, errors="coerce").astype(np.float64)
    numbers = numbers.where(numbers.abs() < MAX_VALUE)
    numbers = numbers.dropna(subset=[x, *others]).drop_duplicates(subset=[x], keep="last").sort_values(x)
    if numbers.empty:
        raise UserError(f"{path}: no rows yet")
    return numbers.dropna(axis="columns", how="all").reset_index(drop=True)


def read_table(path: Path, *columns: str) -> pd.DataFrame:
    """A CSV file that has at least a row and these columns."""
    data = read_bytes(path)
    try:
        table = pd.read_csv(io.BytesIO(data))
    except (ValueError, OverflowError) as error:
        raise UserError(f"{path}: cannot be read as CSV ({' '.join(str(error).split())[:200]})") from None
    if len(table.columns) > MAX_COLUMNS:
        raise UserError(f"{path}: found {len(table.columns):,} columns, expected at most {MAX_COLUMNS}")
    missing = [column for column in columns if column not in table]
    if missing:
        found = ", ".join(map(str, table.columns))[:200]
        raise UserError(f"{path}: no column {', '.join(missing)}, found {found}")
    if table.empty:
        raise UserError(f"{path}: no rows")
    return table


def read_single_predictions(path: Path, joints: int | None) -> SinglePredictions:
    """`predictions/TASK.h5` of a single-person task. joints: expected of each person, None for any number."""
    results = read_rows(path, joints)
    people = People.join([one.people for one in results.images], results.joints)
    row_N = np.array([one.row for one in results.images], dtype=np.int64)
    return SinglePredictions(people.joint_PK2, people.score_PK, row_N)


def read_coco_results(path: Path, joints: int | None) -> dict[int, People]:
    """`predictions/TASK.json` of a multi-person task: the people of each image by its id, sorted by score.

    In image px; a joint of score 0 was not found, and is NaN whatever its place in the file. joints: expected
    of each person, None for any number.
    """
    people_of = {}
    for one in read_coco(path, joints).images:
        people = one.people
        order_P = np.argsort(-people.score_P, kind="stable")
        joint_PK2 = np.where(people.score_PK[..., None] > 0, people.joint_PK2, np.nan)[order_P]
        people_of[int(one.image_id or 0)] = People(
            joint_PK2, people.score_PK[order_P], people.score_P[order_P]
        )
    return people_of
