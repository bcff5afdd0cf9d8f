"""What stands around a network in use, in NumPy: a user's images as its input, and its maps as people.

Networks in PyTorch and exported ones share it, so it imports no torch. P people, K joints, H W image px, h w
heatmap cells, T tag dimensions.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from pose.data.augment import person_affine
from pose.data.formats.person_table import PERSON_HEIGHT
from pose.io.errors import UserError
from pose.keypoints.geometry import invert, to_px, transform
from pose.keypoints.grouping import GroupingParams, group
from pose.keypoints.people import People
from pose.keypoints.skeleton import Skeleton
from pose.params.problem import MultiInferenceParams, SingleInferenceParams

Box = tuple[float, float, float, float]  # x, y, width, height in image px

# LSP's rule: a person is 0.8 of the image's longer side tall, so that a crop of 1.25 shows the whole image.
HEIGHT_SHARE = 0.8


def box_affine(image_HW3: np.ndarray, box: Box | None, params: SingleInferenceParams) -> np.ndarray:
    """Affine (2, 3) from image px to input px for the person in a box, None for the whole image.

    UserError for a box without area.
    """
    height, width = image_HW3.shape[:2]
    x, y, w, h = box or (0.0, 0.0, float(width), float(height))
    if w <= 0 or h <= 0:
        raise UserError(f"box: found {w} x {h} px, expected a width and a height above 0")
    scale = (HEIGHT_SHARE if box is None else 1.0) * max(w, h) / PERSON_HEIGHT
    return person_affine(np.array([x + (w - 1) / 2, y + (h - 1) / 2]), scale, params=params)


def one_person(joint_cell: np.ndarray, score_K: np.ndarray, affine_23: np.ndarray) -> People:
    """The person of a crop, in image px. joint_cell: (K, 2), float64. affine_23: image px -> input px."""
    joint_K2 = transform(invert(affine_23), to_px(joint_cell))
    return People(joint_K2[None], score_K[None], score_K.mean(keepdims=True))


@dataclass(frozen=True)
class Maps:
    """Heatmaps and tags of one image, and affine_23 (image px -> input px)."""

    heatmap_Khw: np.ndarray
    tag_KhwT: np.ndarray
    affine_23: np.ndarray


def group_maps(maps: Maps, params: MultiInferenceParams, skeleton: Skeleton) -> People:
    """The people of one image, in its own px."""
    thresholds = params.thresholds
    grouping = GroupingParams(
        detection_threshold=thresholds.detection,
        tag_threshold=thresholds.tag,
        max_distance=thresholds.max_distance,
        target=params.target,
    )
    tag_KhwT = maps.tag_KhwT if thresholds.group_by == "tags" else None
    people = group(maps.heatmap_Khw, tag_KhwT, grouping, skeleton=skeleton)
    return replace(people, joint_PK2=transform(invert(maps.affine_23), to_px(people.joint_PK2)))


def refuse_boxes(boxes: Sequence[Box | None]) -> None:
    """UserError if there are any boxes for a network that finds all people."""
    if any(boxes):
        raise UserError("box: this network finds all people of an image itself, expected no box")
