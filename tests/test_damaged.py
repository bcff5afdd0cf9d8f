"""Hundreds of damaged inputs, given to the commands that a user runs.

Each is refused in one line or left out, and nothing else happens.
"""

from __future__ import annotations

import gzip
import json
import os
import re
import shutil
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from damaged_inputs import KINDS, Case, corpus
from helpers import ROOT, internal_network, write_params_file

from pose.models.published import write_exported
from pose.params import Params

MOST = (
    None if os.environ.get("POSE_DAMAGED") == "all" else 24
)  # of a kind, spread over all there are: they take two minutes of a core


def some(cases: list[Case]) -> list[Case]:
    return (
        cases
        if MOST is None or len(cases) <= MOST
        else [cases[number * len(cases) // MOST] for number in range(MOST)]
    )


CASES = [case for kind in KINDS for case in some([case for case in corpus() if case.kind == kind])]
MEMORY = 3 * 2**30  # bytes that a command may ask for beyond what importing everything takes
PEAK = 2**30  # bytes that it may use
SECONDS = 60.0  # far more than any takes: the machine may be busy
LEFT = re.compile(
    r"^\.\d+\.|\.unfinished$|\.old$|^owned$"
)  # names of what was not finished, or done by a file
LASTING = {".lock"}  # of a folder that is written into by one process at a time


@dataclass
class Result:
    """What a command wrote, and what became of it."""

    out: str
    err: str
    status: int
    late: bool
    seconds: float
    peak: int


class Server:
    """A process that runs commands in forks of itself."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        environment = {
            name: value for name, value in os.environ.items() if not name.startswith(("MLFLOW", "DVC"))
        }
        # A store that cannot be: training says so and goes on, and is done in a tenth of the time.
        environment |= {
            "PYTHONPATH": str(ROOT),
            "OMP_NUM_THREADS": "1",
            "MLFLOW_TRACKING_URI": "sqlite:////dev/null/mlflow.db",
        }
        self._process = subprocess.Popen(
            [sys.executable, ROOT / "tests" / "damaged_server.py"],
            env=environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def run(self, words: tuple[str, ...], folder: Path) -> Result:
        """Run a command in a folder."""
        assert self._process.stdin
        assert self._process.stdout
        out, err = self.folder / "out", self.folder / "err"
        ask: dict[str, Any] = {
            "words": words,
            "folder": str(folder),
            "out": str(out),
            "err": str(err),
            "memory": MEMORY,
            "seconds": SECONDS,
        }
        self._process.stdin.write(json.dumps(ask) + "\n")
        self._process.stdin.flush()
        answer = json.loads(self._process.stdout.readline())
        return Result(out.read_text(errors="replace"), err.read_text(errors="replace"), **answer)

    def end(self) -> None:
        """End the process."""
        self._process.communicate()


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    running = Server(tmp_path_factory.mktemp("server"))
    yield running
    running.end()


@pytest.fixture(scope="module")
def good(
    params: Params,
    drawn_root: Path,
    prepared: Path,
    prepared_coco: Path,
    server: Server,
    tmp_path_factory: pytest.TempPathFactory,
) -> Path:
    """A workspace in which everything is sound.

    Data as they come and as they are prepared, two trained tasks and their figures.
    """
    folder = tmp_path_factory.mktemp("good")
    (folder / "data/prepared").mkdir(parents=True)
    shutil.copy(prepared, folder / "data/prepared/lsp_mpii.h5")
    shutil.copytree(prepared_coco, folder / "data/prepared/coco")
    values = params.model_dump()
    for name in ("hgpose", "hgpose-ae"):
        values["tasks"][name] |= {"epochs": 1}
    values["train"] |= {"processes": 1, "val_samples": 4, "train_samples": 0}
    values["report"]["people"] = 1
    values["multi"]["thresholds"]["tune"] = False
    values["data"]["root"] = "data/raw"
    write_params_file(folder, values)
    for name in ("LSP", "LSPET", "mpii", "coco"):
        shutil.copytree(drawn_root / name, folder / "data" / "raw" / name)
    packed = folder / "data/raw/mpii/mpii_annotations.json"
    shutil.copy(prepared, folder / "data/raw/lsp_mpii.h5")
    Path(f"{packed}.gz").write_bytes(gzip.compress(packed.read_bytes(), mtime=0))
    ids = [
        image["id"]
        for image in json.loads(
            (folder / "data/raw/coco/annotations/person_keypoints_val2017.json").read_text()
        )["images"]
    ]
    (folder / "data/raw/coco/valid_id").write_text("".join(f"{number}\n" for number in ids))
    write_exported(internal_network("bearpaw_hg").state_dict(), folder / "foreign.pth.tar", "bearpaw_hg")
    picture = cv2.imread(str(next((folder / "data/raw/LSP/images").glob("*.jpg"))))
    for name in ("photo.png", "photo.jpg", "photo.bmp", "photo.tif", "photo.webp"):
        assert cv2.imwrite(str(folder / name), picture)
    for name, code in (("clip.mp4", "mp4v"), ("clip.avi", "MJPG")):
        writer = cv2.VideoWriter(str(folder / name), cv2.VideoWriter.fourcc(*code), 10, picture.shape[1::-1])
        for shift in range(12):
            writer.write(np.roll(picture, shift, axis=1))
        writer.release()
    for words in ("train hgpose", "train hgpose-ae", "evaluate hgpose", "evaluate hgpose-ae"):
        done = server.run(tuple(f"stages.{words}".split()), folder)
        assert done.status == 0, done.err
    return folder


def laid_out(case: Case, good: Path, folder: Path) -> Path:
    """The good workspace in links, but for what is to be apart, and the damaged file, which is the case's own."""
    folder.mkdir()
    own = (case.target, *case.apart)
    waiting = sorted(good.iterdir(), reverse=True)
    while waiting:
        path = waiting.pop()
        name = path.relative_to(good).as_posix()
        place = folder / name
        if name == case.target:
            shutil.copyfile(path, place)
        elif name in case.apart or path.name in LASTING:
            continue
        elif path.is_dir() and not (
            name.startswith("data/raw/") and not any(one.startswith(f"{name}/") for one in own)
        ):
            place.mkdir()
            waiting += path.iterdir()
        else:  # a folder of raw data too: no command writes there
            place.symlink_to(path)
    case.damage(folder / case.target)
    return folder


def files(folder: Path) -> dict[str, tuple[int, int]]:
    """Name, and what tells whether it was written to, of all files."""
    found = {}
    for path in folder.rglob("*"):
        if not path.is_dir() and path.name not in LASTING:
            about = path.lstat()
            found[path.relative_to(folder).as_posix()] = about.st_ino, about.st_mtime_ns
    return found


def said_on_page(folder: Path) -> str:
    page = folder / "report" / "index.html"
    return page.read_text() if page.exists() else ""


@pytest.mark.slow
@pytest.mark.parametrize("case", CASES, ids=str)
def test_a_damaged_file_is_refused_in_one_line_or_left_out(
    case: Case, good: Path, server: Server, tmp_path: Path
):
    folder = laid_out(case, good, tmp_path / "case")
    before = files(folder)
    result = server.run(case.words, folder)
    said = f"\n{result}"
    assert not result.late, said
    assert "Traceback" not in result.err + result.out, said
    assert result.status in (0, 1), said
    assert result.peak < PEAK, said
    # A size that was only found to be too large as it was asked for would have been had on a larger machine.
    assert not re.search("allocat|[Mm]emory", result.err), said
    assert not [name for name in files(tmp_path) if LEFT.search(Path(name).name)], said
    errors = [line for line in result.err.splitlines() if line.startswith("error: ")]
    assert len(errors) == result.status, said
    if case.fate == "refused":
        assert result.status == 1, said
    if result.status == 1:
        assert case.says in errors[0] or case.target in errors[0], said
        assert len(errors[0]) < 1000, said
        assert files(folder) == before, said
    if case.fate == "said":
        assert result.status == 0, said
        assert case.says in result.out + said_on_page(folder), said
    shutil.rmtree(tmp_path)


def test_the_corpus_has_many_of_every_kind():
    counts = Counter(case.kind for case in CASES)
    assert counts.keys() == KINDS.keys()
    assert min(counts.values()) >= 15
    assert counts.total() >= 200
    assert len({str(case) for case in CASES}) == len(CASES)


@pytest.mark.slow
def test_the_commands_take_the_good_files(good: Path, server: Server, tmp_path: Path):
    # Drawing needs no file but the parameters, and takes long where these are sound.
    a_case = {case.words: case for case in CASES if case.words != ("stages.synthesize",)}
    for number, (words, case) in enumerate(a_case.items()):
        done = server.run(words, laid_out(replace(case, damage=lambda _: None), good, tmp_path / str(number)))
        assert done.status == 0, (words, done)
        assert "error" not in done.err
