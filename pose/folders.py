"""Where a task's files are, relative to the workspace: `dvc.yaml` names the same paths."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

PREPARED = {"single": Path("data/prepared/lsp_mpii.h5"), "multi": Path("data/prepared/coco")}  # by problem


@dataclass(frozen=True)
class Folders:
    """The files of one task."""

    task: str

    @property
    def models(self) -> Path:
        """Weights for use."""
        return Path("models") / self.task

    @property
    def checkpoints(self) -> Path:
        """Resume state. Neither DVC nor git looks here: DVC deletes a stage's outputs before it runs the stage."""
        return Path("checkpoints") / self.task

    @property
    def run_id(self) -> Path:
        """The MLflow run that training wrote to, for evaluation to add to."""
        return self.checkpoints / "run_id"

    @property
    def clock(self) -> Path:
        """Seconds of training at each validation, as CSV: not among the metrics, which are the same in equal runs."""
        return self.checkpoints / "clock.csv"

    @property
    def plots(self) -> Path:
        """History and curves, as CSV."""
        return Path("metrics/plots") / self.task

    @property
    def metrics(self) -> Path:
        """Final figures."""
        return Path("metrics") / f"{self.task}.json"

    @property
    def provenance(self) -> Path:
        """What the final figures are of: the weights, and what those were trained by."""
        return Path("metrics/provenance") / f"{self.task}.json"

    def predictions(self, suffix: str) -> Path:
        """What was found in the test rows: `.h5` of single-person tasks, `.json` (COCO's result format) of the others."""
        return Path("predictions") / f"{self.task}{suffix}"
