"""A problem (one person a crop, or all people of an image) and its data, as base classes.

Training, evaluation and prediction are written against them; `pose.tasks.single` and `pose.tasks.multi`
implement them. B images, S stacks, C output channels, K joints, H W input px, h w heatmap cells, N rows of
the prepared set.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import numpy as np
from torch import Tensor
from torch.utils.data import Dataset

from pose.data.batch import Batch, Inputs
from pose.data.image_set import ImageSet
from pose.data.person_set import PersonSet
from pose.keypoints.heatmap import flip_back, zoom_back
from pose.keypoints.people import People
from pose.keypoints.results import Results
from pose.keypoints.skeleton import Skeleton
from pose.metrics.pck import Scores
from pose.models.blocks import PoseNetwork
from pose.models.networks import NetworkParams
from pose.models.weights import ProblemKind
from pose.params import EvaluateParams, MultiInferenceParams, SingleInferenceParams
from pose.tasks.arrays import Box
from pose.tasks.losses import HeatmapLoss, heatmap_loss

if TYPE_CHECKING:
    import pandas as pd

Terms = dict[str, Tensor]  # named scalar losses, before weighting
ProblemParams = SingleInferenceParams | MultiInferenceParams  # or those of training, which include them

# Rows of a prepared set: to train on, to validate on during training, for the final evaluation.
Subset = Literal["train", "val", "evaluation"]


@dataclass(frozen=True)
class TTAOutput:
    """The network's output for a batch under one test-time augmentation.

    mirrored: of the mirrored images. zoom: as of `Inputs`. The first output of a batch is always of the
    unchanged images at the input's own size.
    """

    output_BSChw: Tensor
    mirrored: bool = False
    zoom: float = 1.0

    def upright(self, map_BKhw: Tensor, skeleton: Skeleton) -> Tensor:
        """Maps made from this output as maps of the images as they are; NaN in cells that it does not see."""
        shown = map_BKhw if self.zoom == 1 else zoom_back(map_BKhw, self.zoom)
        return flip_back(shown, skeleton.flip_index) if self.mirrored else shown


# Rows of a prepared set -> for each batch its outputs and affine_B23 (image px -> input px), in order.
PredictRows = Callable[[np.ndarray], Iterable[tuple[Sequence[TTAOutput], Tensor]]]


class ProblemData(ABC):
    """A prepared set, as a problem uses it. unit: what a row is, `people` or `images`."""

    unit: ClassVar[str]

    @property
    @abstractmethod
    def source(self) -> PersonSet | ImageSet:
        """The reader of the set."""

    @property
    def path(self) -> Path:
        """The file that training reads."""
        return self.source.path

    @property
    def files(self) -> tuple[Path, ...]:
        """All files that weights and metrics depend on."""
        return (self.path,)

    @property
    def skeleton(self) -> Skeleton:
        """The annotated joints."""
        return self.source.skeleton

    def name(self, row: int) -> str:
        """A name for a row, for messages: that of its image in the raw set."""
        return self.source.name(row)

    @abstractmethod
    def rows(self, subset: Subset) -> np.ndarray:
        """Row numbers of a subset; empty if the set has none."""

    @abstractmethod
    def dataset(
        self, rows: np.ndarray, *, seed: int | None = None, scales: Sequence[float] = ()
    ) -> Dataset[Batch]:
        """Batches of these rows: with a seed augmented and with targets, else for inference.

        scales: further sizes at which people are shown, over that of training.
        """

    def missing_metric_reason(self, rows: np.ndarray) -> str:
        """Why no metric can be computed on these rows; empty if one can."""
        return ""

    @abstractmethod
    def score(self, people: Sequence[People], rows: np.ndarray) -> Scores:
        """Metrics of the predictions (image px) for these rows."""

    @abstractmethod
    def tables(self, people: Sequence[People], rows: np.ndarray) -> dict[str, pd.DataFrame]:
        """Curves and tables of an evaluation, by file name."""

    def scores_and_tables(
        self, people: Sequence[People], rows: np.ndarray
    ) -> tuple[Scores, dict[str, pd.DataFrame]]:
        """`score` and `tables` of the same predictions, which may share what takes long."""
        return self.score(people, rows), self.tables(people, rows)

    @abstractmethod
    def results(self, task: str, people: Sequence[People], rows: np.ndarray) -> Results:
        """Predictions for these rows, to be written."""


@dataclass(frozen=True)
class Problem(ABC):
    """How a network is built, trained, used and evaluated.

    skeleton: the predicted joints. kind: its name in params.yaml. inference_type: of the parameters that
    weights store. terms: of the loss. predictions_suffix, predictions_format: of the file of
    `ProblemData.results`, see `pose.data.results`. score_digits: after the decimal point in
    metrics/TASK.json.
    """

    params: ProblemParams
    skeleton: Skeleton
    kind: ClassVar[ProblemKind]
    inference_type: ClassVar[type[ProblemParams]]
    terms: ClassVar[tuple[str, ...]]
    predictions_suffix: ClassVar[str]
    predictions_format: ClassVar[str]
    score_digits: ClassVar[int]

    @cached_property
    def loss(self) -> HeatmapLoss:
        """The kind of loss that the parameters name."""
        return heatmap_loss(self.params)

    @property
    @abstractmethod
    def outputs(self) -> int:
        """Channels that the network must have."""

    def inference_params(self) -> dict[str, Any]:
        """The plain values that model weights store, enough for `build_problem`."""
        return self.params.model_dump(include=set(self.inference_type.model_fields))

    def build_network(self, params: NetworkParams) -> PoseNetwork:
        """image_B3HW -> output_BSChw, with initial weights."""
        return params.build(self.outputs)

    @abstractmethod
    def losses(self, output_BSChw: Tensor, targets: Any) -> Terms:
        """The terms of the loss."""

    @abstractmethod
    def heatmaps(self, output_BSChw: Tensor) -> Tensor:
        """The last stack's heatmaps, BKhw, on the scale of the targets."""

    @abstractmethod
    def adversarial_inputs(self, output_BSChw: Tensor, targets: Any) -> tuple[Tensor, Tensor]:
        """What an adversary compares: true and predicted heatmaps, BKhw, 0 where the loss is masked."""

    @abstractmethod
    def preprocess(
        self, images: Sequence[np.ndarray], boxes: Sequence[Box | None], scales: Sequence[float]
    ) -> Inputs:
        """Inputs of a user's own images, (H, W, 3) uint8 RGB.

        boxes: of the one person in each, if any. scales: as of `ProblemData.dataset`.
        """

    @abstractmethod
    def decode(self, outputs: Sequence[TTAOutput], affine_B23: Tensor) -> list[People]:
        """The people of each image, in its own px, by falling score. affine_B23: image px -> input px."""

    def calibrate(self, data: Any, predict: PredictRows) -> Problem:
        """The problem with parameters tuned on rows held out of training, or itself if none are tuned."""
        return self

    def extra_scores(
        self, data: Any, predict: PredictRows, calibration: PredictRows, params: EvaluateParams
    ) -> Scores:
        """Further tables of an evaluation, beside `ProblemData.score` of the evaluation rows.

        predict: as evaluated. calibration: as `calibrate` gets it at the end of training.
        """
        return {}


def spread_evenly(rows: np.ndarray, most: int) -> np.ndarray:
    """At most `most` of the rows, evenly spread over them; all of them for 0."""
    return rows if not most or len(rows) <= most else rows[np.linspace(0, len(rows) - 1, most).astype(int)]
