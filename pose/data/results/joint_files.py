"""`joints.json` and `joints.csv`: people by the file of their image, their joints by name."""

from __future__ import annotations

import csv
import io
import json
import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from pose.io.errors import UserError, reading
from pose.io.files import read_bytes, read_json
from pose.keypoints.people import People
from pose.keypoints.results import ImageResult, Results, skeleton_of
from pose.keypoints.skeleton import Skeleton

JOINT_KEYS = ("joint", "x", "y", "confidence")
TRACK = "track"
COLUMNS = ("file", "frame", "seconds", "person", "score", *JOINT_KEYS)
Joint = tuple[str, float | None, float | None, float]  # of JOINT_KEYS; x and y in px, None if not found


class Layout(NamedTuple):
    """Text that can grow image by image: after the head the entries of each, and the tail at the end."""

    head: str
    entries: Callable[[ImageResult], list[str]]
    between: str  # two entries
    tail: str

    def write(self, path: Path, images: Iterable[ImageResult]) -> None:
        """A file of these images."""
        entries = [entry for one in images for entry in self.entries(one)]
        path.write_bytes(as_bytes(self.head + self.between.join(entries) + self.tail))


def as_bytes(text: str) -> bytes:
    """Text of a file of results: names of files need not be UTF-8."""
    return text.encode("utf-8", errors="surrogateescape")


def json_layout(skeleton: Skeleton | None, task: str) -> Layout:
    """Everything by image, a frame of a video with its number and time; x and y in px, or null.

    `{"images": [{"file", "width", "height", "people": [{"score", "joints": [{"joint", "x", ...}]}]}]}`
    """

    def entry(one: ImageResult) -> list[str]:
        place: dict[str, Any] = {"file": one.file}
        if one.seconds is not None:
            place |= {"frame": one.frame, "seconds": round(one.seconds, 3)}
        people: list[dict[str, Any]] = [
            {"score": score, "joints": [dict(zip(JOINT_KEYS, joint, strict=True)) for joint in joints]}
            for score, joints in _rounded(one.people, skeleton)
        ]
        if one.tracks is not None:
            people = [{TRACK: track} | person for track, person in zip(one.tracks, people, strict=True)]
        return [json.dumps(place | {"width": one.width, "height": one.height, "people": people})]

    head = json.dumps({"task": task, "skeleton": skeleton.name if skeleton else "", "images": []})
    return Layout(head.removesuffix("]}") + "\n", entry, ",\n", "\n]}\n")


def csv_layout(skeleton: Skeleton | None, tracked: bool) -> Layout:
    """One row a joint; x and y in px, empty if it was not found; frame and seconds empty for an image.

    tracked: with the person's id, or nothing, at the end.
    """

    def text(rows: Iterable[tuple[object, ...]]) -> str:
        file = io.StringIO(newline="")
        csv.writer(file, lineterminator="\n").writerows(rows)
        return file.getvalue()

    def rows(one: ImageResult) -> Iterator[tuple[object, ...]]:
        seconds = None if one.seconds is None else round(one.seconds, 3)
        for person, (score, joints) in enumerate(_rounded(one.people, skeleton)):
            track = (one.tracks[person] if one.tracks else None,) if tracked else ()
            for joint in joints:
                yield one.file, one.frame, seconds, person, score, *joint, *track

    columns = (*COLUMNS, TRACK) if tracked else COLUMNS
    return Layout(text([columns]), lambda one: [text(rows(one))], "", "")


def write_joints_json(path: Path, results: Results) -> None:
    """As `json_layout` says."""
    json_layout(results.skeleton, results.task).write(path, results.images)


def write_joints_csv(path: Path, results: Results) -> None:
    """As `csv_layout` says, with ids where people have them."""
    tracked = any(one.tracks is not None for one in results.images)
    csv_layout(results.skeleton, tracked).write(path, results.images)


def _rounded(people: People, skeleton: Skeleton | None) -> Iterator[tuple[float, list[Joint]]]:
    """Score and joints of each person."""
    assert skeleton
    for joint_K2, score_K, score in zip(people.joint_PK2, people.score_PK, people.score_P, strict=True):
        joints: list[Joint] = []
        for name, (x, y), confidence in zip(skeleton.joints, joint_K2, score_K, strict=True):
            found = np.isfinite(x) and np.isfinite(y)
            place = (round(float(x), 2), round(float(y), 2)) if found else (None, None)
            joints.append((name, *place, round(float(confidence), 4)))
        yield round(float(score), 4), joints


def read_joints_json(path: Path) -> Results:
    """What `write_joints_json` wrote."""
    with reading(path, "images of people with their joints"):
        content = read_json(path)
        people = [person for image in content["images"] for person in image["people"]]
        names = [str(joint["joint"]) for joint in people[0]["joints"]] if people else []
        images = []
        for number, image in enumerate(content["images"], start=1):
            with reading(where := f"{path}: image {number}", "people with their joints"):
                joints = [person["joints"] for person in image["people"]]
                found = _people(joints, [person["score"] for person in image["people"]], names, where)
                place = {key: image.get(key) for key in ("frame", "seconds", "width", "height")}
                tracks = _tracks(person.get(TRACK) for person in image["people"])
                images.append(ImageResult(found, str(image["file"]), **place, tracks=tracks))
        skeleton = skeleton_of(names, str(content.get("skeleton", "")), str(path))
        return Results(images, skeleton, len(names), path, task=str(content.get("task", "")))


def read_joints_csv(path: Path) -> Results:
    """What `write_joints_csv` wrote. It has no images without people, and no sizes."""
    with reading(path, f"CSV with columns {', '.join(COLUMNS)}"):
        # Spreadsheets and PowerShell begin a file with a byte order mark.
        text = io.StringIO(read_bytes(path).decode("utf-8-sig", errors="surrogateescape"), newline="")
        reader = csv.DictReader(text)
        if missing := [column for column in COLUMNS if column not in (reader.fieldnames or ())]:
            columns = ", ".join(reader.fieldnames or ())[:200] or "none"
            raise UserError(f"{path}: no column {', '.join(missing)}, found {columns}")
        images: dict[tuple[str, str, str], dict[str, list[dict[str, str]]]] = {}
        for row in reader:
            people = images.setdefault((row["file"], row["frame"], row["seconds"]), {})
            people.setdefault(row["person"], []).append(row)
        first = next((joints for people in images.values() for joints in people.values()), [])
        names, found = [row["joint"] for row in first], []
        for (file, frame, seconds), people in images.items():
            scores = [joints[0]["score"] for joints in people.values()]
            one = _people([*people.values()], scores, names, f"{path}: {file}")
            number, time = (int(frame), float(seconds)) if frame else (None, None)
            tracks = _tracks(joints[0].get(TRACK) or None for joints in people.values())
            found.append(ImageResult(one, file, number, time, tracks=tracks))
        return Results(found, skeleton_of(names, "", str(path)), len(names), path)


def _tracks(given: Iterable[Any]) -> list[int] | None:
    """The ids of the people of an image; None where they have none."""
    tracks = [*given]
    return None if None in tracks or not tracks else [int(track) for track in tracks]


def _people(
    joints_P: Sequence[Sequence[Mapping[str, Any]]], score_P: Sequence[Any], names: Sequence[str], where: str
) -> People:
    for joints in joints_P:
        if [joint["joint"] for joint in joints] != names:
            raise UserError(f"{where}: found a person of other joints, expected {', '.join(names)[:100]}")
    numbers = [_number(joint[key]) for joints in joints_P for joint in joints for key in JOINT_KEYS[1:]]
    keypoint_PK3 = np.reshape(numbers, (len(joints_P), len(names), 3))
    score_PK = np.nan_to_num(keypoint_PK3[..., 2])
    if wrong := [score for score in score_P if not math.isfinite(float(score))]:
        raise UserError(f"{where}: found a person of score {wrong[0]}, expected a number")
    return People(keypoint_PK3[..., :2], score_PK, np.array([*map(float, score_P)]))


def _number(value: Any) -> float:
    return np.nan if value in (None, "") else float(value)
