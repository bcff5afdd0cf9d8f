"""Videos, read and written by FFmpeg as OpenCV has it, a few frames at a time.

Legend: H W frame px. Frames are (H, W, 3) uint8 RGB. File names go to OpenCV as bytes: it crashes at a string
that is not UTF-8.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import islice
from pathlib import Path

import cv2
import numpy as np

from pose.io.errors import UserError, reading
from pose.io.files import atomic_write, check_regular_file

VIDEO_SUFFIXES = {".avi", ".m4v", ".mkv", ".mov", ".mp4", ".mpeg", ".mpg", ".webm"}
BATCH = 8  # frames in memory at once
FPS_RANGE, DEFAULT_FPS = (1, 240), 25.0  # what a video may declare, and what is taken for any other
MAX_FRAMES = 2**31 - 1  # a file that declares as many does not know its length
# What videos begin with, by place: MP4 and QuickTime, AVI, Matroska and WebM, MPEG. FFmpeg would also open a
# playlist of whatever name, and read the files that it lists.
CONTAINERS = (
    *((4, start) for start in (b"ftyp", b"moov", b"mdat", b"wide", b"free", b"skip")),
    *((8, start) for start in (b"AVI ", b"AVIX")),
    *((0, start) for start in (b"\x1a\x45\xdf\xa3", b"\0\0\1\xba", b"\0\0\1\xb3")),
)


class VideoReader:
    """An open video. fps: frames a second. num_frames: as the file declares it, None where it does not.

    UserError naming the file if it is not a video of a known container.
    """

    def __init__(self, path: Path) -> None:
        _check_container(path)
        self._path = path
        self._capture = cv2.VideoCapture(os.fsencode(path))  # type: ignore[call-overload]
        if not self._capture.isOpened():
            raise UserError(f"{path}: cannot be read as a video")
        fps, frames = (self._capture.get(prop) for prop in (cv2.CAP_PROP_FPS, cv2.CAP_PROP_FRAME_COUNT))
        self.fps = fps if FPS_RANGE[0] <= fps <= FPS_RANGE[1] else DEFAULT_FPS
        self.num_frames = int(frames) if 0 < frames < MAX_FRAMES else None

    def read_frames(self) -> Iterator[list[np.ndarray]]:
        """All frames in their order, a batch at a time; UserError if there are none, or one is damaged."""
        frames, found = self._frames(), False
        while batch := list(islice(frames, BATCH)):
            found = True
            yield batch
        if not found:
            raise UserError(f"{self._path}: found no frames in this video")

    def _frames(self) -> Iterator[np.ndarray]:
        with reading(self._path, "a video"):
            while (read := self._capture.read())[0]:
                yield cv2.cvtColor(read[1], cv2.COLOR_BGR2RGB)


@contextmanager
def video_writer(path: Path, fps: float) -> Iterator[Callable[[np.ndarray], None]]:
    """A function that appends a frame to an MP4 file, which appears at the end of the block.

    All frames are of the first one's size. UserError, naming the file, if it cannot be written.
    """
    writer: cv2.VideoWriter | None = None
    with atomic_write(path) as temporary:

        def write(frame_HW3: np.ndarray) -> None:
            nonlocal writer
            if writer is None:
                name, size = os.fsencode(temporary), frame_HW3.shape[1::-1]
                code = cv2.VideoWriter.fourcc(*"mp4v")
                writer = cv2.VideoWriter(name, code, fps, size)  # type: ignore[call-overload]
                if not writer.isOpened():
                    raise UserError(f"{path}: cannot be written as a video of {size[0]} x {size[1]} px")
            writer.write(cv2.cvtColor(frame_HW3, cv2.COLOR_RGB2BGR))

        try:
            yield write
        finally:
            if writer:
                writer.release()


def _check_container(path: Path) -> None:
    check_regular_file(path, "a video")
    with reading(path, "a video"), path.open("rb") as file:
        start = file.read(16)
    if not any(start.startswith(word, at) for at, word in CONTAINERS):
        expected = "expected one in MP4, QuickTime, AVI, Matroska, WebM or MPEG"
        raise UserError(f"{path}: cannot be read as a video, {expected}")
