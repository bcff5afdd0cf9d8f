"""What the loop, the evaluation and `pose predict` ask of a problem and of its data: one person a crop, or all people of a picture.

Legend: B images, S stacks, C output channels, K joints, H W input px, h w heatmap cells, N rows of the prepared set.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Protocol

import numpy as np
import pandas as pd
from torch import Tensor, nn
from torch.utils.data import Dataset

from pose.metrics import Scores
from pose.params import AEParams, HourglassParams, MultiParams, SingleParams
from pose.people import People
from pose.skeleton import Skeleton

Terms = dict[str, Tensor]  # named scalar losses, before weighting
Box = tuple[float, float, float, float]  # x, y, width, height in image px

# Which rows of a prepared set: those trained on, those looked at while training, those that nothing is chosen by.
Part = Literal["train", "watched", "test"]


@dataclass(frozen=True)
class View:
    """The network's answer to one showing of a batch. mirrored: left and right exchanged. The first is upright, of the input's size."""

    output_BSChw: Tensor
    mirrored: bool = False


class Data(Protocol):
    """A prepared set as a problem sees it."""

    @property
    def path(self) -> Path:
        """The file that training reads."""

    @property
    def files(self) -> tuple[Path, ...]:
        """All that training and its figures come from."""

    @property
    def unit(self) -> str:
        """What a row is: `people` or `images`."""

    def rows(self, part: Part) -> np.ndarray:
        """Row numbers of a part; empty where the set has none."""

    def name(self, row: int) -> str:
        """Of the image of a row, as the raw set names it."""

    def dataset(self, rows: np.ndarray, *, seed: int, augment: bool, scales: Sequence[float] = ()) -> Dataset[Any]:
        """Batches of these rows (`__getitems__`), also shown at further scales."""

    def unmeasured(self, rows: np.ndarray) -> str:
        """Why no figure can be made of any of these rows; empty if one can."""

    def score(self, found: Sequence[People], rows: np.ndarray) -> Scores:
        """Figures of what was found in each of these rows, in image px."""

    def tables(self, found: Sequence[People], rows: np.ndarray) -> dict[str, pd.DataFrame]:
        """Curves and tables of an evaluation, by the name of the file."""

    def write(self, path: Path, task: str, found: Sequence[People], rows: np.ndarray) -> None:
        """Write what was found, in the problem's own format."""


class Problem(Protocol):
    """One of two: `pose.single` and `pose.multi`."""

    @property
    def kind(self) -> str:
        """Its name in params.yaml."""

    @property
    def results(self) -> str:
        """Ending of the file that `Data.write` writes."""

    @property
    def params(self) -> SingleParams | MultiParams:
        """What it is shown and taught."""

    @property
    def skeleton(self) -> Skeleton:
        """Joints that are found, in their order."""

    def network(self, params: HourglassParams | AEParams) -> nn.Module:
        """image_B3HW -> output_BSChw."""

    def losses(self, output_BSChw: Tensor, batch: Any) -> Terms:
        """Every term of the loss."""

    def heatmaps(self, output_BSChw: Tensor) -> Tensor:
        """The last stack's joints, BKhw, on the scale of the targets."""

    def game(self, output_BSChw: Tensor, batch: Any) -> tuple[Tensor, Tensor]:
        """What an adversary compares: the true heatmaps and the last stack's, BKhw, both empty where the loss does not look."""

    def decode(self, views: Sequence[View], affine_B23: Tensor) -> list[People]:
        """The people of each image, in its own px; affine_B23: image px -> input px."""

    def show(self, images: Sequence[np.ndarray], boxes: Sequence[Box | None], scales: Sequence[float]) -> Any:
        """A user's own pictures, (H, W, 3) uint8 RGB, as a batch."""

    def headline(self, scores: Scores) -> dict[str, float]:
        """The few figures that a curve over training shows; the first is the one by which weights are called best."""

    def data(self, prepared: Path, *, watched: int) -> Data:
        """The prepared set; at most `watched` rows are in part `watched` (0: all that may be). UserError if it cannot be used."""


def spread(rows: np.ndarray, most: int) -> np.ndarray:
    """At most `most` of the rows, evenly spread over them; all of them for 0."""
    return rows if not most or len(rows) <= most else rows[np.linspace(0, len(rows) - 1, most).astype(int)]
