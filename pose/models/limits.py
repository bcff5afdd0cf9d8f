"""Limits of the values of `params.yaml`, as types of its schema.

They are far above any use: a value beyond them is a slip, which would end in an overflow, a division by zero
or gigabytes of memory.
"""

from __future__ import annotations

from typing import Annotated

from pydantic import AfterValidator, Field, ValidationInfo

from pose.io.command import MAX_CROP_SCALE, MAX_SCALE, MIN_SCALE
from pose.keypoints.geometry import STRIDE

MAX_SIDE = 4096  # px: of an input at the largest of `evaluate.scales`, of a drawn or packed image
MAX_SPREAD = 0.9  # of a crop's or square's side: more would leave nothing of it


def _within_heatmap(sigma: float, others: ValidationInfo) -> float:
    cells = others.data.get("input_size", MAX_SIDE) / STRIDE
    if sigma > cells / 4:
        expected = f"expected at most {cells / 4:g}, a quarter of the heatmap's {cells:g} cells"
        raise ValueError(f"found {sigma:g}, {expected}")
    return sigma


def _leaves_some_of_the_crop(spread: float, others: ValidationInfo) -> float:
    if others.data.get("kind") == "linear" and spread > MAX_SPREAD:
        raise ValueError(f"found {spread:g}, expected at most {MAX_SPREAD} with kind: linear")
    return spread


Rate = Annotated[float, Field(gt=0, le=100)]  # of learning
Weight = Annotated[float, Field(ge=0, le=1e4)]  # of a term of a loss
Share = Annotated[float, Field(ge=0, le=1)]
Degrees = Annotated[float, Field(ge=0, le=180)]
Count = Annotated[int, Field(ge=1, le=10**9)]
CountOrZero = Annotated[int, Field(ge=0, le=10**9)]
DrawnCount = Annotated[int, Field(ge=0, le=10**6)]  # of synthetic people or images
Batch = Annotated[int, Field(ge=1, le=4096)]
InputSize = Annotated[int, Field(ge=64, le=2048, multiple_of=64)]  # side of a network's input, px
# Part of the names of its files, and without dots: to DVC `tasks.a.b` is key `b` of `tasks.a`.
TaskName = Annotated[str, Field(pattern=r"^[A-Za-z0-9][\w-]{0,99}$")]
JpegQuality = Annotated[int, Field(ge=1, le=100)]
Scale = Annotated[float, Field(ge=MIN_SCALE, le=MAX_SCALE)]  # of an evaluated image
CropScale = Annotated[float, Field(ge=MIN_SCALE, le=MAX_CROP_SCALE)]  # of an evaluated person
Spread = Annotated[float, Field(ge=0, le=MAX_SPREAD)]
FileName = Annotated[str, Field(min_length=1, max_length=1000, pattern=r"^[^\x00]+$")]
FolderName = FileName
# The validators look at fields that the schema names before these: input_size, kind.
# Sigma: of a target Gaussian, heatmap cells.
Sigma = Annotated[float, Field(ge=0.25, le=128), AfterValidator(_within_heatmap)]
ScaleSpread = Annotated[float, Field(ge=0, le=2), AfterValidator(_leaves_some_of_the_crop)]
