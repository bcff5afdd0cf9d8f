"""Predicted people of many images, and COCO's result format of them. K joints."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from pose.io.schema import parse
from pose.keypoints.people import People
from pose.keypoints.skeleton import Skeleton, built_in_with

PERSON = 1  # COCO's category of that name
FAR = 1e15  # px; beyond it a joint is nowhere


@dataclass(frozen=True)
class ImageResult:
    """The people found in one image, in one frame of a video, or in one person's crop; None is unknown.

    people: in image px. file: the image or video. frame: its number, from 0. seconds: when it is shown, from
    the first frame on. width, height: px. image_id: COCO's. row: of the annotated person who is predicted,
    the only one of `people` then. tracks: an id for each of the people, the same in all frames of a video.
    """

    people: People
    file: str | None = None
    frame: int | None = None
    seconds: float | None = None
    width: int | None = None
    height: int | None = None
    image_id: int | None = None
    row: int | None = None
    tracks: Sequence[int] | None = None


@dataclass(frozen=True)
class Results:
    """What a file of results holds.

    skeleton: None where the file does not say which joints it has. joints: how many they are. task: whose
    predictions they are, empty if unknown. category: COCO's id of the people's. has_scores: False for a file
    without confidences, which are 1 then.
    """

    images: Sequence[ImageResult]
    skeleton: Skeleton | None
    joints: int
    path: Path = Path()
    task: str = ""
    category: int = PERSON
    has_scores: bool = True

    def __len__(self) -> int:
        """The number of people."""
        return sum(len(one.people) for one in self.images)


def skeleton_of(joints: Sequence[str], name: str, source: str) -> Skeleton | None:
    """The skeleton of these joints: one that comes with the package, or one of the names alone; None of none.

    UserError, beginning with `source`, if a name is there twice.
    """
    if not joints:
        return None
    return built_in_with(joints) or parse(Skeleton, {"name": name or source, "joints": [*joints]}, source)


def coco_results(
    images: Sequence[ImageResult], *, category: int = PERSON, rounded: bool = True
) -> list[dict[str, Any]]:
    """People in COCO's result format: x, y (image px) and score of each joint, and the person's own score.

    The format needs a position for every joint: one that was not found has score 0 and lies in the middle of
    the others. rounded: to hundredths of a pixel, as files have them.
    """
    results = []
    for one in images:
        people = one.people
        scores = zip(people.joint_PK2, people.score_PK, people.score_P.tolist(), strict=True)
        for person, (joint_K2, score_K, score) in enumerate(scores):
            known_K = np.isfinite(joint_K2).all(axis=1)
            if not known_K.any():
                continue
            joint_K2 = np.where(known_K[:, None], joint_K2, joint_K2[known_K].mean(axis=0))
            score_K = np.where(known_K, score_K, 0)
            if rounded:
                joint_K2, score_K, score = joint_K2.round(2), score_K.round(4), round(score, 6)
            keypoints = np.column_stack([joint_K2, score_K]).ravel().tolist()
            place = {"image_id": one.image_id, "category_id": category}
            track = {} if one.tracks is None else {"track_id": one.tracks[person]}
            results.append(place | {"keypoints": keypoints, "score": score} | track)
    return results
