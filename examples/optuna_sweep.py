"""Optuna chooses the learning rate; trials that fall behind at a validation end early.

    pip install optuna
    dvc repro prepare_lsp_mpii
    python examples/optuna_sweep.py      # in the project's root

Each trial trains in a temporary folder. The study can be continued, and shared by several such processes:
its trials are in optuna.db.
"""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path

import optuna

import pose
from pose.experiments.presets import params_with
from pose.io.errors import UserError
from pose.params import Params
from pose.tracking.base import NullTracker, Row

TASK, METRIC, TRIALS = "hgpose", "PCKh@0.5", 10


class Pruner(NullTracker):
    """Tells Optuna of each validation, and ends the trial at the next step where Optuna gives it up."""

    def __init__(self, trial: optuna.Trial):
        self.trial, self.hopeless = trial, False

    def log(self, row: Row) -> None:
        """A row of train.csv or val.csv."""
        if METRIC in row:
            self.trial.report(row[METRIC], int(row["step"]))
            self.hopeless = self.trial.should_prune()

    def on_step(self, step: int, terms: Mapping[str, float]) -> None:
        """After each step."""
        if self.hopeless:
            raise optuna.TrialPruned


def objective(trial: optuna.Trial, params: Params, prepared: Path | None = None) -> float:
    """The metric of a training with what Optuna suggests."""
    params = params.model_copy(update={"lr": trial.suggest_float("lr", 1e-3, 1e-1, log=True)})
    pruner = Pruner(trial)
    with tempfile.TemporaryDirectory() as folder:
        metrics = pose.train(
            params, TASK, folder=folder, prepared=prepared, tracker=pruner, on_step=pruner.on_step
        )
    return metrics[METRIC]


def main() -> None:
    """Run the trials and print the best one."""
    study = optuna.create_study(
        study_name=TASK, direction="maximize", storage="sqlite:///optuna.db", load_if_exists=True
    )
    params = params_with("tiny")
    study.optimize(lambda trial: objective(trial, params), n_trials=TRIALS)
    print(f"{METRIC} {study.best_value:.1f} with {study.best_params}")


if __name__ == "__main__":
    try:
        main()
    except UserError as error:
        sys.exit(f"error: {error}")
