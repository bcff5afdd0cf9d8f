"""Annotated people that predictions are scored against. N people, K joints."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from pose.data.formats.coco_json import RawCoco
from pose.keypoints.skeleton import Skeleton
from pose.metrics.pck import PersonTruth, reference_length


@dataclass(frozen=True)
class TruthImage:
    """An annotated image; None is unknown. name: relative to the data root. width, height: px."""

    name: str | None = None
    image_id: int | None = None
    width: int | None = None
    height: int | None = None


@dataclass(frozen=True)
class Truth:
    """Annotated people.

    people: all N of them. images: they are in. image_N: index in `images` of each one's. parts: rows of the
    people whom predictions without ids may be of, by what they are called. raw: annotations for COCO's
    metrics, None without them. is_prepared: rows in files of predictions are rows of this.
    """

    path: Path
    people: PersonTruth
    images: list[TruthImage]
    image_N: np.ndarray
    parts: Mapping[str, np.ndarray]
    raw: RawCoco | None = None
    is_prepared: bool = False

    @property
    def skeleton(self) -> Skeleton:
        return self.people.skeleton


def annotated_people(
    joint_NK2: np.ndarray,
    labelled_NK: np.ndarray,
    skeleton: Skeleton,
    *,
    head_size_N: np.ndarray | None = None,
    length_N: np.ndarray | None = None,
    side_N: np.ndarray | None = None,
) -> PersonTruth:
    """People with the sizes that are known, px. side_N: see `reference_length`, which gives length_N else."""
    unknown_N = np.full(len(joint_NK2), np.nan)
    joint_NK2 = np.where(labelled_NK[..., None], joint_NK2, np.nan)
    if length_N is None:
        length_N = reference_length(joint_NK2, labelled_NK, skeleton, unknown_N if side_N is None else side_N)
    head_size_N = unknown_N if head_size_N is None else head_size_N
    return PersonTruth(joint_NK2, labelled_NK, head_size_N, length_N, skeleton)


def unnamed_images(image_N: Sequence[Any] | np.ndarray) -> tuple[list[TruthImage], np.ndarray]:
    """Images of which it is only known who is in the same one, and (N,) the index of each person's."""
    _, index_N = np.unique(image_N, return_inverse=True)
    return [TruthImage()] * (int(index_N.max(initial=-1)) + 1), index_N.reshape(-1)
