"""Where a task's files are, relative to the workspace: `dvc.yaml` names the same paths."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

PREPARED = Path("data/prepared/lsp_mpii.h5")


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
    def plots(self) -> Path:
        """History and curves, as CSV."""
        return Path("metrics/plots") / self.task

    @property
    def metrics(self) -> Path:
        """Final figures."""
        return Path("metrics") / f"{self.task}.json"

    @property
    def predictions(self) -> Path:
        """Joints found for the held-out people."""
        return Path("predictions") / f"{self.task}.h5"
