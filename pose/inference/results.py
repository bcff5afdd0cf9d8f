"""The files of joints that `pose predict` writes.

A new format is a function here, an entry in FORMATS and a choice of `--format` in `pose/cli/predict.py`.
"""

from __future__ import annotations

import csv
import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from pose.inference.predictor import Predictor
from pose.keypoints.people import People
from pose.keypoints.skeleton import Skeleton

JOINT_KEYS = ("joint", "x", "y", "confidence")
Joint = tuple[str, float | None, float | None, float]  # of these keys; x and y in px, None if not found


@dataclass(frozen=True)
class FramePrediction:
    """The people of one image, or of one frame of a video; sizes in px.

    frame: its number, from 0. seconds: when it is shown, from the first frame on. Both None for an image.
    """

    source: Path
    frame: int | None
    seconds: float | None
    width: int
    height: int
    people: People


def write_json(path: Path, predictions: Sequence[FramePrediction], predictor: Predictor) -> None:
    """Everything by image, a frame of a video with its number and time; x and y in px, or null.

    `{"images": [{"file", "width", "height", "people": [{"score", "joints": [{"joint", "x", ...}]}]}]}`
    """
    images: list[dict[str, Any]] = []
    for one in predictions:
        place: dict[str, Any] = {"file": str(one.source)}
        if one.seconds is not None:
            place |= {"frame": one.frame, "seconds": round(one.seconds, 3)}
        people = [
            {"score": score, "joints": [dict(zip(JOINT_KEYS, joint, strict=True)) for joint in joints]}
            for score, joints in _rounded(one.people, predictor.skeleton)
        ]
        images.append(place | {"width": one.width, "height": one.height, "people": people})
    content = {"task": predictor.task, "skeleton": predictor.skeleton.name, "images": images}
    path.write_text(json.dumps(content, indent=1, allow_nan=False) + "\n", encoding="utf-8")


def write_csv(path: Path, predictions: Sequence[FramePrediction], predictor: Predictor) -> None:
    """One row a joint; x and y in px, empty if it was not found; frame and seconds empty for an image."""
    with path.open("w", encoding="utf-8", errors="surrogateescape", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["file", "frame", "seconds", "person", "score", *JOINT_KEYS])
        for one in predictions:
            seconds = None if one.seconds is None else round(one.seconds, 3)
            for person, (score, joints) in enumerate(_rounded(one.people, predictor.skeleton)):
                writer.writerows((one.source, one.frame, seconds, person, score, *joint) for joint in joints)


FORMATS: dict[str, Callable[[Path, Sequence[FramePrediction], Predictor], None]] = {
    "json": write_json,
    "csv": write_csv,
}


def _rounded(people: People, skeleton: Skeleton) -> Iterator[tuple[float, list[Joint]]]:
    """Score and joints of each person."""
    for joint_K2, score_K, score in zip(people.joint_PK2, people.score_PK, people.score_P, strict=True):
        joints: list[Joint] = []
        for name, (x, y), confidence in zip(skeleton.joints, joint_K2, score_K, strict=True):
            found = np.isfinite(x) and np.isfinite(y)
            place = (round(float(x), 2), round(float(y), 2)) if found else (None, None)
            joints.append((name, *place, round(float(confidence), 4)))
        yield round(float(score), 4), joints
