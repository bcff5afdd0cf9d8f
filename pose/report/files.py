"""Reading what the stages left: figures, histories, predictions. A file that cannot be used is a UserError naming it."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from pathlib import Path

import h5py
import numpy as np
import pandas as pd

from pose.errors import UserError
from pose.params import flatten
from pose.people import People


@dataclass(frozen=True)
class Predictions:
    """One person a row: joint_NK2 in zero-based image px, score_NK, row_N of the prepared file."""

    joint_NK2: np.ndarray
    score_NK: np.ndarray
    row_N: np.ndarray


def read_metrics(path: Path) -> dict[str, float]:
    """Figures of a task by their dotted names."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise UserError(f"{path}: cannot be read as JSON ({error})") from None
    if not isinstance(content, dict):
        raise UserError(f"{path}: found a {type(content).__name__}, expected names and figures")
    figures = flatten(content)
    for name, value in figures.items():
        if not isinstance(value, int | float) or not math.isfinite(value):
            raise UserError(f"{path}: {name} is {value!r}, expected a number")
    return figures


def read_history(path: Path, first: str) -> pd.DataFrame:
    """Columns of numbers over ascending values of the column `first`; the later of two rows alike wins, as after a restart.

    Rows without a number in `first` and columns without any number are left out.
    """
    try:
        table = pd.read_csv(path)
    except FileNotFoundError:
        raise UserError(f"{path}: no such file") from None
    except (OSError, ValueError) as error:
        raise UserError(f"{path}: cannot be read as CSV ({' '.join(str(error).split())})") from None
    if first not in table:
        raise UserError(f"{path}: no column {first!r}, found {', '.join(map(str, table.columns))}")
    numbers = table.apply(pd.to_numeric, errors="coerce").replace([np.inf, -np.inf], np.nan)
    numbers = numbers.dropna(subset=[first]).drop_duplicates(subset=[first], keep="last").sort_values(first)
    if numbers.empty:
        raise UserError(f"{path}: no rows yet")
    return numbers.dropna(axis="columns", how="all").reset_index(drop=True)


def read_text_column(path: Path, column: str) -> str:
    """The first entry of a column of words, "" if there is none."""
    try:
        table = pd.read_csv(path, nrows=1, usecols=[column])
    except (OSError, ValueError):
        return ""
    return str(table[column].iloc[0]) if len(table) else ""


def read_table(path: Path) -> pd.DataFrame:
    """A table as it is."""
    try:
        table = pd.read_csv(path, keep_default_na=True)
    except FileNotFoundError:
        raise UserError(f"{path}: no such file") from None
    except (OSError, ValueError) as error:
        raise UserError(f"{path}: cannot be read as CSV ({' '.join(str(error).split())})") from None
    if table.empty:
        raise UserError(f"{path}: no rows")
    return table


def read_predictions(path: Path, *, joints: int) -> Predictions:
    """`predictions/{task}.h5` of a single-person task."""
    if not path.is_file():
        raise UserError(f"{path}: no such file")
    try:
        with h5py.File(path, "r") as file:
            joint_NK2, score_NK, row_N = (np.asarray(file[name]) for name in ("joint", "score", "row"))
    except (OSError, KeyError) as error:
        raise UserError(f"{path}: cannot be read as predictions ({error})") from None
    if joint_NK2.shape != (len(row_N), joints, 2) or score_NK.shape != joint_NK2.shape[:2]:
        raise UserError(f"{path}: joints of shape {joint_NK2.shape}, expected {(len(row_N), joints, 2)}, and scores alike")
    return Predictions(joint_NK2, score_NK, row_N.astype(np.int64))


def read_results(path: Path, *, joints: int) -> dict[int, People]:
    """`predictions/{task}.json` of a multi-person task, in COCO's result format: the people of each image by its id, the surest first.

    In image px; a joint of score 0 was not found, and is NaN wherever the file says that it lies.
    """
    try:
        results = json.loads(path.read_text(encoding="utf-8"))
        id_N = np.array([result["image_id"] for result in results], dtype=np.int64)
        score_N = np.array([result["score"] for result in results], dtype=np.float64)
        keypoint_NK3 = np.array([result["keypoints"] for result in results], dtype=np.float64).reshape(len(results), joints, 3)
    except FileNotFoundError:
        raise UserError(f"{path}: no such file") from None
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UserError(f"{path}: cannot be read as results in COCO's format, of {joints} joints a person ({error})") from None
    score_NK = keypoint_NK3[..., 2]
    joint_NK2 = np.where(score_NK[..., None] > 0, keypoint_NK3[..., :2], np.nan)
    people_of = {}
    for image_id in np.unique(id_N).tolist():
        row_P = np.flatnonzero(id_N == image_id)
        row_P = row_P[np.argsort(-score_N[row_P], kind="stable")]
        people_of[image_id] = People(joint_NK2[row_P], score_NK[row_P], score_N[row_P])
    return people_of
