"""`pose app`: the page in a real browser, and what it writes without one."""

import json
import re
import shutil
import socket
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from helpers import (
    end_of,
    free_port,
    noise,
    only_error,
    start_process,
    user_error,
    wait_until,
    write_active_weights,
)
from raw_sets import with_orientation

from pose.inference.app import find, shown, write
from pose.inference.draw import draw_people
from pose.inference.predictor import Predictor
from pose.io.images import encode_jpeg, read_image
from pose.io.video import VideoReader, video_writer
from pose.params import Params

FRAMES = 9  # more than are in memory at once


@pytest.fixture(scope="module")
def folder(params: Params, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Weights, a photo taken upright by a camera that lay, a video, and a file cut short."""
    folder = tmp_path_factory.mktemp("app")
    write_active_weights(params, folder)
    (folder / "photo.jpg").write_bytes(with_orientation(encode_jpeg(noise(1, 120, 80), 95), 6))
    (folder / "cut.jpg").write_bytes(encode_jpeg(noise(1), 95)[:900])
    with video_writer(folder / "walk.mp4", 10) as write_frame:
        for number in range(FRAMES):
            write_frame(noise(number, 96, 64), number / 10)
    return folder


@pytest.fixture(scope="module")
def predictor(folder: Path) -> Predictor:
    return Predictor.load(folder / "last.pt")


def test_thresholds_leave_out_people_and_joints(folder, predictor):
    [found] = find(folder / "photo.jpg", predictor)
    assert (found.width, found.height) == (80, 120)
    score, confidence = np.median(found.people.score_P), np.median(found.people.score_PK)
    people = shown(found.people, score, confidence)
    assert 0 < len(people) < len(found.people)
    assert (people.score_P >= score).all()
    is_left_out_PK = found.people.above(score).score_PK < confidence
    assert is_left_out_PK.any()
    np.testing.assert_array_equal(np.isnan(people.joint_PK2).all(axis=2), is_left_out_PK)


def test_a_video_is_drawn_frame_by_frame_for_browsers(folder, predictor, tmp_path):
    results = find(folder / "walk.mp4", predictor)
    drawn, joints, line = write(folder / "walk.mp4", results, tmp_path, predictor, 0.0, 0.0)
    people = sum(len(one.people) for one in results)
    assert f"People: {people:,}." in line
    assert [one["frame"] for one in json.loads(joints.read_text())["images"]] == [*range(FRAMES)]
    assert cv2.VideoCapture(str(drawn)).get(cv2.CAP_PROP_FOURCC) == cv2.VideoWriter.fourcc(*"VP80")
    frames = [frame for batch in VideoReader(drawn).read_frames() for frame in batch]
    before = [frame for batch in VideoReader(folder / "walk.mp4").read_frames() for frame in batch]
    assert len(frames) == FRAMES
    for frame, image, one in zip(frames, before, results, strict=True):
        expected = draw_people(image, one.people, predictor.skeleton)
        assert np.abs(frame.astype(int) - expected).mean() < np.abs(frame.astype(int) - image).mean() / 2


def test_without_gradio_a_line_says_what_to_install(folder, monkeypatch):
    from pose.cli import run

    monkeypatch.setitem(sys.modules, "gradio", None)
    with user_error(r"gradio: not installed.*pip install 'pose\[app\]'"):
        run(["app", str(folder / "last.pt")])


@pytest.fixture(scope="module")
def address(folder: Path) -> Iterator[str]:
    """The address of a page that `pose app` serves."""
    pytest.importorskip("gradio", reason="gradio is not installed: pip install 'pose[app]'")
    port = free_port()
    server = start_process("pose.cli", "app", "last.pt", "--port", str(port), folder=folder)

    def is_up() -> bool:
        assert server.poll() is None, server.communicate()
        with socket.socket() as one:
            return one.connect_ex(("127.0.0.1", port)) == 0

    try:
        wait_until(is_up, 180)
        yield f"http://127.0.0.1:{port}"
    finally:
        server.terminate()
        server.communicate(timeout=60)


@pytest.fixture
def page(address: str) -> Iterator[Any]:
    """The page in Chromium, with a camera; nothing may be asked of any other machine."""
    api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    browser = shutil.which("chromium") or shutil.which("google-chrome")
    if browser is None:
        pytest.skip("no Chromium on the PATH")
    camera = ["--use-fake-device-for-media-stream", "--use-fake-ui-for-media-stream"]
    with api.sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=browser, args=["--no-sandbox", *camera])
        page, others = chromium.new_page(), list[str]()
        page.on("request", lambda request: others.append(request.url))
        page.set_default_timeout(180_000)  # a busy machine
        page.goto(address)
        yield page
        chromium.close()
    assert [url for url in others if not url.startswith((address, "data:", "blob:"))] == []


def drop(page: Any, path: Path, tab: str = "Image") -> None:
    page.get_by_role("tab", name=tab).click()
    page.get_by_role("tabpanel").filter(visible=True).locator("input[type=file]").first.set_input_files(path)


def said(page: Any) -> tuple[int, ...]:
    """The numbers of the line below the image, when there is one."""
    line = page.get_by_text("People: ").filter(visible=True)
    line.wait_for()
    return tuple(int(number.replace(",", "")) for number in re.findall(r"[\d,]+\d|\d", line.inner_text()))


def downloaded(page: Any, name: str, folder: Path) -> Path:
    with page.expect_download() as waited:
        page.get_by_role("button", name=name).filter(visible=True).click()
    path = folder / waited.value.suggested_filename
    waited.value.save_as(path)
    return path


@pytest.mark.slow
def test_a_dropped_photo_is_drawn_and_a_moved_threshold_draws_it_again(page, folder, predictor, tmp_path):
    drop(page, folder / "photo.jpg")
    [found] = find(folder / "photo.jpg", predictor)
    people = shown(found.people, 0.1, 0.0)
    assert said(page)[0] == len(people) > 1
    least = round(float(np.median(people.score_P)), 2)
    fewer = shown(found.people, least, 0.0)
    assert 0 < len(fewer) < len(people)
    page.get_by_label("number input for Minimum score of people").filter(visible=True).fill(str(least))
    page.keyboard.press("Tab")
    page.get_by_text(f"People: {len(fewer)}.").wait_for()
    content = json.loads(downloaded(page, "joints", tmp_path).read_text())
    assert [image["file"] for image in content["images"]] == ["photo.jpg"]
    assert len(content["images"][0]["people"]) == len(fewer)
    drawn = read_image(downloaded(page, "drawn copy", tmp_path)).astype(int)
    photo = read_image(folder / "photo.jpg", upright=True)
    expected = draw_people(photo, fewer, predictor.skeleton)
    assert np.abs(drawn - expected).mean() < np.abs(drawn - photo).mean() / 2


@pytest.mark.slow
def test_a_dropped_video_is_drawn_and_played(page, folder, tmp_path):
    drop(page, folder / "walk.mp4", "Video")
    assert said(page)[-1] == FRAMES
    page.wait_for_function(
        "[...document.querySelectorAll('video')].some(one => one.src.includes('drawn') && one.readyState > 1)"
    )
    assert downloaded(page, "drawn copy", tmp_path).suffix == ".webm"


@pytest.mark.slow
def test_a_picture_of_the_camera_is_drawn(page):
    panel = page.get_by_role("tabpanel").filter(visible=True)
    panel.get_by_label("Capture from camera").click()
    panel.get_by_text("Click to Access Webcam").click()
    panel.get_by_label("capture photo").click()
    assert said(page)


@pytest.mark.slow
def test_a_damaged_image_is_refused_in_one_line(page, folder):
    drop(page, folder / "cut.jpg")
    page.get_by_text("cut.jpg: truncated JPEG, its end is missing (900 bytes found)", exact=True).wait_for()


@pytest.mark.slow
def test_the_page_is_served_to_this_machine_alone_and_a_taken_port_is_named(address, folder):
    port = address.rpartition(":")[2]
    host = socket.gethostbyname(socket.gethostname())
    if not host.startswith("127."):
        with socket.socket() as one:
            assert one.connect_ex((host, int(port))) != 0
    done = end_of(start_process("pose.cli", "app", "last.pt", "--port", port, folder=folder))
    assert f"--port {port}: found it taken" in only_error(done)
