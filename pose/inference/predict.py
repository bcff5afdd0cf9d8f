"""Images, videos and streams in; drawn copies and one file of joints out: what `pose predict` does."""

from __future__ import annotations

import logging
import signal
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, replace
from itertools import groupby, islice
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from tqdm.auto import tqdm

from pose.data.results.stream import ResultsStream
from pose.inference.draw import draw_people
from pose.inference.images import TIMEOUT, VideoFound, load_image
from pose.inference.predictor import Predictor
from pose.inference.sources import Source, image_ids, plan
from pose.io.errors import UserError
from pose.io.files import remove_stale_temp_files
from pose.io.images import write_image
from pose.io.video import VideoReader, video_writer
from pose.keypoints.people import People
from pose.keypoints.results import ImageResult
from pose.keypoints.track import Tracker
from pose.tasks.arrays import Box

BATCH = 8  # images at once through the network
AHEAD = 4  # more are read meanwhile: with those being drawn 20 in memory, 1.4 GB of 24-megapixel photographs
ENOUGH = 0.9  # of the frames that a video declares: some count them roughly
THREADS = 2  # that read, draw and write

Result = TypeVar("Result")
# What happens to a source: people are found in its image or in a frame, at last it is done (None) or fails.
Event = tuple[Source, ImageResult | UserError | None]

log = logging.getLogger(__name__)


def predict(
    given: Sequence[str | Path],
    *,
    predictor: Predictor,
    out: Path,
    box: Box | None = None,
    min_score: float = 0.0,
    format: str = "json",
    draw: bool = True,
    recursive: bool = False,
    timeout: float = TIMEOUT,
    tracker: Callable[[], Tracker] | None = None,
) -> tuple[list[Source], list[str]]:
    """Find the people of each source, write them to `joints.json` or `.csv` in `out`, and draw them there.

    given: files, folders, globs, URLs and numbers of cameras. box: where the person is, x, y, width, height
    in px, for single-person weights; None is the full image. min_score: people below it are left out.
    format: `json`, `csv` or `coco`, see `pose.data.results.stream`; COCO's ids of images are the numbers that
    all files are called by, else they count from 1. draw: also a copy of each source, of its name. recursive:
    also what is in folders of folders. timeout: seconds until a URL must have answered. tracker: makes the
    tracker of each video; None gives people no ids.

    Returns the sources that are done, and an error for each that cannot be used. UserError, before anything
    is written, for what no source could be done with. Ctrl-C ends a live stream, which is then done; a run
    that is interrupted otherwise leaves `joints.partial.*`, which is complete up to then.
    """
    if box and predictor.problem != "single":
        raise UserError(f"box: weights of {predictor.task} find all people themselves, expected no box")
    sources = plan(given, out=out if draw else None, recursive=recursive)
    ids = image_ids(sources)
    remove_stale_temp_files(out)

    def find(images: Sequence[np.ndarray]) -> Sequence[People]:
        return predictor.predict(images, [box] * len(images), min_score=min_score)

    run = _Run(predictor, find, out if draw else None, timeout, tracker)
    hidden = None if len(sources) > 1 else True  # None: where there is no terminal
    bar = tqdm(total=len(sources), desc=predictor.task, unit="file", disable=hidden)
    file = out / f"joints.{'csv' if format == 'csv' else 'json'}"
    settings: dict[str, Any] = {"skeleton": predictor.skeleton, "task": predictor.task}
    done, errors = list[Source](), list[str]()
    with bar, ResultsStream(file, format, tracked=tracker is not None, **settings) as results:
        try:
            for source, event in run.events(sources):
                if isinstance(event, ImageResult):
                    image_id = ids.get(source.name, results.images + 1)
                    results.append(replace(event, image_id=image_id))
                    continue
                bar.update()
                if event is None:
                    done.append(source)
                else:
                    errors.append(str(event))
                    log.error("%s", event)
        except KeyboardInterrupt:
            if results.images:
                log.warning("%s: has all %d images until here", results.partial, results.images)
            raise
    return done, errors


@dataclass(frozen=True)
class _Run:
    predictor: Predictor
    find: Callable[[Sequence[np.ndarray]], Sequence[People]]
    out: Path | None
    timeout: float
    tracker: Callable[[], Tracker] | None

    def events(self, sources: Iterable[Source]) -> Iterator[Event]:
        """All that happens, source by source."""
        for is_video, some in groupby(sources, lambda source: source.kind == "video"):
            for source, event in self._videos(some) if is_video else self._images(some):
                if isinstance(event, VideoFound) and source.kind == "unknown":
                    yield from self._videos([source])
                else:
                    yield source, event

    def _images(self, sources: Iterable[Source]) -> Iterator[Event]:
        """While some go through the network, others are read, drawn and written."""
        threads = ThreadPoolExecutor(THREADS)
        try:
            reading = self._read_ahead(sources, threads)
            drawing: list[tuple[Source, Future[None]]] = []
            while batch := list(islice(reading, BATCH)):
                images = {source: image for source, image in batch if isinstance(image, np.ndarray)}
                yield from ((source, error) for source, error in batch if isinstance(error, UserError))
                found = zip(images.items(), self.find([*images.values()]), strict=True)
                yield from _finished(drawing)
                drawing = []
                for (source, image_HW3), people in found:
                    drawing.append((source, threads.submit(self._draw, source, image_HW3, people)))
                    height, width = image_HW3.shape[:2]
                    yield source, ImageResult(people, source.name, width=width, height=height)
            yield from _finished(drawing)
        finally:
            threads.shutdown(cancel_futures=True)

    def _read_ahead(
        self, sources: Iterable[Source], threads: ThreadPoolExecutor
    ) -> Iterator[tuple[Source, np.ndarray | UserError]]:
        """The images in their order, AHEAD of them read in advance."""
        sources, reading = iter(sources), deque[tuple[Source, Future[np.ndarray]]]()
        while True:
            for source in islice(sources, AHEAD - len(reading)):
                reading.append((source, threads.submit(load_image, source.place, self.timeout)))
            if not reading:
                return
            source, future = reading.popleft()
            yield source, _attempt(future.result)

    def _draw(self, source: Source, image_HW3: np.ndarray, people: People) -> None:
        if self.out:
            write_image(self.out / source.copy, draw_people(image_HW3, people, self.predictor.skeleton))

    def _videos(self, sources: Iterable[Source]) -> Iterator[Event]:
        for source in sources:
            try:
                for one in self._frames(source):
                    yield source, one
                yield source, None
            except UserError as error:
                yield source, error

    def _frames(self, source: Source) -> Iterator[ImageResult]:
        skeleton, tracker = self.predictor.skeleton, self.tracker and self.tracker()
        video = VideoReader(source.place, name=source.name, timeout=self.timeout)
        writer = video_writer(self.out / source.video_copy, video.fps) if self.out else nullcontext()
        bar = tqdm(total=video.num_frames, desc=source.name, unit="frame", leave=False, disable=None)
        frame, is_live = 0, video.num_frames is None
        with bar, writer as write, _on_interrupt(video.stop) if is_live else nullcontext():
            for frames in video.read_frames():
                for frame_HW3, seconds, people in zip(frames, video.seconds, self.find(frames), strict=True):
                    height, width = frame_HW3.shape[:2]
                    tracks = tracker.update(people) if tracker else None
                    if write:
                        write(draw_people(frame_HW3, people, skeleton, ids=tracks), seconds)
                    place = {"frame": frame, "seconds": seconds, "width": width, "height": height}
                    yield ImageResult(people, source.name, tracks=tracks, **place)
                    frame += 1
                bar.update(len(frames))
        if is_live:
            log.info("%s: ended after %d frames", source.name, frame)
        elif video.num_frames and frame < ENOUGH * video.num_frames:
            log.warning("%s: ended after %d of %d frames; is it whole?", source.name, frame, video.num_frames)


@contextmanager
def _on_interrupt(action: Callable[[], None]) -> Iterator[None]:
    """The first Ctrl-C does this instead, wherever the program is; a second one interrupts as ever.

    In another thread than the main one, to which alone Python gives signals, nothing changes.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def handle(*_: object) -> None:
        signal.signal(signal.SIGINT, before)
        action()

    before = signal.signal(signal.SIGINT, handle)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


def _finished(drawing: Iterable[tuple[Source, Future[None]]]) -> Iterator[Event]:
    return ((source, _attempt(future.result)) for source, future in drawing)


def _attempt(result: Callable[[], Result]) -> Result | UserError:
    try:
        return result()
    except UserError as error:
        return error
