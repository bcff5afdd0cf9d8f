"""Three learning rates tried by calling `pose.train`, as a tuner such as Optuna would call it.

    python examples/optuna_style.py     # after `dvc repro prepare_lsp_mpii`, in the project's root

Each trial trains in a temporary folder. `objective` is what a tuner asks for; a tracker or `on_step`, which
may raise an exception to end a trial early, would be passed on to `pose.train`.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

import pose
from pose.experiments.presets import params_with
from pose.io.errors import UserError
from pose.params import Params

TASK, STEPS = "hgpose", 40


def objective(params: Params, lr: float, prepared: Path | None = None) -> dict[str, float]:
    """Metrics of a short training at a learning rate."""
    params = params.model_copy(update={"lr": lr})
    with tempfile.TemporaryDirectory() as folder:
        return pose.train(params, TASK, folder=folder, prepared=prepared, max_steps=STEPS)


def main() -> None:
    """Print the metrics of each learning rate."""
    params = params_with("tiny")
    for lr in (0.0025, 0.005, 0.01):
        metrics = objective(params, lr)
        print(f"lr {lr:g}: {', '.join(f'{name} {value:.1f}' for name, value in metrics.items())}")


if __name__ == "__main__":
    try:
        main()
    except UserError as error:
        sys.exit(f"error: {error}")
