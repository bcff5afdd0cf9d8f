"""The monitored metrics of each problem and their names: the few that are logged, plotted and compared.

Read by history, tracker, report, studies and `pose show`; `dvc.yaml` plots the same columns.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from pose.metrics.pck import Scores

TRAIN_PREFIX = "train "  # before the names of metrics over samples that were trained on


@dataclass(frozen=True)
class Metric:
    """name: in val.csv, MLflow and the report. table, key: its place in metrics/TASK.json.

    best: the value of a perfect prediction. digits: after the decimal point. meaning: in words. default: used
    where the scores lack the metric; None leaves it out.
    """

    name: str
    table: str
    key: str
    best: float
    digits: int
    meaning: str
    default: float | None = None

    @property
    def path(self) -> str:
        """Dotted place in metrics/TASK.json."""
        return f"{self.table}.{self.key}"


_MEAN = "the mean of OKS thresholds 0.50 to 0.95"
# By problem. The first metric that a run has decides which weights are the best and compares runs.
MONITORED: dict[str, tuple[Metric, ...]] = {
    "single": (
        Metric("PCKh@0.5", "PCKh", "0.5", 100.0, 1, "within half a head size"),
        Metric("PCK@0.2", "PCK", "0.2", 100.0, 1, "within a fifth of the reference length"),
        Metric("PCKh@0.1", "PCKh", "0.1", 100.0, 1, "within a tenth of a head size"),
        Metric("AUC", "PCKh", "AUC", 100.0, 1, "area under the accuracy from 0 to 0.5"),
    ),
    "multi": (  # pycocotools gives none of them where nobody is found
        Metric("AP", "COCO", "AP", 1.0, 3, f"average precision, {_MEAN}", 0.0),
        Metric("AP50", "COCO", "AP50", 1.0, 3, "average precision where an OKS of 0.5 is enough", 0.0),
        Metric("AR", "COCO", "AR", 1.0, 3, f"average recall: people found, {_MEAN}", 0.0),
        Metric(
            "AP refined", "COCO refined", "AP", 1.0, 3, "AP with people refined by a single-person network"
        ),
    ),
}


def monitored(problem: str, scores: Scores, prefix: str = "") -> dict[str, float]:
    """The monitored metrics among the scores of a problem, by name with this prefix."""
    found = {}
    for metric in MONITORED[problem]:
        value = scores.get(metric.table, {}).get(metric.key, metric.default)
        if value is not None:
            found[prefix + metric.name] = value
    return found


def monitored_in(problem: str, flat: Mapping[str, float]) -> dict[str, float]:
    """The monitored metrics of a metrics file, by name. flat: the file's metrics by dotted place."""
    return {metric.name: flat[metric.path] for metric in MONITORED[problem] if metric.path in flat}
