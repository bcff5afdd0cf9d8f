"""Scores of one or two files of predictions with intervals, and their difference: what `pose score` says."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from pose.io.errors import UserError
from pose.keypoints.results import Results
from pose.metrics.scoring.bootstrap import interval, samples
from pose.metrics.scoring.locate import in_order_of, locate
from pose.metrics.scoring.measures import Measure, Samples, measures
from pose.metrics.scoring.truth import Truth


@dataclass(frozen=True)
class Estimate:
    """A value and the interval that holds it with 95 % confidence, None where it was not asked for."""

    value: float
    interval: tuple[float, float] | None


@dataclass(frozen=True)
class Row:
    """One metric. values: of each file. difference: of the second from the first, None for one file."""

    table: str
    metric: str
    values: tuple[Estimate, ...]
    difference: Estimate | None


@dataclass(frozen=True)
class Score:
    """Everything that is said. counts: what is scored, for each kind of metrics. resamples: 0 for none."""

    files: tuple[Path, ...]
    truth: Path
    skeleton: str
    counts: tuple[dict[str, int], ...]
    rows: tuple[Row, ...]
    resamples: int
    seed: int


def score(
    files: Sequence[Results], truth: Truth, *, resamples: int = 1000, seed: int = 0, by_joint: bool = False
) -> Score:
    """Score one file of predictions, or two of the same people or images against each other.

    resamples: of the images, for the intervals; both files are compared on the same ones. UserError if
    predictions and truth do not belong together or nothing can be measured.
    """
    found = [measures(in_order_of(locate(one, truth), truth), truth, by_joint=by_joint) for one in files]
    kinds = [kind for kind in found[0] if kind in found[-1]]  # one file may have no confidences, so no AP
    rows: list[Row] = []
    for kind in kinds:
        first, other = found[0][kind], found[-1][kind]
        if first.of != other.of:
            both = f"{len(first.of & other.of):,} of {len(first.of):,} of these"
            raise UserError(f"{files[-1].path}: found {both}, expected all {kind} of {files[0].path}")
        rows += _rows([one[kind] for one in found], resamples, seed)
    if not rows:
        have = "no head sizes, no reference lengths and no COCO annotations for both"
        raise UserError(f"{truth.path}: nothing to measure {files[0].path} by, found {have}")
    return Score(
        files=tuple(one.path for one in files),
        truth=truth.path,
        skeleton=truth.skeleton.name,
        counts=tuple(found[0][kind].counts for kind in kinds),
        rows=tuple(rows),
        resamples=resamples,
        seed=seed,
    )


def _rows(files: Sequence[Measure], resamples: int, seed: int) -> list[Row]:
    values, images = [_values(one, resamples, seed) for one in files], files[0].images
    rows = []
    for key in values[0]:
        of_files = [one[key] for one in values]
        if not any(np.isnan(value_B[0]) for value_B in of_files):
            difference = _estimate(of_files[1] - of_files[0], images) if len(files) == 2 else None
            estimates = tuple(_estimate(value_B, images) for value_B in of_files)
            rows.append(Row(*key, estimates, difference))
    return rows


def _values(measure: Measure, resamples: int, seed: int) -> dict[tuple[str, str], np.ndarray]:
    """By table and metric its value, then those of the samples, which are the same for all files."""
    every = np.ones((1, measure.images), dtype=np.int64)
    chunks = [_flat(measure.sample(one)) for one in (every, *samples(measure.images, resamples, seed))]
    return {key: np.concatenate([chunk[key] for chunk in chunks]) for key in chunks[0]}


def _flat(tables: Samples) -> dict[tuple[str, str], np.ndarray]:
    return {(table, name): value_B for table, row in tables.items() for name, value_B in row.items()}


def _estimate(value_B: np.ndarray, images: int) -> Estimate:
    """value_B: the value itself, then those of the samples."""
    low, high = interval(value_B[1:], images)
    return Estimate(float(value_B[0]), None if np.isnan(low) else (low, high))
