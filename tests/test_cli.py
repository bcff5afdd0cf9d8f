"""The command `pose`: what it prints, writes and refuses. Real weights (untrained), pictures, videos and repositories."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pandas as pd
import pytest
import torch

from pose.checkpoint import save_weights, weights_of
from pose.cli import run
from pose.data.images import encode_jpeg, read_image
from pose.errors import UserError
from pose.gate import judge, read_tolerance
from pose.infer import Predictor
from pose.params import Params
from pose.skeleton import MPII
from pose.task import build_task

ROOT = Path(__file__).resolve().parents[1]
NOISE_HW3 = np.random.default_rng(0).integers(0, 255, (60, 48, 3), dtype=np.uint8)


@pytest.fixture(scope="session")
def weights(params: Params, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Weights for use as they are before training."""
    path = tmp_path_factory.mktemp("models") / "last.pt"
    task = build_task(params, "hgpose", device=torch.device("cpu"))
    save_weights(path, weights_of(task))
    return path


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """A folder with two pictures, a video of nine frames and a text."""
    folder = tmp_path / "photos"
    folder.mkdir()
    (folder / "a.jpg").write_bytes(encode_jpeg(NOISE_HW3, 95))
    cv2.imwrite(str(folder / "b.png"), NOISE_HW3)
    (folder / "notes.txt").write_text("not a picture")
    video = cv2.VideoWriter(str(folder / "clip.avi"), cv2.VideoWriter.fourcc(*"MJPG"), 10, (48, 60))
    for shift in range(9):
        video.write(np.roll(NOISE_HW3, shift, axis=1))
    video.release()
    return folder


def pose(*arguments: object, folder: Path = ROOT) -> subprocess.CompletedProcess[str]:
    """The command as a user runs it."""
    environment = os.environ | {"PYTHONPATH": str(ROOT), "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
    command = [sys.executable, "-m", "pose.cli", *map(str, arguments)]
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True)


def frames(path: Path) -> int:
    capture, count = cv2.VideoCapture(str(path)), 0
    while capture.read()[0]:
        count += 1
    return count


def test_help_names_every_command_and_loads_nothing_heavy():
    done = pose("--help")
    assert done.returncode == 0
    assert all(f"    {command} " in done.stdout for command in ("predict", "preset", "gate"))
    check = "import sys, pose.cli; print([name for name in ('torch', 'cv2', 'mlflow', 'pandas', 'dvc') if name in sys.modules])"
    assert subprocess.run([sys.executable, "-c", check], cwd=ROOT, capture_output=True, text=True).stdout == "[]\n"


def test_a_picture_is_drawn_and_its_joints_are_those_of_the_network(weights, photos, tmp_path, capsys):
    run(["predict", str(photos / "a.jpg"), "--weights", str(weights), "--out", str(tmp_path / "out")])
    content = json.loads((tmp_path / "out/joints.json").read_text())
    assert (content["task"], content["skeleton"]) == ("hgpose", "mpii")
    (image,) = content["images"]
    assert (image["file"], image["width"], image["height"]) == (str(photos / "a.jpg"), 48, 60)
    (person,) = image["people"]
    assert [joint["joint"] for joint in person["joints"]] == list(MPII.joints)
    picture = read_image(photos / "a.jpg")
    (people,) = Predictor.load(weights).people([picture])
    np.testing.assert_allclose([(joint["x"], joint["y"]) for joint in person["joints"]], people.joint_PK2[0], atol=0.005)
    drawn = read_image(tmp_path / "out/a.jpg")
    assert drawn.shape == picture.shape
    assert (drawn != picture).any()
    assert "1 of 1 sources" in capsys.readouterr().out


def test_a_folder_stands_for_its_pictures_and_videos(weights, photos, tmp_path):
    run(["predict", str(photos), "--weights", str(weights), "--out", str(tmp_path / "out"), "--format", "csv"])
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["a.jpg", "b.png", "clip.mp4", "joints.csv"]
    assert frames(tmp_path / "out/clip.mp4") == 9
    table = pd.read_csv(tmp_path / "out/joints.csv")
    assert list(table.columns) == ["file", "frame", "person", "score", "joint", "x", "y", "confidence"]
    assert len(table) == (1 + 1 + 9) * 16
    assert table.groupby("file")["frame"].agg(lambda frame: frame.nunique()).tolist() == [0, 0, 9]


def test_centre_and_scale_are_the_box_of_200_times_scale(weights, photos, tmp_path):
    ask = ["predict", str(photos / "a.jpg"), "--weights", str(weights)]
    run([*ask, "--out", str(tmp_path / "one"), "--centre", "20,30", "--scale", "0.2"])
    run([*ask, "--out", str(tmp_path / "two"), "--box=0.5,10.5,40,40"])
    run([*ask, "--out", str(tmp_path / "whole")])
    one, two, whole = ((tmp_path / name / "joints.json").read_text() for name in ("one", "two", "whole"))
    assert one == two != whole


def test_what_cannot_be_read_is_named_and_the_others_are_done(weights, photos, tmp_path):
    (photos / "cut.jpg").write_bytes((photos / "a.jpg").read_bytes()[:900])
    (photos / "broken.mp4").write_bytes(b"not a video")
    done = pose("predict", photos, "--weights", weights, "--out", tmp_path / "out")
    assert done.returncode == 1
    errors = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
    assert len(errors) == 2
    assert "broken.mp4: cannot be read as a video" in errors[0]
    assert "cut.jpg: truncated JPEG" in errors[1]
    assert "3 of 5 sources" in done.stdout
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["a.jpg", "b.png", "clip.mp4", "joints.json"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["missing.jpg"], r"missing.jpg: no such file or folder"),
        (["."], r"\.: found no pictures or videos in this folder"),
        (["photos/a.jpg", "--out", "photos"], r"photos/a.jpg: would be overwritten by its drawn copy, expected another folder than photos"),
        (["photos/a.jpg", "more/a.jpg"], r"more/a.jpg: photos/a.jpg would be drawn as drawn/a.jpg too, expected different names"),
        (["photos/a.jpg", "--weights", "photos/b.png"], r"photos/b.png: cannot be read as weights for use"),
        (["photos/a.jpg", "--weights", "none.pt"], r"none.pt: no such file"),
        (["photos/a.jpg", "--scale", "1"], r"--centre and --scale: found one of them, expected both or neither"),
        (["photos/a.jpg", "--centre", "1,2", "--scale", "0"], r"--scale: found 0, expected a number above 0"),
        (["photos/a.jpg", "--box", "1,2,0,4"], r"--box: found 0 x 4 pixels, expected a width and a height above 0"),
        (["photos/a.jpg", "--box", "1,2,3,4", "--centre", "1,2", "--scale", "1"], r"--box: found with --centre and --scale"),
        (["photos/a.jpg", "--device", "warp"], r"device: found 'warp', expected cpu, cuda"),
    ],
)
def test_what_cannot_be_done_is_refused_before_anything_is_written(arguments, message, weights, photos, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("more").mkdir()
    Path("more/a.jpg").write_bytes((photos / "a.jpg").read_bytes())
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(UserError, match=message):
        run(["predict", "--weights", str(weights), *arguments])
    assert sorted(tmp_path.rglob("*")) == before


def test_a_box_of_words_is_refused_by_the_parser(weights, photos):
    done = pose("predict", photos, "--weights", weights, "--box", "1,2,wide,4")
    assert done.returncode == 2
    assert done.stderr.splitlines()[-1].endswith("argument --box: found '1,2,wide,4', expected 4 numbers with commas between them")


# --- pose gate ---

TOLERANCE = {"metrics/hgpose.json": {"PCKh.0.5": 3.0}}


def verdict(old: object, new: object) -> bool:
    (one,) = judge({"metrics/hgpose.json": {"PCKh.0.5": {"old": old, "new": new}}}, TOLERANCE)
    return one.passed


def test_a_drop_beyond_the_tolerance_fails_and_nothing_else_does():
    assert verdict(70.0, 67.0)
    assert verdict(70.0, 90.0)
    assert verdict(None, 60.0)
    assert not verdict(70.0, 66.9)
    assert not verdict(70.0, None)
    assert not verdict(70.0, float("nan"))
    (missing,) = judge({}, TOLERANCE)
    assert not missing.passed


@pytest.mark.parametrize("text", ["metrics/hgpose.json: 3", "metrics/hgpose.json: {PCKh: -1}", "metrics/hgpose.json: {PCKh: wide}"])
def test_a_tolerance_that_makes_no_sense_is_refused(text, tmp_path):
    (tmp_path / "tolerance.yaml").write_text(text)
    with pytest.raises(UserError, match=r"tolerance.yaml: metrics/hgpose.json: .*expected"):
        read_tolerance(tmp_path / "tolerance.yaml")


def test_the_committed_tolerance_can_be_read():
    assert read_tolerance(ROOT / ".github/tolerance.yaml")


@pytest.mark.slow
def test_the_gate_compares_the_workspace_with_a_revision(tmp_path):
    files = {
        "dvc.yaml": "metrics:\n  - metrics/hgpose.json\n",
        "metrics/hgpose.json": json.dumps({"PCKh": {"0.5": 70.0}}),
        "tolerance.yaml": "metrics/hgpose.json: {PCKh.0.5: 3.0}\n",
    }
    (tmp_path / "metrics").mkdir()
    for name, text in files.items():
        (tmp_path / name).write_text(text)
    git = ["git", "-c", "user.name=a", "-c", "user.email=a@example.org"]
    commands = [[*git, "init", "-q"], [sys.executable, "-m", "dvc", "init", "-q"], [sys.executable, "-m", "dvc", "config"]]
    commands[2] += ["core.analytics", "false"]
    for command in (*commands, [*git, "add", "-A"], [*git, "commit", "-qm", "base"]):
        subprocess.run(command, cwd=tmp_path, check=True)
    gate = ["gate", "--tolerance", "tolerance.yaml", "--base"]
    for new, code, line in ((68.0, 0, "70 -> 68 (-2, allowed -3)"), (60.0, 1, "70 -> 60 (-10, allowed -3)")):
        (tmp_path / "metrics/hgpose.json").write_text(json.dumps({"PCKh": {"0.5": new}}))
        done = pose(*gate, "HEAD", folder=tmp_path)
        assert (done.returncode, done.stderr) == (code, "")
        assert done.stdout == f"{'FAIL' if code else 'ok  '}  metrics/hgpose.json PCKh.0.5: {line}\n"
    done = pose(*gate, "nowhere", folder=tmp_path)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == "error: dvc metrics diff nowhere: unknown Git revision 'nowhere'\n"
