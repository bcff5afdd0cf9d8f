"""Videos: frames in their order, a few at a time."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from pose.io.errors import UserError
from pose.io.video import BATCH, VideoReader, video_writer


def write(path: Path, count: int, fps: float = 10) -> None:
    """Grey frames, each lighter than the one before."""
    with video_writer(path, fps) as append:
        for number in range(count):
            append(np.full((48, 64, 3), 10 * number, dtype=np.uint8))


def test_frames_come_in_their_order_a_batch_at_a_time(tmp_path: Path) -> None:
    write(tmp_path / "a.mp4", 2 * BATCH + 3)
    video = VideoReader(tmp_path / "a.mp4")
    assert (video.fps, video.num_frames) == (10, 2 * BATCH + 3)
    batches = list(video.read_frames())
    assert [len(frames) for frames in batches] == [BATCH, BATCH, 3]
    shades = [frame.mean() for frames in batches for frame in frames]
    np.testing.assert_allclose(shades, 10 * np.arange(2 * BATCH + 3), atol=4)


def test_a_rate_that_no_video_has_is_replaced(tmp_path: Path) -> None:
    write(tmp_path / "a.mp4", 3, fps=0.25)
    assert VideoReader(tmp_path / "a.mp4").fps == 25


def test_colours_are_red_green_blue_both_ways(tmp_path: Path) -> None:
    with video_writer(tmp_path / "a.mp4", 10) as append:
        append(np.full((48, 64, 3), (200, 30, 90), dtype=np.uint8))
    [[frame_HW3]] = VideoReader(tmp_path / "a.mp4").read_frames()
    np.testing.assert_allclose(frame_HW3.mean(axis=(0, 1)), (200, 30, 90), atol=6)


def test_a_failure_while_writing_leaves_no_file(tmp_path: Path) -> None:
    def fail() -> None:
        with video_writer(tmp_path / "a.mp4", 10) as append:
            append(np.zeros((48, 64, 3), np.uint8))
            raise UserError("found no frames")

    with pytest.raises(UserError, match="found no frames"):
        fail()
    assert not list(tmp_path.iterdir())
