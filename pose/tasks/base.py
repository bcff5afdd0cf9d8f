"""What training, evaluation and prediction ask of a problem (one person a crop, or all people of an image) and its data.

Legend: B images, S stacks, C output channels, K joints, H W input px, h w heatmap cells, N rows of the
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

# Rows of a prepared set: those trained on, those validated on while training, those of the final evaluation.
Subset = Literal["train", "val", "evaluation"]


@dataclass(frozen=True)
class TTAOutput:
    """The network's output for a batch under one test-time augmentation.

    mirrored: of the mirrored images. The first output of a batch is of the images as they are, at the input's
    size.
    """

    output_BSChw: Tensor
    mirrored: bool = False


# Rows of a prepared set -> the outputs of each batch of them, in order, and affine_B23 (image px -> input
# px).
PredictRows = Callable[[np.ndarray], Iterable[tuple[Sequence[TTAOutput], Tensor]]]


class ProblemData(Protocol):
    """A prepared set as a problem sees it."""

    @property
    def path(self) -> Path:
        """The file that training reads."""

    @property
    def files(self) -> tuple[Path, ...]:
        """All files that training and its metrics come from."""

    @property
    def skeleton(self) -> Skeleton:
        """The joints that are annotated, in their order."""

    @property
    def unit(self) -> str:
        """What a row is: `people` or `images`."""

    def rows(self, subset: Subset) -> np.ndarray:
        """Row numbers of a subset; empty where the set has none."""

    def name(self, row: int) -> str:
        """Name of the image of a row, as the raw set has it."""

    def dataset(
        self, rows: np.ndarray, *, seed: int | None = None, scales: Sequence[float] = ()
    ) -> Dataset[Batch]:
        """Batches of these rows; with a seed augmented and with targets, else to predict, also at further scales."""

    def missing_metric_reason(self, rows: np.ndarray) -> str:
        """Why no metric can be computed on any of these rows; empty if one can."""

    def score(self, people: Sequence[People], rows: np.ndarray) -> Scores:
        """Metrics of the predictions for each of these rows, in image px."""

    def tables(self, people: Sequence[People], rows: np.ndarray) -> dict[str, pd.DataFrame]:
        """Curves and tables of an evaluation, by the name of the file."""

    def write_predictions(self, path: Path, task: str, people: Sequence[People], rows: np.ndarray) -> None:
        """Write predictions in the problem's own format."""


class Problem(Protocol):
    """What a network is shown, taught and asked: `pose.tasks.single` and `pose.tasks.multi`."""

    @property
    def kind(self) -> ProblemKind:
        """Its name in params.yaml."""

    @property
    def params(self) -> SingleInferenceParams | MultiInferenceParams:
        """What it is shown and, if they are all of them, taught."""

    @property
    def skeleton(self) -> Skeleton:
        """Joints that are predicted, in their order."""

    @property
    def predictions_suffix(self) -> str:
        """Of the file that `ProblemData.write_predictions` writes."""

    @property
    def score_digits(self) -> int:
        """After the decimal point, in metrics/TASK.json."""

    @property
    def outputs(self) -> int:
        """Channels that the network must have."""

    @property
    def terms(self) -> tuple[str, ...]:
        """Names of the terms of the loss."""

    def inference_params(self) -> dict[str, Any]:
        """What model weights carry, so that `build_problem` makes the problem again for inference."""

    def build_network(self, params: NetworkParams) -> PoseNetwork:
        """image_B3HW -> output_BSChw, its weights drawn."""

    def losses(self, output_BSChw: Tensor, targets: Any) -> Terms:
        """Every term of the loss."""

    def heatmaps(self, output_BSChw: Tensor) -> Tensor:
        """The last stack's heatmaps, BKhw, on the scale of the targets."""

    def adversarial_inputs(self, output_BSChw: Tensor, targets: Any) -> tuple[Tensor, Tensor]:
        """What an adversary compares.

        The true heatmaps and the last stack's, BKhw, both 0 where the loss is masked.
        """

    def preprocess(
        self, images: Sequence[np.ndarray], boxes: Sequence[Box | None], scales: Sequence[float]
    ) -> Inputs:
        """A user's own images, (H, W, 3) uint8 RGB."""

    def decode(self, outputs: Sequence[TTAOutput], affine_B23: Tensor) -> list[People]:
        """The people of each image, in its own px; affine_B23: image px -> input px."""

    def calibrate(self, data: Any, predict: PredictRows) -> Problem:
        """The problem with what is tuned on rows held out of training, or itself if nothing is."""

    def extra_scores(
        self, data: Any, predict: PredictRows, calibration: PredictRows, params: EvaluateParams
    ) -> Scores:
        """Further tables of an evaluation, beside `ProblemData.score` of the evaluation rows.

        predict: as evaluated. calibration: as `calibrate` is given it at the end of training.
        """


def spread_evenly(rows: np.ndarray, most: int) -> np.ndarray:
    """At most `most` of the rows, evenly spread over them; all of them for 0."""
    return rows if not most or len(rows) <= most else rows[np.linspace(0, len(rows) - 1, most).astype(int)]
