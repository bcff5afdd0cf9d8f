"""Stage `evaluate@TASK`: model weights and prepared data -> metrics, curves, predictions."""

from __future__ import annotations

from pose.io.command import run_stage
from pose.tracking.evaluation import evaluate_task


def main(task: str) -> None:
    """Evaluate a task's weights, and add the scores to the MLflow run that trained them."""
    evaluate_task(task)


if __name__ == "__main__":
    run_stage(main)
