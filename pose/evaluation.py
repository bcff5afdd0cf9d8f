"""Trained weights -> figures, curves and predictions on what training never saw. What `stages/evaluate.py` calls."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import torch

from pose.checkpoint import load_weights
from pose.errors import UserError
from pose.files import file_hash, sweep, write_json, written_whole
from pose.folders import PREPARED, Folders
from pose.infer import as_device, find_people, model_of
from pose.metrics import Scores
from pose.multi import TABLE, MultiData, MultiPerson
from pose.params import Params
from pose.task import Model
from pose.thresholds import with_best_thresholds

DIGITS = {"single": 3, "multi": 4}  # percent, and fractions


def weights_file(params: Params, name: str) -> Path:
    """What is evaluated of a task."""
    return Folders(name).models / f"{params.evaluate.weights}.pt"


def evaluate(params: Params, name: str, *, prepared: Path | None = None) -> Scores:
    """Score one task on all that is kept for the test, and write metrics, what they are of, curves and predictions.

    prepared: where the prepared set is, if not where the stages put it.
    UserError where the weights are missing, damaged or were trained for another task.
    """
    cv2.setNumThreads(0)
    torch.set_num_threads(params.train.threads)  # as in training: their number moves last bits
    folders = Folders(name)
    for folder in (folders.metrics.parent, folders.plots, folders.provenance.parent, folders.predictions("").parent):
        sweep(folder)
    path = weights_file(params, name)
    weights, weights_hash = load_weights(path), file_hash(path)
    model = model_of(weights, path, as_device())
    if model.name != name:
        raise UserError(f"{path}: weights of task {model.name!r}, expected {name!r}")
    problem = model.problem
    data = problem.data(prepared or PREPARED[problem.kind], watched=0)
    rows = data.rows("test")
    if len(rows) == 0:
        raise UserError(f"{data.path}: found no {data.unit} to test on, expected some of split validation or test")
    how: dict[str, Any] = {"batch": params.evaluate.batch, "flip": params.evaluate.flip_test, "workers": params.train.workers}
    how["scales"] = params.evaluate.scales
    found = find_people(model, data, rows, **how, progress=True)
    scores = data.score(found, rows)
    for file, table in data.tables(found, rows).items():
        with written_whole(folders.plots / f"{file}.csv") as temporary:
            table.to_csv(temporary, index=False, float_format="%.4f")
    data.write(folders.predictions(problem.results), name, found, rows)
    if isinstance(problem, MultiPerson) and isinstance(data, MultiData):
        _read_beside(scores, params, model, problem, data, how)
    digits = DIGITS[problem.kind]
    write_json(folders.metrics, {table: {key: round(value, digits) for key, value in row.items()} for table, row in scores.items()})
    write_json(folders.provenance, {"task": name, "file": str(path), "weights": weights_hash, "trained": dict(weights.trained)})
    return scores


def _read_beside(scores: Scores, params: Params, model: Model, problem: MultiPerson, data: MultiData, how: dict[str, Any]) -> None:
    """Add what AP is read by: the same network without its tags, the same on pictures that it was trained on, and the thresholds.

    Without tags the thresholds are chosen as training chose them, on the same held-out images: a fair opponent. They stay where they are
    if parameters say so.
    """
    without = replace(problem, by_tags=False)
    if problem.params.thresholds.choose:
        without = with_best_thresholds(model, without, data, data.rows("watched"), batch=params.evaluate.batch, flip=True)
    rows = data.rows("test")
    found = find_people(replace(model, problem=without), data, rows, **how)
    scores[f"{TABLE} without tags"] = data.score(found, rows)[TABLE]
    if params.evaluate.train_images:
        rows = data.sample_of("train", params.evaluate.train_images)
        scores[f"{TABLE} train"] = data.score(find_people(model, data, rows, **how), rows)[TABLE]
        scores["images"]["train"] = len(rows)
    chosen = problem.params.thresholds
    scores["grouping"] = {
        "detection_threshold": chosen.detection,
        "tag_threshold": chosen.tag,
        "reach": without.params.thresholds.reach,
    }
