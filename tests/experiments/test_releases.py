"""Weights in a folder of releases are what was released, or are refused."""

import threading
import time
from base64 import b64encode
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
import torch
from helpers import user_error, write_initial_weights

from pose.cli import run
from pose.io.files import read_json, write_json
from pose.models.weights import load_weights, save_weights
from pose.params import Params


@pytest.fixture
def releases(params: Params, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    for task in ("hgpose", "hgpose-ae"):
        weights = write_initial_weights(params, task, tmp_path)
        run(["release", task, "--to", "releases", "--licence", "MIT", "--weights", str(weights)])
    return tmp_path / "releases"


@contextmanager
def serving(handler: Callable[..., SimpleHTTPRequestHandler]) -> Iterator[str]:
    """URL of a web server on this machine."""
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        server.daemon_threads = True
        server.block_on_close = False
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


@pytest.fixture
def url(releases: Path) -> Iterator[str]:
    with serving(partial(SimpleHTTPRequestHandler, directory=str(releases.parent))) as url:
        yield f"{url}/releases"


def test_weights_are_fetched_from_a_folder_and_from_a_server(releases, url, capsys):
    for source, out in ((str(releases), "one.pt"), (f"{url}/", "two.pt")):
        run(["fetch", "hgpose-ae", "--from", source, "--out", out])
        assert Path(out).read_bytes() == (releases / "hgpose-ae.pt").read_bytes()
    capsys.readouterr()
    run(["fetch", "--from", url])
    assert [line.split()[0] for line in capsys.readouterr().out.splitlines()] == ["hgpose", "hgpose-ae"]


def test_safetensors_are_released_as_weights_that_can_be_fetched(releases, params):
    save_weights("one.safetensors", load_weights(releases / "hgpose.pt"))
    run(["release", "hgpose", "--to", "other", "--licence", "MIT", "--weights", "one.safetensors"])
    run(["fetch", "hgpose", "--from", "other", "--out", "out.pt"])
    found, released = (load_weights(path).tensors for path in ("out.pt", releases / "hgpose.pt"))
    assert all(torch.equal(tensor, released[name]) for name, tensor in found.items())
    with user_error(r"^x\.onnx: found the ending '\.onnx', expected \.pt"):
        run(["fetch", "hgpose", "--from", "other", "--out", "x.onnx"])


def test_a_password_in_a_url_is_used_and_is_in_no_message(releases):
    class Locked(SimpleHTTPRequestHandler):
        def do_GET(self):
            if self.headers["Authorization"] == f"Basic {b64encode(b'user:sec@ret').decode()}":
                super().do_GET()
            else:
                self.send_error(401)

    with serving(partial(Locked, directory=str(releases))) as url:
        known, unknown = (url.replace("http://", f"HTTP://user:{word}@") for word in ("sec%40ret", "other"))
        run(["fetch", "hgpose", "--from", known, "--out", "out.pt"])
        assert Path("out.pt").read_bytes() == (releases / "hgpose.pt").read_bytes()
        public = url.replace("http", "HTTP")
        with user_error(f"^{public}/index.json: found HTTP 401 Unauthorized, expected an index of releases$"):
            run(["fetch", "hgpose", "--from", unknown, "--out", "out.pt"])
        with user_error(f"^{public}: found no release 'nobody'"):
            run(["fetch", "nobody", "--from", known, "--out", "out.pt"])


def test_a_name_in_any_letters_is_fetched_from_a_server(releases, url):
    run(["release", "hände", "--to", "releases", "--licence", "MIT", "--weights", "releases/hgpose.pt"])
    run(["fetch", "hände", "--from", url, "--out", "out.pt"])
    assert Path("out.pt").read_bytes() == (releases / "hände.pt").read_bytes()


def test_a_server_that_sends_too_slowly_is_one_line(releases, monkeypatch):
    """A byte now and then, so that no single wait is long."""

    class Slow(SimpleHTTPRequestHandler):
        def copyfile(self, source, outputfile):
            content = source.read()
            if not self.path.endswith(".pt"):
                outputfile.write(content)
                return
            with suppress(OSError):
                for place in range(len(content)):
                    outputfile.write(content[place : place + 1])
                    time.sleep(0.1)

    monkeypatch.setattr("pose.experiments.releases.SECONDS", 1.0)
    monkeypatch.setattr("pose.experiments.releases.SLOWEST", 10**9)
    refused = user_error(r"^http.*/hgpose\.pt: no answer within 1 s$")
    with serving(partial(Slow, directory=str(releases))) as url, refused:
        run(["fetch", "hgpose", "--from", url, "--out", "out.pt"])
    assert not Path("out.pt").exists()


@pytest.mark.parametrize("task", ["my hand", "../outside"])
def test_a_name_that_can_be_no_file_is_refused_before_anything_is_written(releases, task):
    with user_error(f"release: task: found '{task}'"):
        run(["release", task, "--to", "new", "--licence", "MIT", "--weights", str(releases / "hgpose.pt")])
    assert not Path("new").exists()


def test_the_card_says_what_the_weights_are(releases):
    card = (releases / "hgpose.md").read_text()
    assert "2D pose of one person per crop: hourglass network at 64 px, 16 joints." in card
    assert "| licence | MIT |" in card
    assert "| revision | unknown: " in card


@pytest.mark.parametrize(
    ("source", "words"),
    [("data/synthetic", "data/synthetic: people who are drawn"), ("data/real", "data/real")],
)
def test_the_card_says_what_people_the_weights_have_seen(source, words, releases):
    provenance = {"task.dataset": "lsp_mpii", "source": source}
    save_weights("seen.pt", replace(load_weights(releases / "hgpose.pt"), provenance=provenance))
    run(["release", "seen", "--to", "releases", "--weights", "seen.pt", "--licence", "MIT"])
    assert f"| data set | lsp_mpii, from {words} |" in (releases / "seen.md").read_text()


def test_a_card_says_whose_weights_have_another_name_and_its_table_stays_whole(releases):
    words = ["--to", "releases", "--weights", str(releases / "hgpose.pt"), "--licence", "MIT |\nno warranty"]
    run(["release", "hand", *words])
    card = (releases / "hand.md").read_text()
    assert "| task | hgpose |" in card
    assert "| licence | MIT no warranty |" in card


def test_other_weights_than_were_released_are_refused(releases):
    def refused(name: str, expected: str) -> None:
        with user_error(expected):
            run(["fetch", name, "--from", str(releases), "--out", "out.pt"])
        assert not list(Path().glob("*out.pt"))

    refused("nobody", "found no release 'nobody', expected one of hgpose, hgpose-ae")
    with (releases / "hgpose.pt").open("ab") as file:
        file.write(b"more")
    refused("hgpose", r"hgpose.pt: found [\d,]+ bytes of sha256 \w{12}, expected")
    (releases / "hgpose-ae.pt").unlink()
    refused("hgpose-ae", "hgpose-ae.pt: cannot be read")
    index = read_json(releases / "index.json")
    index["releases"]["hgpose"]["file"] = "../hgpose.pt"
    write_json(releases / "index.json", index)
    refused("hgpose", r"index.json: releases.hgpose.file: found '../hgpose.pt'")
    (releases / "index.json").write_text("<html>")
    refused("hgpose", "index.json: cannot be read as an index of releases")


def test_a_server_that_is_not_there_ends_in_a_line(tmp_path):
    with user_error(r"http://127.0.0.1:9/index.json: cannot be read \("):
        run(["fetch", "hgpose", "--from", "http://127.0.0.1:9", "--out", str(tmp_path / "out.pt")])
