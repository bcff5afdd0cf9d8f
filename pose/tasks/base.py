"""The interface of a problem (one person a crop, or all people of an image) and of its data.

Training, evaluation and prediction are written against it; `pose.tasks.single` and `pose.tasks.multi`
implement it. B images, S stacks, C output channels, K joints, H W input px, h w heatmap cells, N rows of the
prepared set.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Protocol

import numpy as np
from torch import Tensor
from torch.utils.data import Dataset

from pose.data.batch import Batch, Inputs
from pose.keypoints.people import People
from pose.keypoints.skeleton import Skeleton
from pose.metrics.pck import Scores
from pose.models.blocks import PoseNetwork
from pose.models.networks import NetworkParams
from pose.models.weights import ProblemKind
from pose.params import EvaluateParams, MultiInferenceParams, SingleInferenceParams

if TYPE_CHECKING:
    import pandas as pd

Terms = dict[str, Tensor]  # named scalar losses, before weighting
Box = tuple[float, float, float, float]  # x, y, width, height in image px

# Rows of a prepared set: to train on, to validate on during training, for the final evaluation.
Subset = Literal["train", "val", "evaluation"]


@dataclass(frozen=True)
class TTAOutput:
    """The network's output for a batch under one test-time augmentation. mirrored: of the mirrored images.

    The first output of a batch is always of the unchanged images at the input's own size.
    """

    output_BSChw: Tensor
    mirrored: bool = False


# Rows of a prepared set -> for each batch its outputs and affine_B23 (image px -> input px), in order.
PredictRows = Callable[[np.ndarray], Iterable[tuple[Sequence[TTAOutput], Tensor]]]


class ProblemData(Protocol):
    """A prepared set, as a problem uses it."""

    @property
    def path(self) -> Path:
        """The file that training reads."""

    @property
    def files(self) -> tuple[Path, ...]:
        """All files that weights and metrics depend on."""

    @property
    def skeleton(self) -> Skeleton:
        """The annotated joints."""

    @property
    def unit(self) -> str:
        """What a row is: `people` or `images`."""

    def rows(self, subset: Subset) -> np.ndarray:
        """Row numbers of a subset; empty if the set has none."""

    def name(self, row: int) -> str:
        """A name for a row, for messages: that of its image in the raw set."""

    def dataset(
        self, rows: np.ndarray, *, seed: int | None = None, scales: Sequence[float] = ()
    ) -> Dataset[Batch]:
        """Batches of these rows: with a seed augmented and with targets, else for inference.

        scales: further sizes of the images, for problems that support them.
        """

    def missing_metric_reason(self, rows: np.ndarray) -> str:
        """Why no metric can be computed on these rows; empty if one can."""

    def score(self, people: Sequence[People], rows: np.ndarray) -> Scores:
        """Metrics of the predictions (image px) for these rows."""

    def tables(self, people: Sequence[People], rows: np.ndarray) -> dict[str, pd.DataFrame]:
        """Curves and tables of an evaluation, by file name."""

    def write_predictions(self, path: Path, task: str, people: Sequence[People], rows: np.ndarray) -> None:
        """Write predictions in the problem's own format."""


class Problem(Protocol):
    """How a network is built, trained, used and evaluated."""

    @property
    def kind(self) -> ProblemKind:
        """Its name in params.yaml."""

    @property
    def params(self) -> SingleInferenceParams | MultiInferenceParams:
        """The inference parameters, or those of training, which include them."""

    @property
    def skeleton(self) -> Skeleton:
        """The predicted joints."""

    @property
    def predictions_suffix(self) -> str:
        """Suffix of the file that `ProblemData.write_predictions` writes."""

    @property
    def score_digits(self) -> int:
        """Digits after the decimal point in metrics/TASK.json."""

    @property
    def outputs(self) -> int:
        """Channels that the network must have."""

    @property
    def terms(self) -> tuple[str, ...]:
        """Names of the loss terms."""

    def inference_params(self) -> dict[str, Any]:
        """The plain values that model weights store, enough for `build_problem`."""

    def build_network(self, params: NetworkParams) -> PoseNetwork:
        """image_B3HW -> output_BSChw, with initial weights."""

    def losses(self, output_BSChw: Tensor, targets: Any) -> Terms:
        """The terms of the loss."""

    def heatmaps(self, output_BSChw: Tensor) -> Tensor:
        """The last stack's heatmaps, BKhw, on the scale of the targets."""

    def adversarial_inputs(self, output_BSChw: Tensor, targets: Any) -> tuple[Tensor, Tensor]:
        """What an adversary compares: true and predicted heatmaps, BKhw, 0 where the loss is masked."""

    def preprocess(
        self, images: Sequence[np.ndarray], boxes: Sequence[Box | None], scales: Sequence[float]
    ) -> Inputs:
        """Inputs of a user's own images, (H, W, 3) uint8 RGB. boxes: of the one person in each, if any."""

    def decode(self, outputs: Sequence[TTAOutput], affine_B23: Tensor) -> list[People]:
        """The people of each image, in its own px, by falling score. affine_B23: image px -> input px."""

    def calibrate(self, data: Any, predict: PredictRows) -> Problem:
        """The problem with parameters tuned on rows held out of training, or itself if none are tuned."""

    def extra_scores(
        self, data: Any, predict: PredictRows, calibration: PredictRows, params: EvaluateParams
    ) -> Scores:
        """Further tables of an evaluation, beside `ProblemData.score` of the evaluation rows.

        predict: as evaluated. calibration: as `calibrate` gets it at the end of training.
        """


def spread_evenly(rows: np.ndarray, most: int) -> np.ndarray:
    """At most `most` of the rows, evenly spread over them; all of them for 0."""
    return rows if not most or len(rows) <= most else rows[np.linspace(0, len(rows) - 1, most).astype(int)]
