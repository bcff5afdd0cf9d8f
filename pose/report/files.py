"""Reading what the stages left.

Figures, histories, predictions. A file that cannot be used is a UserError naming it.
"""

from __future__ import annotations

import io
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from pose.io.errors import UserError
from pose.io.files import read_bytes, read_json
from pose.io.hdf5 import open_h5, read_number_column, read_whole_column
from pose.io.schema import flatten
from pose.keypoints.people import People

MOST_COLUMNS = 200  # of a table: each of a history is a chart
LARGEST = 1e15  # of a figure: beyond it neither charts nor tables show anything


@dataclass(frozen=True)
class Predictions:
    """One person a row: joint_NK2 in zero-based image px, score_NK, row_N of the prepared file."""

    joint_NK2: np.ndarray
    score_NK: np.ndarray
    row_N: np.ndarray


def read_metrics(path: Path) -> dict[str, float]:
    """Figures of a task by their dotted names."""
    content = read_json(path)
    if not isinstance(content, dict) or not all(
        isinstance(value, int | float) or _is_table(value) for value in content.values()
    ):
        raise UserError(f"{path}: found something else than figures by table and name, expected those")
    figures = flatten(content)
    for name, value in figures.items():
        if not isinstance(value, int | float) or not abs(value) < LARGEST:
            raise UserError(
                f"{path}: {name[:100]} is {repr(value)[:100]}, expected a number within {LARGEST:g} of 0"
            )
    return figures


def _is_table(value: Any) -> bool:
    return isinstance(value, Mapping) and not any(isinstance(inner, Mapping) for inner in value.values())


def read_history(path: Path, first: str) -> pd.DataFrame:
    """Columns of numbers over ascending values of the column `first`; the later of two rows alike wins, as after a restart.

    Rows without a number in `first` and columns without any number are left out; so are numbers that are
    beyond all charts.
    """
    table = _read_csv(path)
    if first not in table:
        raise UserError(f"{path}: no column {first!r}, found {', '.join(map(str, table.columns))[:200]}")
    numbers = table.apply(pd.to_numeric, errors="coerce").astype(np.float64)
    numbers = numbers.where(numbers.abs() < LARGEST)
    numbers = numbers.dropna(subset=[first]).drop_duplicates(subset=[first], keep="last").sort_values(first)
    if numbers.empty:
        raise UserError(f"{path}: no rows yet")
    return numbers.dropna(axis="columns", how="all").reset_index(drop=True)


def _read_csv(path: Path, **how: Any) -> pd.DataFrame:
    data = read_bytes(path)
    try:
        table = pd.read_csv(io.BytesIO(data), **how)
    except (ValueError, OverflowError) as error:
        raise UserError(f"{path}: cannot be read as CSV ({' '.join(str(error).split())[:200]})") from None
    if len(table.columns) > MOST_COLUMNS:
        raise UserError(f"{path}: found {len(table.columns):,} columns, expected at most {MOST_COLUMNS}")
    return table


def read_text_column(path: Path, column: str) -> str:
    """The first entry of a column of words, "" if there is none."""
    try:
        table = _read_csv(path, nrows=1, usecols=[column])
    except UserError:
        return ""
    return str(table[column].iloc[0]) if len(table) else ""


def read_table(path: Path) -> pd.DataFrame:
    """A table as it is."""
    table = _read_csv(path)
    if table.empty:
        raise UserError(f"{path}: no rows")
    return table


def read_predictions(path: Path, *, joints: int) -> Predictions:
    """`predictions/{task}.h5` of a single-person task."""
    with open_h5(path) as file:
        row_N = read_whole_column(file, "row", (None,), least=0)
        joint_NK2 = read_number_column(file, "joint", (len(row_N), joints, 2))
        score_NK = read_number_column(file, "score", (len(row_N), joints))
    joint_NK2[(np.abs(joint_NK2) >= LARGEST).any(axis=2)] = np.nan
    return Predictions(joint_NK2, score_NK, row_N)


def read_results(path: Path, *, joints: int) -> dict[int, People]:
    """`predictions/{task}.json` of a multi-person task, in COCO's result format.

    The people of each image by its id, the surest first.

    In image px; a joint of score 0 was not found, and is NaN wherever the file says that it lies.
    """
    data = read_bytes(path)
    try:
        results = json.loads(data)
        id_N = np.array([result["image_id"] for result in results], dtype=np.int64)
        score_N = np.array([result["score"] for result in results], dtype=np.float64)
        keypoint_NK3 = np.array([result["keypoints"] for result in results], dtype=np.float64).reshape(
            len(results), joints, 3
        )
    except (ValueError, KeyError, TypeError, OverflowError, RecursionError) as error:
        reason = " ".join(str(error).split())[:200]
        raise UserError(
            f"{path}: cannot be read as results in COCO's format, of {joints} joints a person ({reason})"
        ) from None
    score_NK = keypoint_NK3[..., 2]
    found_NK1 = (score_NK[..., None] > 0) & (np.abs(keypoint_NK3[..., :2]) < LARGEST).all(
        axis=2, keepdims=True
    )
    joint_NK2 = np.where(found_NK1, keypoint_NK3[..., :2], np.nan)
    people_of = {}
    for image_id in np.unique(id_N).tolist():
        row_P = np.flatnonzero(id_N == image_id)
        row_P = row_P[np.argsort(-score_N[row_P], kind="stable")]
        people_of[image_id] = People(joint_NK2[row_P], score_NK[row_P], score_N[row_P])
    return people_of
