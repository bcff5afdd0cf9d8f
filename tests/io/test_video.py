"""Videos: frames in their order, a few at a time."""

from pathlib import Path

import cv2
import numpy as np
import pytest
from helpers import user_error

from pose.io.errors import UserError
from pose.io.video import BATCH, VideoReader, video_writer


def write(path: Path, count: int, fps: float = 10) -> None:
    """Grey frames, each lighter than the one before."""
    with video_writer(path, fps) as append:
        for number in range(count):
            append(np.full((48, 64, 3), 10 * number, dtype=np.uint8), number / fps)


def timed(video: VideoReader) -> list[tuple[np.ndarray, float]]:
    """All frames with their times."""
    return [one for frames in video.read_frames() for one in zip(frames, video.seconds, strict=True)]


def test_frames_come_in_their_order_a_batch_at_a_time(tmp_path):
    write(tmp_path / "a.mp4", 2 * BATCH + 3)
    video = VideoReader(tmp_path / "a.mp4")
    assert (video.fps, video.num_frames) == (10, 2 * BATCH + 3)
    batches = list(video.read_frames())
    assert [len(frames) for frames in batches] == [BATCH, BATCH, 3]
    shades = [frame.mean() for frames in batches for frame in frames]
    np.testing.assert_allclose(shades, 10 * np.arange(2 * BATCH + 3), atol=4)


@pytest.mark.parametrize("fps", [0.5, 300])
def test_slow_and_fast_videos_keep_their_rate_and_times(tmp_path, fps):
    write(tmp_path / "a.mp4", 11, fps)
    video = VideoReader(tmp_path / "a.mp4")
    seconds = [seconds for _, seconds in timed(video)]
    assert video.fps == fps
    np.testing.assert_allclose(seconds, np.arange(11) / fps, atol=1e-6)


def test_a_rate_that_no_video_has_is_replaced_and_said(tmp_path, caplog):
    write(tmp_path / "a.mp4", 3, fps=2000)
    with caplog.at_level("WARNING"):
        assert VideoReader(tmp_path / "a.mp4").fps == 25
    assert "a.mp4: found 2000 frames a second, 25 are shown" in caplog.text


def test_frames_at_uneven_times_are_shown_when_they_are_due(tmp_path):
    """The second half of a film, at half its rate: its times are written into the file of an even film."""
    path, count, times = tmp_path / "a.mkv", 20, [*range(0, 1000, 100), *range(1000, 3000, 200)]
    even = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"mp4v"), 10, (64, 48))
    for number in range(count):
        even.write(np.full((48, 64, 3), 12 * number, np.uint8))
    even.release()
    data = path.read_bytes()
    for number in range(count - 1, 10, -1):  # a block: track 1, its time in ms
        old, new = (b"\x81" + time.to_bytes(2, "big") for time in (100 * number, times[number]))
        at = data.rindex(old)
        data = data[:at] + new + data[at + 3 :]
    path.write_bytes(data)

    film = VideoReader(path)
    with video_writer(tmp_path / "copy.mp4", film.fps) as append:
        for frame_HW3, seconds in (frames := timed(film)):
            append(frame_HW3, seconds)
    np.testing.assert_allclose([seconds for _, seconds in frames], np.array(times) / 1000, atol=1e-6)
    copy = VideoReader(tmp_path / "copy.mp4")
    shown = [(seconds, frame_HW3.mean() / 12) for frame_HW3, seconds in timed(copy)]
    assert shown[-1][0] == pytest.approx(times[-1] / 1000, abs=1 / film.fps)
    for seconds, number in shown:  # each time a frame is encoded, it grows darker by a quarter of a step
        assert times[round(number + 0.5)] / 1000 == pytest.approx(seconds, abs=1.1 / film.fps)


def test_colours_are_red_green_blue_both_ways(tmp_path):
    with video_writer(tmp_path / "a.mp4", 10) as append:
        append(np.full((48, 64, 3), (200, 30, 90), dtype=np.uint8), 0.0)
    [[frame_HW3]] = VideoReader(tmp_path / "a.mp4").read_frames()
    np.testing.assert_allclose(frame_HW3.mean(axis=(0, 1)), (200, 30, 90), atol=6)


def test_a_failure_while_writing_leaves_no_file(tmp_path):
    def fail() -> None:
        with video_writer(tmp_path / "a.mp4", 10) as append:
            append(np.zeros((48, 64, 3), np.uint8), 0.0)
            raise UserError("found no frames")

    with user_error("found no frames"):
        fail()
    assert not list(tmp_path.iterdir())
