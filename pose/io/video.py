"""Videos, read and written by FFmpeg as OpenCV has it, a few frames at a time.

Legend: H W frame px. Frames are (H, W, 3) uint8 RGB. File names go to OpenCV as bytes: it crashes at a string
that is not UTF-8.
"""

from __future__ import annotations

import logging
import math
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from itertools import islice
from pathlib import Path

import cv2
import numpy as np

from pose.io.errors import UserError, reading, within
from pose.io.files import atomic_write, check_regular_file

VIDEO_SUFFIXES = {".avi", ".m4v", ".mkv", ".mov", ".mp4", ".mpeg", ".mpg", ".webm"}
BATCH = 8  # frames in memory at once
FPS_RANGE, DEFAULT_FPS = (0.01, 300), 25.0  # what a video may declare, and what is taken for any other
LONGEST_STEP = 3600.0  # seconds from one frame to the next; a longer one is damage
CODECS = {".mp4": "mp4v", ".webm": "VP80"}  # that are written; browsers play only the second
MAX_FRAMES = 2**31 - 1  # a file that declares as many does not know its length
# What videos begin with, by place: MP4 and QuickTime, AVI, Matroska and WebM, MPEG. FFmpeg would also open a
# playlist of whatever name, and read the files that it lists.
CONTAINERS = (
    *((4, start) for start in (b"ftyp", b"moov", b"mdat", b"wide", b"free", b"skip")),
    *((8, start) for start in (b"AVI ", b"AVIX")),
    *((0, start) for start in (b"\x1a\x45\xdf\xa3", b"\0\0\1\xba", b"\0\0\1\xb3")),
)


log = logging.getLogger(__name__)


class VideoReader:
    """An open video, stream or camera.

    source: a file, a URL, or the number of a camera. name: for messages. timeout: seconds until a stream must
    have been opened, and until each of its frames.

    fps: frames a second as declared, on average or at least. seconds: when each frame of the last batch is
    shown, from the first frame on. num_frames: as the file declares it, None where it does not, as of what is
    live. UserError naming the file if it is not a video of a known container, or there is no such stream or
    camera.
    """

    def __init__(self, source: Path | str | int, *, name: str = "", timeout: float = 10.0) -> None:
        self._path = path = name or str(source)
        if isinstance(source, Path):
            _check_container(source)
            self._capture = cv2.VideoCapture(os.fsencode(source))  # type: ignore[call-overload]
        elif isinstance(source, int):
            self._capture = cv2.VideoCapture(source)
        else:
            limit = round(1000 * timeout)
            limits = [cv2.CAP_PROP_OPEN_TIMEOUT_MSEC, limit, cv2.CAP_PROP_READ_TIMEOUT_MSEC, limit]
            opened = partial(cv2.VideoCapture, source, cv2.CAP_FFMPEG, limits)
            self._capture = within(timeout + 1, path, opened)  # FFmpeg's own limit spares the name server
        if not self._capture.isOpened():
            raise UserError(f"{path}: cannot be read as a video")
        fps, frames = (self._capture.get(prop) for prop in (cv2.CAP_PROP_FPS, cv2.CAP_PROP_FRAME_COUNT))
        self.fps, self.seconds = fps, list[float]()
        if not FPS_RANGE[0] <= fps <= FPS_RANGE[1]:
            self.fps = DEFAULT_FPS
            log.warning("%s: found %g frames a second, %g are shown of its drawn copy", path, fps, self.fps)
        self.num_frames = int(frames) if 0 < frames < MAX_FRAMES else None
        self._stopped = False

    def stop(self) -> None:
        """End the video with the frame that is being read."""
        self._stopped = True

    def read_frames(self) -> Iterator[list[np.ndarray]]:
        """All frames in their order, a batch at a time; UserError if there are none, or one is damaged."""
        frames, found = self._frames(), False
        while batch := list(islice(frames, BATCH)):
            found = True
            self.seconds = [seconds for _, seconds in batch]
            yield [frame_HW3 for frame_HW3, _ in batch]
        if not found:
            raise UserError(f"{self._path}: found no frames in this video")

    def _frames(self) -> Iterator[tuple[np.ndarray, float]]:
        """Each with its time in seconds."""
        with reading(self._path, "a video"):
            before, seconds = math.nan, 0.0
            while not self._stopped and (read := self._capture.read())[0]:
                now = self._capture.get(cv2.CAP_PROP_POS_MSEC) / 1000
                if not math.isnan(before):
                    seconds += now - before if 0 < now - before <= LONGEST_STEP else 1 / self.fps
                before = now
                yield cv2.cvtColor(read[1], cv2.COLOR_BGR2RGB), seconds


@contextmanager
def video_writer(path: Path, fps: float) -> Iterator[Callable[[np.ndarray, float], None]]:
    """A function that shows a frame from a time on, in seconds, in a file of `fps` frames a second.

    A frame is repeated until the next one is due, and left out if that is due at once. All are of the first
    one's size. path: of an MP4 or WebM file, which appears at the end of the block. UserError, naming it, if
    it cannot be written.
    """
    writer: cv2.VideoWriter | None = None
    count = 0
    last: np.ndarray = np.empty(0)
    with atomic_write(path) as temporary:

        def write(frame_HW3: np.ndarray, seconds: float) -> None:
            nonlocal writer, count, last
            if writer is None:
                name, size = os.fsencode(temporary), frame_HW3.shape[1::-1]
                code = cv2.VideoWriter.fourcc(*CODECS[path.suffix])
                writer = cv2.VideoWriter(name, code, fps, size)  # type: ignore[call-overload]
                if not writer.isOpened():
                    raise UserError(f"{path}: cannot be written as a video of {size[0]} x {size[1]} px")
            due = round(seconds * fps)
            if due < count:
                return
            for _ in range(due - count):
                writer.write(last)
            last = cv2.cvtColor(frame_HW3, cv2.COLOR_RGB2BGR)
            writer.write(last)
            count = due + 1

        try:
            yield write
        finally:
            if writer:
                writer.release()
        # OpenCV does not say so where the disk is full.
        if count and not cv2.VideoCapture(os.fsencode(temporary)).isOpened():  # type: ignore[call-overload]
            raise UserError(f"{path}: cannot be written completely (is the disk full?)")


def _check_container(path: Path) -> None:
    check_regular_file(path, "a video")
    with reading(path, "a video"), path.open("rb") as file:
        start = file.read(16)
    if not any(start.startswith(word, at) for at, word in CONTAINERS):
        expected = "expected one in MP4, QuickTime, AVI, Matroska, WebM or MPEG"
        raise UserError(f"{path}: cannot be read as a video, {expected}")
