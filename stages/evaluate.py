"""Stage `evaluate@TASK`: weights and prepared data -> figures, curves, predictions."""

from __future__ import annotations

import sys

from pose.errors import run_main
from pose.evaluation import evaluate
from pose.folders import Folders
from pose.params import load_params
from pose.tracking import log_scores


def main(task: str) -> None:
    """Evaluate the task's weights and add the figures to the MLflow run that trained them."""
    scores = evaluate(load_params(), task)
    for table, figures in scores.items():
        print(f"{table}: " + ", ".join(f"{name} {value:.4g}" for name, value in figures.items()))
    log_scores(Folders(task).run_id, scores)


if __name__ == "__main__":
    run_main(main, *sys.argv[1:])
