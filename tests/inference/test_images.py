"""Images of a user, from wherever they are."""

import re
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import cv2
import numpy as np
import PIL.Image
import pytest
from helpers import files_of, user_error

from pose.inference.images import load_image, open_url, public_name, scheme
from pose.inference.predict import predict
from pose.inference.predictor import Predictor
from pose.io.images import decode_image, encode_jpeg

JPEG = encode_jpeg(np.random.default_rng(0).integers(0, 255, (60, 48, 3), dtype=np.uint8), 95)
TYPES = {
    "/a": ("application/octet-stream", JPEG),
    "/b": ("binary/octet-stream", JPEG),
    "/c": ("", JPEG),
    "/film": ("binary/octet-stream", b"film"),
}


class Handler(BaseHTTPRequestHandler):
    """A server that does not know what it sends."""

    def do_GET(self) -> None:
        kind, content = TYPES[self.path]
        self.send_response(200)
        if kind:
            self.send_header("Content-Type", kind)
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *_: object) -> None:
        """Not to standard error."""


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as http:
        threading.Thread(target=http.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{http.server_port}"
        http.shutdown()


def test_an_image_of_a_general_type_is_told_by_its_first_bytes(server, weights: Path, tmp_path):
    for path in ("/a", "/b", "/c"):
        np.testing.assert_array_equal(load_image(f"{server}{path}"), decode_image(JPEG, "x"))
    with user_error("/film: found binary/octet-stream, expected an image"):
        load_image(f"{server}/film")
    [source], errors = predict([f"{server}/a"], predictor=Predictor.load(weights, "cpu"), out=tmp_path)
    assert (errors, files_of(tmp_path).keys()) == ([], {source.copy.name, "joints.json"})


@pytest.mark.parametrize("bits", [8, 12, 16])
def test_deep_images_of_pillow_are_as_their_files(bits, tmp_path):
    path = tmp_path / "deep.png"
    cv2.imwrite(str(path), np.linspace(0, 2**bits - 1, 12).astype(np.uint16).reshape(3, 4))
    with PIL.Image.open(path) as image:
        for same in (image, image.convert("I")):
            np.testing.assert_array_equal(load_image(same), load_image(path))


@pytest.mark.parametrize(
    ("given", "public"),
    [
        ("http://me:secret@host:1/a@b.jpg", "http://host:1/a@b.jpg"),
        ("rtsp://me:sec@ret@host", "rtsp://host"),
        ("HTTPS://me@[::1/a?b=c@d", "HTTPS://[::1/a?b=c@d"),
        ("http://host/me@there", "http://host/me@there"),
        ("/a/me@there", "/a/me@there"),
    ],
)
def test_the_public_name_of_a_url_lacks_user_and_password_and_nothing_else(given, public):
    assert public_name(given) == public


def test_a_scheme_is_in_any_case_and_paths_have_none():
    given = ("HTTP://a", "rtsp://a", "/http", "http:", 3)
    assert [scheme(one) for one in given] == ["http", "rtsp", "", "", ""]


@pytest.mark.parametrize("host", ["[::1", "host:port", ""])
def test_what_can_be_no_url_is_one_line_without_the_password(host):
    with user_error(f"^{re.escape(f'http://{host}/a')}: cannot be read (?!.*secret)"):
        open_url(f"http://me:secret@{host}/a", "x", 1)
