"""Where the files of a task are, relative to a workspace. `dvc.yaml` names the same paths."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path, PurePath

PACKAGE = Path(__file__).resolve().parents[1]
# Where `csrc`, `presets`, `stages`, params.yaml and dvc.yaml are: in the package if it was installed from a
# wheel (setup.py), otherwise beside it.
INSTALLED = PACKAGE / "project"
PROJECT = INSTALLED if INSTALLED.is_dir() else PACKAGE.parent

# The prepared sets that `dvc.yaml` makes of `data.root`, by name.
PREPARED = {"lsp_mpii": Path("data/prepared/lsp_mpii.h5"), "coco": Path("data/prepared/coco")}


def is_synthetic(source: str) -> bool:
    """Whether the source of a data set is the embedded default's, by its name: people who are drawn."""
    return PurePath(source).name == "synthetic"


def prepared_set(dataset: str, problem: str) -> Path:
    """The prepared set of a problem: a file of people for `single`, a folder for `multi`.

    A data set of one's own is a folder that may have both.
    """
    if dataset in PREPARED:
        return PREPARED[dataset]
    folder = prepared_folder(dataset)
    return folder / "people.h5" if problem == "single" else folder


def prepared_folder(dataset: str) -> Path:
    """The prepared folder of a data set of one's own."""
    return Path("data/prepared") / dataset


@dataclass(frozen=True)
class TaskPaths:
    """The files of one task, under the folder `root`."""

    task: str
    root: Path = Path()

    @property
    def models(self) -> Path:
        """Folder of the model weights, `last.pt` and `best.pt`."""
        return self.root / "models" / self.task

    @property
    def checkpoints(self) -> Path:
        """Folder of the checkpoints of all runs, in a folder each.

        No DVC output: DVC deletes a stage's outputs before it runs the stage.
        """
        return self.root / "checkpoints" / self.task

    @property
    def train_time(self) -> Path:
        """CSV of the seconds of training at each validation. No metric: equal runs differ in it."""
        return self.checkpoints / "train_time.csv"

    @property
    def plots(self) -> Path:
        """Folder of the history and of curves, as CSV."""
        return self.root / "metrics" / "plots" / self.task

    @property
    def metrics(self) -> Path:
        """JSON file of the final metrics."""
        return self.root / "metrics" / f"{self.task}.json"

    @property
    def summary(self) -> Path:
        """JSON file of the few metrics that are the columns of `dvc exp show`."""
        return self.root / "metrics" / "summary" / f"{self.task}.json"

    @property
    def provenance(self) -> Path:
        """JSON file that says which weights the final metrics are of, and how those were trained."""
        return self.root / "metrics" / "provenance" / f"{self.task}.json"

    def predictions(self, suffix: str) -> Path:
        """Predictions on the evaluated rows.

        `.h5` for single-person tasks, `.json` (COCO results) for the others.
        """
        return self.root / "predictions" / f"{self.task}{suffix}"
