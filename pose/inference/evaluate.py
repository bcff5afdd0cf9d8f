"""Stage `evaluate@TASK`: metrics, curves and predictions of trained weights on the evaluation rows."""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from pose.data.results import write_results
from pose.inference.batches import compute_threads, predict_batches, predict_dataset, select_device
from pose.inference.refine import Refiner
from pose.io.dvc_stage import require_dependency
from pose.io.errors import UserError
from pose.io.files import atomic_write, file_hash, remove_stale_temp_files, write_json
from pose.io.paths import TaskPaths
from pose.keypoints.geometry import invert, transform
from pose.keypoints.people import People
from pose.keypoints.skeleton import different_joint
from pose.metrics.monitored import MONITORED, monitored
from pose.metrics.pck import Scores
from pose.models.weights import load_weights
from pose.params import Params
from pose.tasks.fingerprint import changed_params
from pose.tasks.multi import MultiData
from pose.tasks.task import Model, load_model, open_data

log = logging.getLogger(__name__)


def evaluated_weights(params: Params, name: str, folder: str | Path = ".") -> Path:
    """The weights file that is evaluated of a task."""
    return TaskPaths(name, Path(folder)).models / f"{params.evaluate.weights}.pt"


def evaluate(params: Params, name: str, *, folder: str | Path = ".", prepared: Path | None = None) -> Scores:
    """Evaluate one task; write its metrics, provenance, curves and predictions, and return the metrics.

    folder: workspace with the weights, where everything is written. prepared: the prepared set, if it is not
    where the stages put it. UserError if the weights are missing, damaged or of another task, or the data
    cannot be used.
    """
    with compute_threads(params.train.threads):  # as in training
        return _evaluate(params, name, Path(folder), prepared)


def _evaluate(params: Params, name: str, folder: Path, prepared: Path | None) -> Scores:
    kind = params.task(name).problem  # first: for a name that is no task, no file is looked for
    paths, path = TaskPaths(name, folder), evaluated_weights(params, name, folder)
    files = paths.metrics, paths.summary, paths.provenance, paths.predictions("")
    for written in (paths.plots, *(file.parent for file in files)):
        remove_stale_temp_files(written)
    weights, weights_hash = load_weights(path), file_hash(path)
    if weights.task != name:
        raise UserError(f"{path}: weights of task {weights.task!r}, expected {name!r}")
    if weights.problem != kind:
        raise UserError(f"{path}: weights of problem {weights.problem}, expected {kind}, as tasks.{name} has")
    if changed := changed_params(params, name, weights.provenance):
        values = ", ".join(f"{key} {text}" for key, text in changed.items())
        log.warning("%s: trained by other parameters than params.yaml has now: %s", path, values)
    model = load_model(weights, str(path), select_device(), params.problem(name))
    problem, settings = model.problem, params.evaluate
    data = open_data(problem.params, prepared or params.prepared(name))
    if data.skeleton != problem.skeleton:
        found = f"joints of skeleton {data.skeleton.name}"
        difference = different_joint(data.skeleton.joints, problem.skeleton.joints)
        expected = f"expected those of {path}, {problem.skeleton.name}"
        raise UserError(f"{data.path}: found {found}, {expected}{difference and f' ({difference})'}")
    refiner = _load_refiner(params, model, folder)
    rows = data.rows("evaluation")
    if len(rows) == 0:
        expected = "expected some of split validation or test"
        raise UserError(f"{data.path}: found no {data.unit} to evaluate on, {expected}")
    batches: dict[str, Any] = {"batch": settings.batch, "workers": params.train.workers, "progress": True}
    tta: dict[str, Any] = {"flip": params.has_flip_test(name), "scales": params.scales(name)}
    people = predict_dataset(model, data, rows, **tta, **batches)
    scores, tables = data.scores_and_tables(people, rows)
    if not any(scores.get(metric.table) for metric in MONITORED[problem.kind]):
        found = f"found nobody with a labelled joint in {len(rows):,} {data.unit}"
        raise UserError(f"{data.path}: {found}, expected some to score")
    for file, table in tables.items():
        with atomic_write(paths.plots / f"{file}.csv") as temporary:
            table.to_csv(temporary, index=False, float_format="%.4f")
    predictions = paths.predictions(problem.predictions_suffix)
    write_results(predictions, data.results(name, people, rows), problem.predictions_format)
    predict = partial(predict_batches, model, data, **tta, **batches)
    calibration = partial(predict_batches, model, data, flip=params.is_mirrored(name), **batches)
    for table_name, extra in problem.extra_scores(data, predict, calibration, settings).items():
        scores[table_name] = scores.get(table_name, {}) | extra
    provenance = {"task": name, "file": str(path), "weights": weights_hash}
    if refiner and isinstance(data, MultiData):
        refined = _refined(people, data, rows, refiner, batch=settings.batch)
        scores["COCO refined"] = data.evaluate(refined, rows).metrics()
        used = evaluated_weights(params, refiner.model.name, folder)
        provenance |= {"refine_file": str(used), "refine_weights": file_hash(used)}
    digits = problem.score_digits
    rounded = {
        table: {key: round(value, digits) for key, value in row.items()} for table, row in scores.items()
    }
    write_json(paths.metrics, rounded)
    # Under the task's name: else two of them would have columns of the same names.
    write_json(paths.summary, {name: monitored(problem.kind, rounded)})
    write_json(paths.provenance, provenance | {"trained": dict(weights.provenance)})
    return scores


def _load_refiner(params: Params, model: Model, folder: str | Path) -> Refiner | None:
    """What `evaluate.refine` names, for a multi-person model; UserError if its weights cannot be used."""
    task, settings = params.evaluate.refine.get(model.name), params.evaluate
    if task is None:
        return None
    path = evaluated_weights(params, task, folder)
    require_dependency(path.parent, "evaluate.refine", "refine")  # dvc.yaml does not know `evaluate.weights`
    skeleton, flip = model.problem.skeleton, params.has_flip_test(task)
    refiner = Refiner.load(path, skeleton, device=model.device, flip=flip, batch=settings.batch)
    if refiner.model.name != task:
        raise UserError(f"{path}: weights of task {refiner.model.name!r}, expected {task!r}")
    return refiner


def _refined(
    people: Sequence[People], data: MultiData, rows: np.ndarray, refiner: Refiner, *, batch: int
) -> list[People]:
    """The people of each row refined; a log line says how long it takes."""
    refined: list[People] = []
    start = time.perf_counter()
    for first in range(0, len(rows), batch):
        some = slice(first, first + batch)
        images, affines = zip(*data.images.images(rows[some]), strict=True)
        found = [_moved(*one) for one in zip(people[some], affines, strict=True)]
        again = refiner.refine(images, found)
        refined += [_moved(one, invert(affine)) for one, affine in zip(again, affines, strict=True)]
    each = 1000 * (time.perf_counter() - start) / len(rows)
    count = sum(map(len, people))
    log.info(
        "%d people of %d images refined by %s: %.1f ms an image", count, len(rows), refiner.model.name, each
    )
    return refined


def _moved(people: People, affine: np.ndarray) -> People:
    return replace(people, joint_PK2=transform(affine, people.joint_PK2))
