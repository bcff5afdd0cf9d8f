"""Pictures, folders and videos in; drawn copies and one table of joints out. What `pose predict` does."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pandas as pd
from tqdm import tqdm

from pose.inference.draw import draw_people
from pose.inference.predictor import Predictor
from pose.io.errors import UserError
from pose.io.files import atomic_write
from pose.io.images import read_image
from pose.keypoints.people import People
from pose.keypoints.skeleton import Skeleton
from pose.tasks.base import Box

PICTURES = {".bmp", ".jpeg", ".jpg", ".png", ".tif", ".tiff", ".webp"}
VIDEOS = {".avi", ".m4v", ".mkv", ".mov", ".mp4", ".mpeg", ".mpg", ".webm"}
BATCH = 8  # frames in memory at once, of a size at which they are no more than MOST_FRAME_PIXELS
MOST_FRAME_PIXELS = 2**26  # of a frame: twice what 8K films have
RATES = (1, 240)  # frames a second that the drawn copy may have; where a film declares others, it has 25
# What films begin as, by place: MP4 and QuickTime, AVI, Matroska and WebM, MPEG. FFmpeg also opens lists of
# other files by what they hold.
CONTAINERS = (
    *((4, word) for word in (b"ftyp", b"moov", b"mdat", b"wide", b"free", b"skip")),
    *((8, word) for word in (b"AVI ", b"AVIX")),
    *((0, word) for word in (b"\x1a\x45\xdf\xa3", b"\0\0\1\xba", b"\0\0\1\xb3")),
)

Finder = Callable[[list[np.ndarray]], list[People]]

# Of a file that is no video FFmpeg says so itself, beside our one line.
os.environ.setdefault("OPENCV_FFMPEG_LOGLEVEL", "-8")


@dataclass(frozen=True)
class Job:
    """One picture or video to be drawn as `target`."""

    source: Path
    target: Path

    @property
    def is_video(self) -> bool:
        return self.source.suffix.lower() in VIDEOS


@dataclass(frozen=True)
class Found:
    """The people of one picture, or of one frame (counted from 0) of a video."""

    source: Path
    frame: int | None
    width: int
    height: int
    people: People


def predict(
    sources: Sequence[Path],
    *,
    predictor: Predictor,
    out: Path,
    box: Box | None = None,
    min_score: float = 0.0,
    format: str = "json",
) -> tuple[list[Path], list[str]]:
    """Draw what is found in each source as a file of its name in `out`, and write `out/joints.json` or `joints.csv`.

    box: where the person is, x, y, width, height in px, for single-person weights; None is the whole picture.
    min_score: people below it are left out. Returns the sources that are done, and a line for each that
    cannot be used. UserError, before anything is written, for what no source could be done with.
    """
    if box and predictor.problem != "single":
        raise UserError(f"box: weights of {predictor.task} find all people themselves, expected no box")
    jobs = plan(sources, out)
    found: list[Found] = []
    problems: list[str] = []

    def find(images: list[np.ndarray]) -> list[People]:
        return [people.above(min_score) for people in predictor.predict(images, [box] * len(images))]

    for job in tqdm(jobs, desc=predictor.task, unit="file", disable=len(jobs) < 2):
        try:
            found += (_video if job.is_video else _picture)(job, find, predictor.skeleton)
        except UserError as error:
            problems.append(str(error))
            tqdm.write(f"error: {error}", file=sys.stderr)
    if found:
        with atomic_write(out / f"joints.{format}") as path:
            {"json": write_json, "csv": write_csv}[format](path, found, predictor)
    return sorted({one.source for one in found}), problems


def plan(sources: Sequence[Path], out: Path) -> list[Job]:
    """What is to be drawn where. A folder stands for the pictures and videos in it.

    UserError, before anything is written: for a source that is not there, one that would be overwritten, or
    two of one name.
    """
    jobs: dict[Path, Job] = {}
    for source in _files(sources):
        target = out / (f"{source.stem}.mp4" if source.suffix.lower() in VIDEOS else source.name)
        if target.resolve() == source.resolve():
            raise UserError(
                f"{source}: would be overwritten by its drawn copy, expected another folder than {out} for the results"
            )
        if target in jobs and jobs[target].source.resolve() != source.resolve():
            raise UserError(
                f"{source}: {jobs[target].source} would be drawn as {target} too, expected different names"
            )
        jobs[target] = Job(source, target)
    return list(jobs.values())


def _files(sources: Sequence[Path]) -> Iterator[Path]:
    for source in sources:
        if not source.exists():
            raise UserError(f"{source}: no such file or folder")
        if not source.is_dir():
            yield source
            continue
        inside = sorted(path for path in source.iterdir() if path.suffix.lower() in PICTURES | VIDEOS)
        if not inside:
            raise UserError(f"{source}: found no pictures or videos in this folder")
        yield from inside


def _picture(job: Job, find: Finder, skeleton: Skeleton) -> list[Found]:
    image = read_image(job.source, upright=True)
    (people,) = find([image])
    drawn = cv2.cvtColor(draw_people(image, people, skeleton), cv2.COLOR_RGB2BGR)
    with atomic_write(job.target) as path:
        if not _written(path, drawn):
            raise UserError(
                f"{job.target}: this kind of picture cannot be written, expected one of: {', '.join(sorted(PICTURES))}"
            )
    return [_found(job, None, image, people)]


def _written(path: Path, image: np.ndarray) -> bool:
    try:
        return cv2.imwrite(str(path), image)
    except cv2.error:
        return False


def _video(job: Job, find: Finder, skeleton: Skeleton) -> list[Found]:
    found: list[Found] = []
    with ExitStack() as stack:
        _check_container(job.source)
        capture = cv2.VideoCapture(str(job.source))
        stack.callback(capture.release)
        if not capture.isOpened():
            raise UserError(f"{job.source}: cannot be read as a video")
        size = [int(capture.get(side)) for side in (cv2.CAP_PROP_FRAME_WIDTH, cv2.CAP_PROP_FRAME_HEIGHT)]
        if size[0] * size[1] > MOST_FRAME_PIXELS:
            raise UserError(
                f"{job.source}: found frames of {size[0]} x {size[1]} px, expected at most {MOST_FRAME_PIXELS:,} in all"
            )
        rate = capture.get(cv2.CAP_PROP_FPS)
        rate = rate if RATES[0] <= rate <= RATES[1] else 25.0
        count = int(capture.get(cv2.CAP_PROP_FRAME_COUNT))
        bar = stack.enter_context(
            tqdm(
                total=count if 0 < count < 2**31 - 1 else None,
                desc=job.source.name,
                unit="frame",
                leave=False,
            )
        )
        path = stack.enter_context(atomic_write(job.target))
        writer: cv2.VideoWriter | None = None
        for frames in _batches(capture, job.source):
            for frame, people in zip(frames, find(frames), strict=True):
                if writer is None:
                    height, width = frame.shape[:2]
                    writer = cv2.VideoWriter(
                        str(path), cv2.VideoWriter.fourcc(*"mp4v"), rate, (width, height)
                    )
                    stack.callback(writer.release)
                    if not writer.isOpened():
                        raise UserError(
                            f"{job.target}: cannot be written as a video of {width} x {height} px"
                        )
                writer.write(cv2.cvtColor(draw_people(frame, people, skeleton), cv2.COLOR_RGB2BGR))
                found.append(_found(job, len(found), frame, people))
            bar.update(len(frames))
        if not found:
            raise UserError(f"{job.source}: found no frames in this video")
    return found


def _check_container(source: Path) -> None:
    """UserError for what is no film of a known kind.

    FFmpeg would go by its content, and follow a playlist to whatever that names.
    """
    if not source.is_file():  # a pipe may never say anything
        raise UserError(f"{source}: is no regular file, expected a video")
    try:
        with source.open("rb") as file:
            start = file.read(16)
    except OSError as error:
        raise UserError(f"{source}: cannot be read ({error.strerror})") from None
    if not any(start[at:].startswith(word) for at, word in CONTAINERS):
        raise UserError(
            f"{source}: cannot be read as a video, expected one in MP4, QuickTime, AVI, Matroska, WebM or MPEG"
        )


def _batches(capture: cv2.VideoCapture, source: Path) -> Iterator[list[np.ndarray]]:
    frames: list[np.ndarray] = []
    pixels = 0
    while True:
        try:
            there, frame = capture.read()
        except cv2.error as error:
            raise UserError(f"{source}: cannot be decoded ({' '.join(str(error).split())})") from None
        if there:
            frames.append(cv2.cvtColor(frame, cv2.COLOR_BGR2RGB))
            pixels += frame.shape[0] * frame.shape[1]
        if frames and (not there or len(frames) == BATCH or pixels > MOST_FRAME_PIXELS // 2):
            yield frames
            frames, pixels = [], 0
        if not there:
            return


def _found(job: Job, frame: int | None, image: np.ndarray, people: People) -> Found:
    return Found(job.source, frame, image.shape[1], image.shape[0], people)


def write_json(path: Path, found: Sequence[Found], predictor: Predictor) -> None:
    """Everything by picture.

    `{"images": [{"file", "width", "height", "people": [{"score", "joints": [...]}]}]}`; x, y in px or null.
    """
    images: list[dict[str, Any]] = []
    for one in found:
        place: dict[str, Any] = (
            {"file": str(one.source)} if one.frame is None else {"file": str(one.source), "frame": one.frame}
        )
        people = [
            {
                "score": round(float(one.people.score_P[person]), 4),
                "joints": [
                    {"joint": joint, "x": x, "y": y, "confidence": confidence}
                    for joint, x, y, confidence in _joints(one.people, person, predictor.skeleton)
                ],
            }
            for person in range(len(one.people))
        ]
        images.append(place | {"width": one.width, "height": one.height, "people": people})
    content = {"task": predictor.task, "skeleton": predictor.skeleton.name, "images": images}
    path.write_text(json.dumps(content, indent=1, allow_nan=False) + "\n", encoding="utf-8")


def write_csv(path: Path, found: Sequence[Found], predictor: Predictor) -> None:
    """One row a joint: file, frame (of a video), person, its score, joint, x, y in px (empty where not found), confidence."""
    rows = [
        (str(one.source), one.frame, person, round(float(one.people.score_P[person]), 4), *joint)
        for one in found
        for person in range(len(one.people))
        for joint in _joints(one.people, person, predictor.skeleton)
    ]
    table = pd.DataFrame(rows, columns=["file", "frame", "person", "score", "joint", "x", "y", "confidence"])
    table.astype({"frame": "Int64"}).to_csv(path, index=False)


def _joints(
    people: People, person: int, skeleton: Skeleton
) -> Iterator[tuple[str, float | None, float | None, float]]:
    for joint, (x, y), confidence in zip(
        skeleton.joints, people.joint_PK2[person], people.score_PK[person], strict=True
    ):
        there = np.isfinite(x) and np.isfinite(y)
        yield (
            joint,
            round(float(x), 2) if there else None,
            round(float(y), 2) if there else None,
            round(float(confidence), 4),
        )
