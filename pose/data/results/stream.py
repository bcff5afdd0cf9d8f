"""A file of results that is written as they come."""

from __future__ import annotations

import json
import os
from io import FileIO
from pathlib import Path
from types import TracebackType
from typing import Self

from pose.data.results.joint_files import Layout, as_bytes, csv_layout, json_layout
from pose.io.files import writing
from pose.keypoints.results import ImageResult, coco_results
from pose.keypoints.skeleton import Skeleton

STREAMED = ("json", "csv", "coco")


class ResultsStream:
    """Results of a task by image, as a file that is complete after each one.

    It grows as `joints.partial.json` and is called `path`, `joints.json`, once the block ends without an
    error: a run that is interrupted or killed leaves all that it found, as a file that can be read. There is
    no file without any result. format: one of STREAMED; `coco` also names each person's file and frame.
    tracked: results have ids. UserError, naming the file, if it cannot be written.
    """

    def __init__(self, path: Path, format: str, skeleton: Skeleton, task: str, *, tracked: bool = False):
        self._path, self.partial = path, path.with_name(f"{path.stem}.partial{path.suffix}")
        self._layout = _layout(format, skeleton, task, tracked)
        self._file: FileIO | None = None
        self._end = 0  # where the next image goes: before the tail
        self.images = 0

    def append(self, one: ImageResult) -> None:
        """Add the people of an image or frame."""
        text = self._layout.between.join(self._layout.entries(one))
        if text and self._end > len(as_bytes(self._layout.head)):  # not the first
            text = self._layout.between + text
        with writing(self._path, self.partial):
            if self._file is None:
                self.partial.parent.mkdir(parents=True, exist_ok=True)
                self._file = self.partial.open("wb", buffering=0)
                text = self._layout.head + text
            data, tail = (as_bytes(part) for part in (text, self._layout.tail))
            try:
                self._write(data + tail)
            except OSError:  # a full disk: it stays complete
                self._file.truncate(self._end)
                self._write(tail if self.images else b"")
                raise
        self._end += len(data)
        self.images += 1

    def _write(self, data: bytes) -> None:
        """Write where the next image goes."""
        assert self._file
        self._file.seek(self._end)
        left = memoryview(data)
        while left:  # a disk that is nearly full takes a part
            left = left[self._file.write(left) :]

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._file is None:
            return
        with writing(self._path, self.partial):
            self._file.close()
            if kind is None:
                os.replace(self.partial, self._path)


def _layout(format: str, skeleton: Skeleton, task: str, tracked: bool) -> Layout:
    def coco(one: ImageResult) -> list[str]:
        place = {"file": one.file} | ({} if one.frame is None else {"frame": one.frame})
        return [json.dumps(entry | place) for entry in coco_results([one])]

    if format == "coco":
        return Layout("[\n", coco, ",\n", "\n]\n")
    return csv_layout(skeleton, tracked) if format == "csv" else json_layout(skeleton, task)
