"""`pose predict` of URLs, streams, globs and folders of folders, and what an interrupted run leaves."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import ClassVar

import numpy as np
import pandas as pd
import PIL.Image
import pytest
from helpers import COCO, ROOT, files_of, user_error, wait_until

from pose.cli import run
from pose.data.results import read_results
from pose.data.results.stream import STREAMED, ResultsStream
from pose.inference.export import export
from pose.inference.images import load_image
from pose.inference.predict import predict
from pose.inference.predictor import Predictor
from pose.inference.sources import plan
from pose.io.errors import UserError
from pose.io.images import decode_image, encode_jpeg, write_image
from pose.io.video import VideoReader, video_writer
from pose.keypoints.people import People
from pose.keypoints.results import ImageResult

NOISE_HW3 = np.random.default_rng(0).integers(0, 255, (60, 48, 3), dtype=np.uint8)
JPEG = encode_jpeg(NOISE_HW3, 95)
FRAMES = 5  # of the stream that ends


class Handler(BaseHTTPRequestHandler):
    """An image with and without suffix, MJPEG streams that end or do not, a page, and no answer."""

    asked_with: ClassVar[list[tuple[str, bool]]] = []  # paths of the moved image; whether with a password

    def do_GET(self) -> None:
        if self.path in ("/moved", "/gone.jpg"):
            self.asked_with.append((self.path, "Authorization" in self.headers))
        if self.path == "/moved":
            self.send_response(302)
            self.send_header("Location", "/gone.jpg")
            self.end_headers()
            return
        kinds = {"/a.jpg": "image/jpeg", "/photo": "image/jpeg", "/page": "text/html"}
        if self.path == "/silent":
            time.sleep(30)
        elif self.path in ("/stream", "/endless"):
            self.respond("multipart/x-mixed-replace; boundary=frame")
            for number in range(FRAMES if self.path == "/stream" else 10**6):
                frame = encode_jpeg(np.roll(NOISE_HW3, number, axis=1), 95)
                head = b"--frame\r\nContent-Type: image/jpeg\r\nContent-Length: %d\r\n\r\n" % len(frame)
                try:
                    self.wfile.write(head + frame + b"\r\n")
                except OSError:  # they have closed it
                    return
                time.sleep(0.01)
        elif self.path in kinds:
            self.respond(kinds[self.path])
            self.wfile.write(JPEG)
        else:
            self.send_error(404)

    def respond(self, kind: str) -> None:
        self.send_response(200)
        self.send_header("Content-Type", kind)
        self.end_headers()

    def log_message(self, *_: object) -> None:
        """Not to standard error."""


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    with pytest.MonkeyPatch.context() as patch, ThreadingHTTPServer(("127.0.0.1", 0), Handler) as http:
        patch.setenv("no_proxy", "127.0.0.1")
        http.daemon_threads, http.block_on_close = True, False
        Thread(target=http.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{http.server_port}"
        http.shutdown()


@pytest.fixture(scope="module")
def predictor(multi_weights: Path) -> Predictor:
    return Predictor.load(multi_weights, "cpu", flip=False)


@pytest.fixture(scope="module")
def single(weights: Path) -> Predictor:
    """Of one person an image: whom untrained tags belong to depends on the last bits, and so on the batch."""
    return Predictor.load(weights, "cpu")


def test_urls_give_images_and_streams_and_dead_ones_cost_no_other(server, single, tmp_path):
    out, dead = tmp_path / "out", socket.socket()
    dead.bind(("127.0.0.1", 0))
    nobody = f"http://127.0.0.1:{dead.getsockname()[1]}/a.jpg"  # bound, and never listening
    good = [f"{server}/{name}" for name in ("a.jpg", "photo", "stream")]
    bad = [f"{server}/silent", nobody, f"{server}/none", f"{server}/page", nobody.replace("http", "rtsp")]
    started = time.monotonic()
    given = [bad[0], good[0], bad[1], good[1], good[2], *bad[2:]]
    done, errors = predict(given, predictor=single, out=out, timeout=3)
    assert time.monotonic() - started < 25
    assert sorted(source.name for source in done) == good
    silent, refused, missing, page, stream = sorted(errors, key=lambda text: [u in text for u in bad][::-1])
    assert silent == f"{bad[0]}: no answer within 3 s"
    assert "Connection refused" in refused
    assert "found HTTP 404 " in missing
    assert page == f"{bad[3]}: found text/html, expected an image or a video"
    assert stream == f"{bad[4]}: cannot be read as a video"
    host = server.removeprefix("http://").replace(":", "_")
    drawn = [f"{host}_a.jpg", f"{host}_photo.jpg", f"{host}_stream.mp4"]
    assert [*files_of(out)] == [*drawn, "joints.json"]
    images = read_results(out / "joints.json").images
    assert [one.frame for one in images if one.file == good[2]] == list(range(FRAMES))
    expected = single.predict(decode_image(JPEG, "a.jpg"))
    for url in good[:2]:
        [one] = [one for one in images if one.file == url]
        np.testing.assert_allclose(one.people.joint_PK2, expected.joint_PK2, atol=0.01)


def test_passwords_are_neither_in_names_nor_in_messages(tmp_path):
    [source] = plan(["rtsp://me:secret@127.0.0.1:1/live"], out=tmp_path)
    assert (source.name, source.copy.name) == ("rtsp://127.0.0.1:1/live", "127.0.0.1_1_live")
    with pytest.raises(UserError, match=r"^http://127.0.0.1:1/a.jpg: cannot be read") as error:
        load_image("http://me:secret@127.0.0.1:1/a.jpg")
    assert "secret" not in str(error.value)


def test_folders_of_folders_globs_and_cameras_are_planned(tmp_path, monkeypatch, caplog):
    monkeypatch.chdir(tmp_path)
    for name in ("a.jpg", "deep/b.png", "deep/er/a.jpg", "deep/.hidden/c.jpg"):
        write_image(Path("photos") / name, NOISE_HW3)
    assert [one.name for one in plan(["photos"], out=None)] == ["photos/a.jpg"]
    every = plan(["photos"], out=tmp_path / "out", recursive=True)
    assert [one.copy.as_posix() for one in every] == ["a.jpg", "deep/b.png", "deep/er/a.jpg"]
    # Each once, although two of them give it.
    found = plan(["photos/**/*.jpg", "photos/a.jpg", "0"], out=None)
    assert [one.name for one in found] == ["photos/a.jpg", "photos/deep/er/a.jpg", "camera 0"]
    Path("photos/list.txt").write_text("a.jpg")
    (Path("photos") / "empty").mkdir()
    assert [one.name for one in plan(["photos/*"], out=None)] == ["photos/a.jpg"]
    assert caplog.messages[-1] == "photos/*: left out: 3 that are no image or video"
    assert [one.name for one in plan(["photos/d*"], out=None)] == ["photos/deep/b.png"]
    with user_error(r"photos/\*\.gif: no file fits"):
        plan(["photos/*.gif"], out=None)
    with user_error(r"a\.jpg: photos/a\.jpg would be drawn as out/a\.jpg too"):
        plan(["photos/**/*.jpg"], out=Path("out"))


def test_no_drawn_copy_replaces_an_image_that_was_given(tmp_path):
    for name in ("a.jpg", "best/a.jpg"):
        write_image(tmp_path / name, NOISE_HW3)
    with user_error(r"best/a\.jpg: would be overwritten by the drawn copy of .*/a\.jpg"):
        plan([tmp_path], out=tmp_path / "best", recursive=True)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ("http://[::1/a.jpg", r"^http://\[::1/a.jpg: cannot be read as a source \(Invalid IPv6 URL\)$"),
        ("x" * 300, "^x{200}: cannot be read as a source .*too long"),
        ("9" * 17, "^9{17}: no such file or folder$"),
        ("http://127.0.0.1:1/\udcff.mp4", "found a character that is not ASCII"),
    ],
)
def test_what_can_be_no_source_is_one_line(given, message):
    with user_error(message):
        plan([given], out=None)


def test_hidden_files_of_a_folder_of_results_stay_and_an_image_needs_no_suffix(predictor, tmp_path):
    (tmp_path / ".2999999.notes.md").touch()
    (tmp_path / ".2999999.pose-joints.json").touch()  # of a run that was killed
    (tmp_path / "photo").write_bytes(JPEG)
    done, errors = predict([tmp_path / "photo"], predictor=predictor, out=tmp_path)
    assert (len(done), errors) == (1, [])
    assert [*files_of(tmp_path)] == [".2999999.notes.md", "joints.json", "photo", "photo.jpg"]


def test_a_password_follows_no_redirect(server):
    with user_error("HTTP 404"):
        load_image(f"{server.replace('//', '//me:secret@')}/moved")
    assert Handler.asked_with == [("/moved", True), ("/gone.jpg", False)]


def test_a_camera_that_is_not_there_is_named(predictor, tmp_path):
    done, [error] = predict(["97"], predictor=predictor, out=tmp_path)
    assert (done, error) == ([], "camera 97: cannot be read as a video")


def test_the_command_tracks_people_and_draws_nothing_if_asked_to(multi_weights, tmp_path):
    with video_writer(tmp_path / "clip.mp4", 10) as write:
        for number in range(6):
            write(np.roll(NOISE_HW3, number, axis=1), number / 10)
    out = tmp_path / "out"
    given = [str(multi_weights), str(tmp_path / "clip.mp4"), "--track", "--min-score=0.4", "--out", str(out)]
    run(["predict", *given, "--no-draw", "--format=csv"])
    assert [*files_of(out)] == ["joints.csv"]
    table = pd.read_csv(out / "joints.csv")
    assert table["frame"].unique().tolist() == list(range(6))
    people = table.drop_duplicates(["frame", "person"])
    assert not people.duplicated(["frame", "track"]).any()
    assert people["track"].min() == 1
    run(["predict", *given, "--format=coco"])
    entries = json.loads((out / "joints.json").read_text())
    assert [entry["track_id"] for entry in entries] == people["track"].tolist()
    assert [entry["frame"] for entry in entries] == people["frame"].tolist()
    assert {entry["image_id"] for entry in entries} == set(range(1, 7))
    assert sum(map(len, VideoReader(out / "clip.mp4").read_frames())) == 6


def test_ids_of_coco_are_the_numbers_that_all_images_are_called_by(predictor, tmp_path):
    for name in ("000000000139.png", "7.png"):
        write_image(tmp_path / name, NOISE_HW3)
    settings = {"predictor": predictor, "out": tmp_path / "out", "format": "coco", "draw": False}
    predict([tmp_path], **settings)
    results = read_results(tmp_path / "out" / "joints.json")
    assert [one.image_id for one in results.images] == [139, 7]
    write_image(tmp_path / "a.png", NOISE_HW3)
    predict([tmp_path], **settings)
    assert [one.image_id for one in read_results(tmp_path / "out" / "joints.json").images] == [1, 2, 3]


def test_a_predictor_takes_one_image_or_a_list_from_anywhere(server, single, tmp_path):
    write_image(tmp_path / "a.png", NOISE_HW3)
    (tmp_path / "a.jpg").write_bytes(JPEG)
    pillow = PIL.Image.fromarray(NOISE_HW3)
    one = single.predict(NOISE_HW3)
    for many in ([tmp_path / "a.png", pillow, NOISE_HW3, str(tmp_path / "a.png")], np.stack([NOISE_HW3] * 2)):
        for found in single.predict(many):
            np.testing.assert_allclose(found.joint_PK2, one.joint_PK2, atol=1e-3)
    first, second = single.predict([f"{server}/a.jpg", tmp_path / "a.jpg"])
    np.testing.assert_allclose(first.joint_PK2, second.joint_PK2, atol=1e-3)
    with user_error(r"/stream: found multipart/x-mixed-replace, expected an image"):
        single.predict(f"{server}/stream")
    with user_error(r"images\[1\]: found int, expected uint8"):
        single.predict([NOISE_HW3, 3])


def test_predictions_draw_themselves_and_become_tables_and_coco_entries(predictor):
    people = predictor.predict(NOISE_HW3, min_score=0.2)
    assert (people.draw(NOISE_HW3) != NOISE_HW3).any()
    frame = people.to_frame()
    assert list(frame.columns) == ["person", "score", "joint", "x", "y", "confidence"]
    assert frame["joint"].tolist() == list(COCO.joints) * len(people)
    np.testing.assert_array_equal(frame[["x", "y"]], people.joint_PK2.reshape(-1, 2))
    entries = people.to_coco(image_id=9)
    assert {(entry["image_id"], len(entry["keypoints"])) for entry in entries} == {(9, 51)}
    assert [entry["score"] for entry in entries] == people.score_P.round(6).tolist()
    assert type(people.above(0.3)) is type(people)


@pytest.mark.parametrize("format", STREAMED)
def test_a_file_of_results_is_complete_after_each_image(format, tmp_path):
    rng = np.random.default_rng(0)
    path = tmp_path / f"joints.{'csv' if format == 'csv' else 'json'}"
    partial_path = tmp_path / f"joints.partial{path.suffix}"

    def image(number: int, people: int) -> ImageResult:
        found = People(rng.uniform(0, 9, (people, 17, 2)), rng.random((people, 17)), rng.random(people))
        return ImageResult(found, f"{number}.jpg", width=9, height=9, image_id=number)

    counts, written = [0, 2, 0, 1], 0
    with suppress(KeyboardInterrupt), ResultsStream(path, format, COCO, "t") as results:
        for number, people in enumerate(counts):
            results.append(image(number, people))
            written += people
            assert len(read_results(partial_path)) == written
        raise KeyboardInterrupt
    assert [*files_of(tmp_path)] == [partial_path.name]
    with ResultsStream(path, format, COCO, "t") as results:
        results.append(image(0, 1))
    assert [*files_of(tmp_path)] == [path.name]
    assert len(read_results(path)) == 1
    with ResultsStream(path.with_name("none.json"), "json", COCO, "t"):
        pass
    assert [*files_of(tmp_path)] == [path.name]


@pytest.mark.parametrize("format", STREAMED)
def test_a_file_of_results_stays_complete_on_a_full_disk(format, tmp_path):
    resource = pytest.importorskip("resource", reason="limits of POSIX")
    path = tmp_path / f"joints.{'csv' if format == 'csv' else 'json'}"
    limits, done = resource.getrlimit(resource.RLIMIT_FSIZE), list[str]()
    found = People(np.ones((1, 17, 2)), np.ones((1, 17)), np.ones(1))

    def fill() -> None:
        with ResultsStream(path, format, COCO, "t") as results:
            for number in range(100):
                results.append(ImageResult(found, f"{number}.jpg", image_id=number))
                done.append(f"{number}.jpg")

    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (9000, limits[1]))
        with user_error("cannot be written"):
            fill()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert 1 < len(done) < 99
    assert [one.file for one in read_results(tmp_path / f"joints.partial{path.suffix}").images] == done


@pytest.mark.slow
def test_an_interrupted_stream_is_done_and_a_killed_run_leaves_what_it_found(server, multi_weights, tmp_path):
    onnx = export(multi_weights, "onnx", tmp_path / "net.onnx")
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "no_proxy": "127.0.0.1"}
    # A shell without a terminal starts what stands before `&` deaf to Ctrl-C, perhaps these tests.
    program = "import signal; signal.signal(signal.SIGINT, signal.default_int_handler)"
    program += "; from pose.cli import main; main()"
    for end, status in ((signal.SIGINT, 0), (signal.SIGKILL, -signal.SIGKILL)):
        out = tmp_path / f"out{status}"
        command = ["predict", str(onnx), f"{server}/endless", "--min-score", "0.4", "--out", str(out)]
        process = subprocess.Popen([sys.executable, "-c", program, *command], env=environment)
        wait_until((out / "joints.partial.json").exists, 120)
        time.sleep(1)
        process.send_signal(end)
        assert process.wait(60) == status
        killed = end == signal.SIGKILL
        found = read_results(out / ("joints.partial.json" if killed else "joints.json"))
        assert [one.frame for one in found.images] == list(range(len(found.images)))
        assert len(found) > 0
        if not killed:
            host = server.removeprefix("http://").replace(":", "_")
            assert [*files_of(out)] == [f"{host}_endless.mp4", "joints.json"]
