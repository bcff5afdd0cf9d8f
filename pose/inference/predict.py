"""Images, folders and videos in; drawn copies and one table of joints out: what `pose predict` does."""

from __future__ import annotations

import logging
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from itertools import chain, islice
from pathlib import Path
from typing import Any, TypeVar

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

BATCH = 8  # images at once through the network
AHEAD = 4  # more are read meanwhile: with those being drawn 20 in memory, 1.4 GB of 24-megapixel photographs
THREADS = 2  # that read, draw and write

Finder = Callable[[list[np.ndarray]], list[People]]
Result = TypeVar("Result")

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
    predictions, errors = dict[Path, list[ImageResult]](), dict[Path, str]()

    def find(images: list[np.ndarray]) -> list[People]:
        return predictor.predict(images, [box] * len(images), min_score=min_score)

    hidden = None if len(target_of) > 1 else True  # None: where there is no terminal
    videos = [source for source in target_of if source.suffix.lower() in VIDEO_SUFFIXES]
    images = [source for source in target_of if source not in videos]
    skeleton = predictor.skeleton
    found = chain(
        _predict_images(images, target_of, find, skeleton),
        (
            _attempt(video, partial(_predict_video, video, target_of[video], find, skeleton))
            for video in videos
        ),
    )
    progress: dict[str, Any] = {"total": len(target_of), "desc": predictor.task, "unit": "file"}
    for source, result in tqdm(found, **progress, disable=hidden):
        if isinstance(result, UserError):
            errors[source] = str(result)
            log.error("%s", result)
        else:
            predictions[source] = result
    if predictions:
        rows = [one for source in target_of for one in predictions.get(source, ())]
        results = Results(rows, skeleton, len(skeleton), task=predictor.task)
        write_results(out / f"joints.{format}", results, format)
    return sorted(predictions), [errors[source] for source in target_of if source in errors]


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


def _predict_images(
    sources: Sequence[Path], target_of: Mapping[Path, Path], find: Finder, skeleton: Skeleton
) -> Iterator[tuple[Path, list[ImageResult] | UserError]]:
    """The result of each image: while some go through the network, others are read, drawn and written."""
    with ThreadPoolExecutor(THREADS) as threads:
        reading = _read_ahead(sources, threads)
        drawing: list[tuple[Path, Future[list[ImageResult]]]] = []
        while batch := list(islice(reading, BATCH)):
            images = {source: image for source, image in batch if isinstance(image, np.ndarray)}
            yield from ((source, error) for source, error in batch if isinstance(error, UserError))
            people = find([*images.values()])
            yield from (_attempt(source, future.result) for source, future in drawing)
            drawing = [
                (source, threads.submit(_draw, source, target_of[source], image_HW3, one, skeleton))
                for (source, image_HW3), one in zip(images.items(), people, strict=True)
            ]
        yield from (_attempt(source, future.result) for source, future in drawing)


def _read_ahead(
    sources: Iterable[Path], threads: ThreadPoolExecutor
) -> Iterator[tuple[Path, np.ndarray | UserError]]:
    """The images in their order, AHEAD of them read in advance."""
    sources, reading = iter(sources), deque[tuple[Path, Future[np.ndarray]]]()
    while True:
        for source in islice(sources, AHEAD - len(reading)):
            reading.append((source, threads.submit(read_image, source, upright=True)))
        if not reading:
            return
        source, future = reading.popleft()
        yield _attempt(source, future.result)


def _attempt(source: Path, result: Callable[[], Result]) -> tuple[Path, Result | UserError]:
    try:
        return source, result()
    except UserError as error:
        return source, error


def _draw(
    source: Path, target: Path, image_HW3: np.ndarray, people: People, skeleton: Skeleton
) -> list[ImageResult]:
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
