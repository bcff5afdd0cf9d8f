"""Images, folders and videos in; drawn copies and one table of joints out: what `pose predict` does."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np
from tqdm.auto import tqdm

from pose.data.results import write_results
from pose.inference.draw import draw_people
from pose.inference.predictor import Predictor
from pose.io.errors import UserError
from pose.io.files import remove_stale_temp_files
from pose.io.images import read_image, write_image
from pose.io.video import VIDEO_SUFFIXES, VideoReader, video_writer
from pose.keypoints.people import People
from pose.keypoints.results import ImageResult, Results
from pose.keypoints.skeleton import Skeleton
from pose.tasks.base import Box

IMAGE_SUFFIXES = {".bmp", ".jfif", ".jpeg", ".jpg", ".png", ".tif", ".tiff", ".webp"}

Finder = Callable[[list[np.ndarray]], list[People]]

log = logging.getLogger(__name__)


def predict(
    sources: Sequence[Path],
    *,
    predictor: Predictor,
    out: Path,
    box: Box | None = None,
    min_score: float = 0.0,
    format: str = "json",
) -> tuple[list[Path], list[str]]:
    """Draw the people of each source as a file of its name in `out`, and write `joints.json` or `.csv` there.

    box: where the person is, x, y, width, height in px, for single-person weights; None is the full image.
    min_score: people below it are left out. Returns the sources that are done, and an error for each that
    cannot be used. UserError, before anything is written, for what no source could be done with.
    """
    if box and predictor.problem != "single":
        raise UserError(f"box: weights of {predictor.task} find all people themselves, expected no box")
    target_of = plan(sources, out)
    remove_stale_temp_files(out)
    predictions: list[ImageResult] = []
    done, errors = list[Path](), list[str]()

    def find(images: list[np.ndarray]) -> list[People]:
        return predictor.predict(images, [box] * len(images), min_score=min_score)

    hidden = None if len(target_of) > 1 else True  # None: where there is no terminal
    for source, target in tqdm(target_of.items(), desc=predictor.task, unit="file", disable=hidden):
        run = _predict_video if source.suffix.lower() in VIDEO_SUFFIXES else _predict_image
        try:
            predictions += run(source, target, find, predictor.skeleton)
            done.append(source)
        except UserError as error:
            errors.append(str(error))
            log.error("%s", error)
    if predictions:
        skeleton = predictor.skeleton
        results = Results(predictions, skeleton, len(skeleton), task=predictor.task)
        write_results(out / f"joints.{format}", results, format)
    return sorted(done), errors


def plan(sources: Sequence[Path], out: Path) -> dict[Path, Path]:
    """The file that each source is to be drawn as; a folder stands for the images and videos in it.

    UserError for a source that does not exist or would be overwritten, or for two of one name.
    """
    source_of: dict[Path, Path] = {}
    for source in _files(sources):
        is_video = source.suffix.lower() in VIDEO_SUFFIXES
        target = out / (f"{source.stem}.mp4" if is_video else source.name)
        if target.resolve() == source.resolve():
            expected = f"expected another folder than {out} for the results"
            raise UserError(f"{source}: would be overwritten by its drawn copy, {expected}")
        other = source_of.setdefault(target, source)
        if other.resolve() != source.resolve():
            raise UserError(f"{source}: {other} would be drawn as {target} too, expected different names")
    return {source: target for target, source in source_of.items()}


def _files(sources: Sequence[Path]) -> Iterator[Path]:
    for source in sources:
        if not source.exists():
            raise UserError(f"{source}: no such file or folder")
        if not source.is_dir():
            yield source
            continue
        known, left_out, inside = IMAGE_SUFFIXES | VIDEO_SUFFIXES, Counter[str](), []
        for path in sorted(source.iterdir()):
            suffix = path.suffix.lower()
            if path.name.startswith("."):  # of the system, such as the `._a.jpg` beside a Mac's `a.jpg`
                continue
            if suffix in known and not path.is_dir():
                inside.append(path)
            else:
                left_out["folder" if path.is_dir() else suffix or "without suffix"] += 1
        kinds = ", ".join(f"{count:,} {kind}" for kind, count in sorted(left_out.items()))
        if not inside:
            more = f" (left out: {kinds})" if kinds else ""
            raise UserError(f"{source}: found no images or videos in this folder{more}")
        if kinds:
            log.warning("%s: left out: %s", source, kinds)
        yield from inside


def _predict_image(source: Path, target: Path, find: Finder, skeleton: Skeleton) -> list[ImageResult]:
    image_HW3 = read_image(source, upright=True)
    [people] = find([image_HW3])
    write_image(target, draw_people(image_HW3, people, skeleton))
    height, width = image_HW3.shape[:2]
    return [ImageResult(people, str(source), width=width, height=height)]


def _predict_video(source: Path, target: Path, find: Finder, skeleton: Skeleton) -> list[ImageResult]:
    video = VideoReader(source)
    predictions: list[ImageResult] = []
    bar = tqdm(total=video.num_frames, desc=source.name, unit="frame", leave=False, disable=None)
    with bar, video_writer(target, video.fps) as write:
        for frames in video.read_frames():
            for frame_HW3, people in zip(frames, find(frames), strict=True):
                frame, (height, width) = len(predictions), frame_HW3.shape[:2]
                seconds = video.seconds[frame]
                write(draw_people(frame_HW3, people, skeleton), seconds)
                predictions.append(ImageResult(people, str(source), frame, seconds, width, height))
            bar.update(len(frames))
    return predictions
