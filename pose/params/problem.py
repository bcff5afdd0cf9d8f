"""Parameters of the two problems: one person a crop, or all people of an image."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, field_validator, model_validator

from pose.io.schema import Frozen
from pose.models.limits import (
    Count,
    CountOrZero,
    Degrees,
    InputSize,
    ScaleSpread,
    Share,
    Sigma,
    Spread,
    Weight,
)

Target = Literal["subcell", "floor"]  # see `pose.keypoints.heatmap`
GroupBy = Literal["tags", "distance"]


class RotationParams(Frozen):
    """normal(0, deg), clipped to +- clip, with this probability, else 0; degrees."""

    deg: Degrees
    clip: Degrees
    probability: Share


class ScaleParams(Frozen):
    """linear: 1 + normal(0, spread) clipped at spread. log2: 2 ** normal(0, spread), clipped at 2 spread."""

    kind: Literal["linear", "log2"]
    spread: ScaleSpread


class AugmentParams(Frozen):
    """flip: probability. colour: the gain of each channel is uniform in 1 +- colour."""

    rotation: RotationParams
    scale: ScaleParams
    flip: Share
    colour: Share


class SingleInferenceParams(Frozen):
    """What inference needs and model weights store.

    input_size: side of the crop, px. crop: its side over the person's height. sigma: of the target Gaussian,
    heatmap cells.
    """

    input_size: InputSize
    crop: Annotated[float, Field(ge=0.25, le=2)]  # little more is packed, see `data.SURROUNDINGS`
    sigma: Sigma
    target: Target
    loss: Literal["mse", "cross_entropy"]


class SingleParams(SingleInferenceParams):
    """unlabelled: leave joints without annotation out of the loss, or train them towards an empty map.

    foreground: the squared error of a cell is weighted by 1 + foreground * target.
    """

    unlabelled: Literal["ignore", "zero"]
    foreground: Weight
    augment: AugmentParams

    @model_validator(mode="after")
    def _cross_entropy_has_no_empty_maps(self) -> SingleParams:
        if self.loss == "cross_entropy" and self.unlabelled == "zero":
            raise ValueError("unlabelled: found zero, expected ignore with loss: cross_entropy")
        return self


class MultiAugmentParams(Frozen):
    """Bounds of uniform draws: rotation, hue: +- degrees. scale: of the square's side, 1 +- scale.

    shift: +- share of that side. saturation, contrast: factors 1 +- these. brightness: +- this share of
    white. flip: probability.
    """

    rotation: Degrees
    scale: Spread
    shift: Share
    flip: Share
    hue: Degrees
    saturation: Share
    brightness: Share
    contrast: Share


class ThresholdParams(Frozen):
    """Of grouping, see `pose.keypoints.grouping`.

    group_by: what tells people apart, their tags (`tag`) or the distance of their joints (`max_distance`).
    tune: at the end of training, all others are replaced by the values of the highest AP on held-out images,
    which the model weights then store.
    """

    tune: bool
    group_by: GroupBy
    detection: Share
    tag: Annotated[float, Field(gt=0, le=1e4)]
    max_distance: Annotated[float, Field(ge=0.001, le=10)]


class MultiInferenceParams(Frozen):
    """What inference needs and model weights store.

    input_size: side of the square input, px. tag_gain: a factor for the network's tag maps.
    """

    input_size: InputSize
    target: Target
    loss: Literal["mse", "focal"]
    tag_gain: Annotated[float, Field(gt=0, le=1e4)]
    thresholds: ThresholdParams


class MultiParams(MultiInferenceParams):
    """sigma: of the target Gaussian, cells. people: of an image, whose tags are trained, at most.

    foreground: the error of a cell is weighted by 1 + foreground * target. held_out: number of training
    images used for validation and to tune thresholds instead.
    """

    sigma: Sigma
    people: Count
    focal_gamma: Annotated[float, Field(ge=0, le=10)]
    foreground: Weight
    held_out: CountOrZero
    augment: MultiAugmentParams

    @field_validator("focal_gamma")
    @classmethod
    def _focal_gradient_is_finite(cls, gamma: float) -> float:
        if 0 < gamma < 1:
            raise ValueError(f"found {gamma:g}, expected 0 or at least 1 (between, gradients are infinite)")
        return gamma
