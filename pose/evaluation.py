"""Trained weights -> figures, curves and predictions on people that training never saw. What `stages/evaluate.py` calls."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np

from pose.data.lsp_mpii import LspMpii
from pose.errors import UserError
from pose.folders import PREPARED, Folders
from pose.infer import find_people, load_model
from pose.metrics import Scores, accuracy_curve, per_joint_table
from pose.params import Params


def evaluate(params: Params, name: str, *, prepared: Path = PREPARED) -> Scores:
    """Score one task on all held-out people (validation and test), and write metrics, curves and predictions.

    UserError where the weights are missing, damaged or were trained for another task.
    """
    folders = Folders(name)
    path = folders.models / f"{params.evaluate.weights}.pt"
    model = load_model(path)
    if model.name != name:
        raise UserError(f"{path}: weights of task {model.name!r}, expected {name!r}")
    people = LspMpii(prepared)
    rows = np.sort(np.concatenate([people.rows("validation"), people.rows("test")]))
    if len(rows) == 0:
        raise UserError(f"{prepared}: found no held-out people with joints, expected some in split validation or test")
    batch, flip = params.evaluate.batch, params.evaluate.flip_test
    found = find_people(model, people, rows, batch=batch, flip=flip, workers=params.train.workers, progress=True)
    predicted_NK2 = np.concatenate([person.joint_PK2 for person in found])
    arrays = (predicted_NK2, people.joint_NK2[rows], people.labelled_NK[rows])
    which = {"head_size_N": people.head_size_N[rows], "lsp_N": people.source_N[rows] != "mpii"}
    scores = model.problem.score(found, people, rows)

    folders.plots.mkdir(parents=True, exist_ok=True)
    accuracy_curve(*arrays, **which).to_csv(folders.plots / "accuracy.csv", index=False, float_format="%.4f")
    per_joint_table(*arrays, **which).to_csv(folders.plots / "joints.csv", index=False, float_format="%.3f")
    score_NK = np.concatenate([person.score_PK for person in found])
    _write(folders.predictions, lambda path: write_predictions(path, name, model.problem.skeleton.name, predicted_NK2, score_NK, rows))
    rounded = {table: {key: round(value, 3) for key, value in figures.items()} for table, figures in scores.items()}
    _write(folders.metrics, lambda path: path.write_text(json.dumps(rounded, indent=2) + "\n"))
    return scores


def write_predictions(path: Path, task: str, skeleton: str, joint_NK2: np.ndarray, score_NK: np.ndarray, row_N: np.ndarray) -> None:
    """Joints in image px and their confidence, one row a person; `row` is the person's row in the prepared set."""
    with h5py.File(path, "w", track_order=False) as file:
        file.attrs.update(task=task, skeleton=skeleton)
        for key, values in {"joint": joint_NK2.astype(np.float32), "score": score_NK.astype(np.float32), "row": row_N}.items():
            file.create_dataset(key, data=values, track_times=False)


def _write(path: Path, writer: Callable[[Path], object]) -> None:
    """Write whole under another name, then rename."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        writer(temporary)
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)
