"""The evaluation of a task with its scores added to the MLflow run that trained it: `pose evaluate`."""

from __future__ import annotations

import logging

from pose.inference.evaluate import evaluate
from pose.io.files import read_json
from pose.io.paths import TaskPaths
from pose.params import load_params

log = logging.getLogger(__name__)


def evaluate_task(task: str) -> None:
    """Evaluate a task's weights, and add the scores to the MLflow run that trained them.

    UserError as of `evaluate`.
    """
    params, paths = load_params(), TaskPaths(task)
    scores = evaluate(params, task)
    for table, row in scores.items():
        print(f"{table}: " + ", ".join(f"{name} {value:.4g}" for name, value in row.items()))
    try:
        from pose.tracking.mlflow import log_evaluation
    except ModuleNotFoundError as error:  # a bare machine
        log.info("no module %s: nothing is tracked; the metrics are in %s", error.name, paths.metrics)
        return
    # Not of the file that is there now: a training may have ended since.
    log_evaluation(scores, weights=read_json(paths.provenance)["weights"])
