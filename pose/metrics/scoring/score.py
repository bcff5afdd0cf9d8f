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
    pairs = list(zip(*found, strict=False))  # one file may have no confidences and no AP
    rows: list[Row] = []
    for pair in pairs:
        first, other = pair[0], pair[-1]
        if first.of != other.of:
            both = len({*first.of} & {*other.of})
            raise UserError(
                f"{files[-1].path}: found predictions of others than {files[0].path} has ({both:,} of"
                f" {len(first.of):,} in both), expected the same people"
            )
        rows += _rows(pair, resamples, seed)
    if not rows:
        have = "no head sizes, no reference lengths and no COCO annotations that fit"
        raise UserError(f"{truth.path}: nothing to measure {files[0].path} by, found {have}")
    counts = tuple(pair[0].counts for pair in pairs)
    return Score(
        *(tuple(one.path for one in files), truth.path, truth.skeleton.name, counts, tuple(rows)),
        *(resamples, seed),
    )


def _rows(pair: Sequence[Measure], resamples: int, seed: int) -> list[Row]:
    images = pair[0].images
    values = [_flat(one.sample(np.ones((1, images), dtype=np.int64))) for one in pair]
    drawn: list[list[dict[tuple[str, str], np.ndarray]]] = [[] for _ in pair]
    for times_BI in samples(images, resamples, seed):
        for one, of_file in zip(pair, drawn, strict=True):
            of_file.append(_flat(one.sample(times_BI)))
    rows = []
    for key in values[0]:
        value = [float(one[key][0]) for one in values]
        if np.isnan(value).any():
            continue
        value_B = [
            np.concatenate([chunk[key] for chunk in of_file]) if of_file else None for of_file in drawn
        ]
        estimates = tuple(_estimate(*one) for one in zip(value, value_B, strict=True))
        difference = None
        if len(pair) == 2:
            apart_B = None if value_B[0] is None or value_B[1] is None else value_B[1] - value_B[0]
            difference = _estimate(value[1] - value[0], apart_B)
        rows.append(Row(*key, estimates, difference))
    return rows


def _flat(tables: Samples) -> dict[tuple[str, str], np.ndarray]:
    return {(table, name): value_B for table, row in tables.items() for name, value_B in row.items()}


def _estimate(value: float, value_B: np.ndarray | None) -> Estimate:
    return Estimate(value, None if value_B is None else interval(value_B))
