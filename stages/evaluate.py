"""Stage `evaluate@TASK`: model weights and prepared data -> metrics, curves, predictions."""

from __future__ import annotations

from pose.io.command import run_stage
from pose.tracking.evaluation import evaluate_task as main

if __name__ == "__main__":
    run_stage(main)
