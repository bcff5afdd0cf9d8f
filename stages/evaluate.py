"""Stage `evaluate@TASK`: weights and prepared data -> figures, curves, predictions."""

from __future__ import annotations

import sys

from pose.errors import run_main
from pose.evaluation import evaluate, weights_file
from pose.files import file_hash
from pose.folders import Folders
from pose.params import load_params


def main(task: str) -> None:
    """Evaluate the task's weights and add the figures to the MLflow run that trained them."""
    params = load_params()
    scores = evaluate(params, task)
    for table, figures in scores.items():
        print(f"{table}: " + ", ".join(f"{name} {value:.4g}" for name, value in figures.items()))
    try:
        from pose.tracking import log_scores
    except ModuleNotFoundError as error:  # a bare machine
        print(f"tracking: no module {error.name}; the figures are in {Folders(task).metrics}")
        return
    log_scores(Folders(task).run_id, scores, weights=file_hash(weights_file(params, task)))


if __name__ == "__main__":
    run_main(main, *sys.argv[1:])
