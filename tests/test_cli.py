"""The command `pose`: what it prints, writes and refuses.

Real weights (untrained), pictures, videos and repositories.
"""

from __future__ import annotations

import importlib
import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pandas as pd
import pytest
import torch
from helpers import ROOT, write_active_weights, write_initial_weights

from pose.cli import run
from pose.experiments.gate import judge, read_tolerance
from pose.inference.predictor import Predictor
from pose.io.errors import UserError
from pose.io.images import encode_jpeg, read_image
from pose.keypoints.skeleton import COCO, MPII
from pose.models.discriminator import Discriminator
from pose.models.published import write_exported
from pose.models.weights import load_weights, save_weights
from pose.params import MultiParams, Params

NOISE_HW3 = np.random.default_rng(0).integers(0, 255, (60, 48, 3), dtype=np.uint8)


@pytest.fixture(scope="session")
def weights(params: Params, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Weights for use as they are before training."""
    return write_initial_weights(params, "hgpose", tmp_path_factory.mktemp("models"))


@pytest.fixture(scope="session")
def multi_weights(params: Params, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same of a multi-person network; it sees people everywhere."""
    return write_active_weights(params, tmp_path_factory.mktemp("models"))


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
    environment = os.environ | {
        "PYTHONPATH": str(ROOT),
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
    }
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
    named = {line.split()[0] for line in done.stdout.splitlines() if line.startswith("    ")}
    assert {"predict", "preset", "gate", "show", "verify", "import-weights", "export-weights"} <= named
    check = "import sys, pose.cli; print([name for name in ('torch', 'cv2', 'mlflow', 'pandas', 'dvc') if name in sys.modules])"
    assert (
        subprocess.run([sys.executable, "-c", check], cwd=ROOT, capture_output=True, text=True).stdout
        == "[]\n"
    )


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
    np.testing.assert_allclose(
        [(joint["x"], joint["y"]) for joint in person["joints"]], people.joint_PK2[0], atol=0.005
    )
    drawn = read_image(tmp_path / "out/a.jpg")
    assert drawn.shape == picture.shape
    assert (drawn != picture).any()
    assert "1 of 1 sources" in capsys.readouterr().out


def test_a_folder_stands_for_its_pictures_and_videos(weights, photos, tmp_path):
    run(
        ["predict", str(photos), "--weights", str(weights), "--out", str(tmp_path / "out"), "--format", "csv"]
    )
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == [
        "a.jpg",
        "b.png",
        "clip.mp4",
        "joints.csv",
    ]
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
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == [
        "a.jpg",
        "b.png",
        "clip.mp4",
        "joints.json",
    ]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["missing.jpg"], r"missing.jpg: no such file or folder"),
        (["."], r"\.: found no pictures or videos in this folder"),
        (
            ["photos/a.jpg", "--out", "photos"],
            r"photos/a.jpg: would be overwritten by its drawn copy, expected another folder than photos",
        ),
        (
            ["photos/a.jpg", "more/a.jpg"],
            r"more/a.jpg: photos/a.jpg would be drawn as drawn/a.jpg too, expected different names",
        ),
        (["photos/a.jpg", "--weights", "photos/b.png"], r"photos/b.png: cannot be read as weights for use"),
        (["photos/a.jpg", "--weights", "none.pt"], r"none.pt: no such file"),
        (
            ["photos/a.jpg", "--scale", "1"],
            r"--centre and --scale: found one of them, expected both or neither",
        ),
        (["photos/a.jpg", "--centre", "1,2", "--scale", "0"], r"--scale: found 0, expected a number above 0"),
        (
            ["photos/a.jpg", "--centre", "1,2", "--scale", "1e300"],
            r"--scale: found 1e\+300, expected a number above 0 and at most 5000",
        ),
        (
            ["photos/a.jpg", "--box", "1,2,0,4"],
            r"--box: found 0 x 4 pixels, expected a width and a height above 0",
        ),
        (
            ["photos/a.jpg", "--box", "1,2,3,4", "--centre", "1,2", "--scale", "1"],
            r"--box: found with --centre and --scale",
        ),
        (["photos/a.jpg", "--device", "warp"], r"device: found 'warp', expected cpu, cuda"),
    ],
)
def test_what_cannot_be_done_is_refused_before_anything_is_written(
    arguments, message, weights, photos, tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    Path("more").mkdir()
    Path("more/a.jpg").write_bytes((photos / "a.jpg").read_bytes())
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(UserError, match=message):
        run(["predict", "--weights", str(weights), *arguments])
    assert sorted(tmp_path.rglob("*")) == before


@pytest.mark.parametrize(
    ("stage", "arguments", "expected"),
    [("train", [], "TASK"), ("evaluate", ["a", "b"], "TASK"), ("report", ["a"], "none")],
)
def test_a_stage_says_what_it_is_called_with(stage, arguments, expected, capsys):
    main = importlib.import_module(f"stages.{stage}").main
    with pytest.raises(SystemExit) as error:
        run_main(main, *arguments)
    assert error.value.code == 1
    assert capsys.readouterr().err == f"error: found {len(arguments)} arguments, expected {expected}\n"


def test_a_box_of_words_is_refused_by_the_parser(weights, photos):
    done = pose("predict", photos, "--weights", weights, "--box", "1,2,wide,4")
    assert done.returncode == 2
    assert (
        "argument --box: found '1,2,wide,4', expected 4 numbers with commas between them"
        in done.stderr.splitlines()[-1]
    )


# --- pose predict, all people of a picture ---


def people_in(folder: Path) -> list[dict]:
    (one,) = json.loads((folder / "joints.json").read_text())["images"]
    return one["people"]


def test_all_people_of_a_picture_are_drawn_and_written_but_the_unlikely_ones(multi_weights, photos, tmp_path):
    ask = ["predict", str(photos / "a.jpg"), "--weights", str(multi_weights)]
    run([*ask, "--out", str(tmp_path / "out")])
    content = json.loads((tmp_path / "out/joints.json").read_text())
    assert (content["task"], content["skeleton"]) == ("hgpose-ae", "coco")
    picture = read_image(photos / "a.jpg")
    [everyone] = Predictor.load(multi_weights).people([picture])
    assert [person["score"] for person in people_in(tmp_path / "out")] == everyone.above(0.1).score_P.round(
        4
    ).tolist()
    written_PK2 = [
        [(joint["x"], joint["y"]) for joint in person["joints"]] for person in people_in(tmp_path / "out")
    ]
    np.testing.assert_allclose(np.array(written_PK2, dtype=float), everyone.above(0.1).joint_PK2, atol=0.005)
    assert (read_image(tmp_path / "out/a.jpg") != picture).any()
    middle = float(np.median(everyone.score_P))
    run([*ask, "--out", str(tmp_path / "sure"), "--min-score", str(middle)])
    assert (
        0
        < len(people_in(tmp_path / "sure"))
        == (everyone.score_P >= middle).sum()
        < len(people_in(tmp_path / "out"))
    )


def test_a_picture_of_nobody_is_written_as_it_is(multi_weights, photos, tmp_path, capsys):
    run(
        [
            "predict",
            str(photos / "b.png"),
            "--weights",
            str(multi_weights),
            "--out",
            str(tmp_path / "out"),
            "--min-score",
            "2",
        ]
    )
    assert people_in(tmp_path / "out") == []
    assert (read_image(tmp_path / "out/b.png") == read_image(photos / "b.png")).all()
    assert "1 of 1 sources" in capsys.readouterr().out


def test_people_of_folders_and_videos_are_numbered_by_picture_and_frame(multi_weights, photos, tmp_path):
    run(
        [
            "predict",
            str(photos),
            "--weights",
            str(multi_weights),
            "--out",
            str(tmp_path / "out"),
            "--format",
            "csv",
        ]
    )
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == [
        "a.jpg",
        "b.png",
        "clip.mp4",
        "joints.csv",
    ]
    assert frames(tmp_path / "out/clip.mp4") == 9
    table = pd.read_csv(tmp_path / "out/joints.csv")
    assert table.groupby("file")["frame"].nunique().tolist() == [0, 0, 9]
    for _, one in table.groupby(["file", "frame"], dropna=False):
        assert one["person"].tolist() == sorted(list(range(one["person"].max() + 1)) * 17)
        assert one["joint"].tolist() == list(COCO.joints) * one["person"].nunique()
        assert one.groupby("person")["score"].first().is_monotonic_decreasing
    assert table["score"].min() >= 0.1


def test_a_picture_is_looked_at_in_further_sizes_if_asked_to(multi_weights, photos, tmp_path):
    ask = ["predict", str(photos / "a.jpg"), "--weights", str(multi_weights)]
    for name, scales in (("one", "1"), ("two", "1,2")):
        run([*ask, "--out", str(tmp_path / name), "--scales", scales])
    run([*ask, "--out", str(tmp_path / "plain")])
    assert people_in(tmp_path / "one") == people_in(tmp_path / "plain") != people_in(tmp_path / "two")


@pytest.mark.parametrize("scales", ["0.5,2", "1,0", "1,wide", "1,-2", "1,300", "1,nan", ""])
def test_sizes_that_make_no_sense_are_refused_by_the_parser(multi_weights, photos, scales, capsys):
    with pytest.raises(SystemExit) as error:
        run(["predict", str(photos), "--weights", str(multi_weights), f"--scales={scales}"])
    assert error.value.code == 2
    assert (
        f"argument --scales: found {scales!r}, expected numbers above 0"
        in capsys.readouterr().err.splitlines()[-1]
    )


def test_a_box_is_refused_where_a_network_finds_all_people_itself(multi_weights, photos, tmp_path):
    with pytest.raises(
        UserError, match="box: weights of hgpose-ae find all people themselves, expected no box"
    ):
        run(
            [
                "predict",
                str(photos),
                "--weights",
                str(multi_weights),
                "--out",
                str(tmp_path / "out"),
                "--box",
                "1,2,3,4",
            ]
        )
    assert not (tmp_path / "out").exists()


# --- pose import-weights, pose export-weights ---


def of_published_kind(source: Path, out: Path) -> Path:
    """The same weights, said to be taught as the published ones are.

    Heatmaps themselves, not logits, and tags as they come.
    """
    weights = load_weights(source)
    as_published = {"loss": "mse"} | ({"tag_gain": 1.0} if isinstance(weights.params, MultiParams) else {})
    save_weights(out, replace(weights, params=weights.params.model_copy(update=as_published)))
    return out


@pytest.mark.parametrize(
    ("task", "kind"),
    [("hgpose-ae", "umich_pose_ae"), ("hgpose-ae", "roytseng_hgpose_ae"), ("hgpose", "bearpaw_hg")],
)
def test_weights_exported_and_imported_again_are_the_same(
    task, kind, weights, multi_weights, tmp_path, capsys
):
    source = of_published_kind(weights if task == "hgpose" else multi_weights, tmp_path / "ours.pt")
    theirs, back = tmp_path / "theirs.pth.tar", tmp_path / "models" / "back.pt"
    run(["export-weights", str(source), "--kind", kind, "--out", str(theirs)])
    run(["import-weights", str(theirs), "--out", str(back)])
    exported, imported = capsys.readouterr().out.splitlines()
    assert exported == f"{theirs}: named as in {kind}"
    assert imported.startswith(f"{back}: {kind} (")
    assert "stacks 2, " in imported
    ours, again = load_weights(source), load_weights(back)
    assert again.task == task
    assert again.network == ours.network
    assert all(torch.equal(tensor, again.tensors[name]) for name, tensor in ours.tensors.items())
    assert Predictor.load(back).problem == ("single" if task == "hgpose" else "multi")


def test_imported_weights_bear_the_name_that_is_asked_for_and_find_people(multi_weights, photos, tmp_path):
    ours = of_published_kind(multi_weights, tmp_path / "ours.pt")
    run(["export-weights", str(ours), "--kind", "umich_pose_ae", "--out", str(tmp_path / "theirs.pth")])
    run(
        [
            "import-weights",
            str(tmp_path / "theirs.pth"),
            "--out",
            str(tmp_path / "back.pt"),
            "--task",
            "authors",
            "--kind",
            "umich_pose_ae",
        ]
    )
    run(
        [
            "predict",
            str(photos / "a.jpg"),
            "--weights",
            str(tmp_path / "back.pt"),
            "--out",
            str(tmp_path / "out"),
        ]
    )
    assert json.loads((tmp_path / "out/joints.json").read_text())["task"] == "authors"


@pytest.fixture
def published(multi_weights: Path, weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder, made the working one, with checkpoints of others and files that are none."""
    monkeypatch.chdir(tmp_path)
    write_exported(load_weights(multi_weights).tensors, "ae.pth", "umich_pose_ae")
    discriminator = Discriminator(joints=16, stacks=1, modules=1, features=8, stem=[4, 8, 8])
    write_exported(discriminator.state_dict(), "netD.pth", "roytseng_discriminator")
    of_published_kind(multi_weights, Path("multi.pt"))
    Path("logits.pt").write_bytes(multi_weights.read_bytes())
    gained = load_weights("multi.pt")
    save_weights("gained.pt", replace(gained, params=gained.params.model_copy(update={"tag_gain": 4.0})))
    Path("notes.txt").write_text("not a checkpoint")
    torch.save({"weight": torch.zeros(3)}, "other.pth")
    return tmp_path


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["import-weights", "none.pth"], "none.pth: no such file, expected a published checkpoint"),
        (["import-weights", "."], r"\.: is a folder, expected a published checkpoint"),
        (["import-weights", "notes.txt"], "notes.txt: cannot be read as a published checkpoint"),
        (
            ["import-weights", "other.pth"],
            "other.pth: found weight, expected the tensors of one of: bearpaw_hg, ",
        ),
        (["import-weights", "netD.pth"], "netD.pth: found roytseng_discriminator, expected a pose network"),
        (
            ["import-weights", "ae.pth", "--kind", "bearpaw_hg"],
            "ae.pth: found umich_pose_ae, expected bearpaw_hg",
        ),
        (
            ["import-weights", "ae.pth", "--kind", "hourglass"],
            "kind: found 'hourglass', expected one of: bearpaw_hg, ",
        ),
        (
            ["import-weights", "multi.pt"],
            "multi.pt: found this project's own weights for use, expected a published checkpoint",
        ),
        (
            ["export-weights", "multi.pt", "--kind", "hourglass"],
            "kind: found 'hourglass', expected one of: bearpaw_hg, ",
        ),
        (
            ["export-weights", "multi.pt", "--kind", "bearpaw_hg"],
            "multi.pt: .*of our StackedHourglass with a stem of three numbers, as bearpaw_hg has it",
        ),
        (
            ["export-weights", "multi.pt", "--kind", "roytseng_discriminator"],
            "expected the tensors of our Discriminator",
        ),
        (
            ["export-weights", "logits.pt", "--kind", "umich_pose_ae"],
            "logits.pt: taught with loss: focal, whose maps are logits; umich_pose_ae expects heatmaps",
        ),
        (
            ["export-weights", "gained.pt", "--kind", "umich_pose_ae"],
            "gained.pt: taught with tag_gain: 4; umich_pose_ae expects tags",
        ),
        (
            ["export-weights", "none.pt", "--kind", "umich_pose_ae"],
            "none.pt: no such file, expected weights for use",
        ),
        (
            ["export-weights", "ae.pth", "--kind", "umich_pose_ae"],
            r"ae.pth: found None, expected weights for use",
        ),
    ],
)
def test_what_cannot_be_imported_or_exported_is_one_line_and_writes_nothing(arguments, message, published):
    before = sorted(published.rglob("*"))
    with pytest.raises(UserError, match=message) as error:
        run([*arguments, "--out", "out.pt"])
    assert "\n" not in str(error.value)
    assert sorted(published.rglob("*")) == before


# --- pose verify ---


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--set", "lr"], "argument --set: found 'lr', expected KEY=VALUE"),
        (["--set", "=1"], "argument --set: found '=1', expected KEY=VALUE"),
        (["--steps", "0"], "argument --steps: found '0', expected a whole number of at least 1"),
        (["--batch", "many"], "argument --batch: found 'many', expected a whole number of at least 1"),
    ],
)
def test_what_cannot_be_verified_is_refused_by_the_parser(arguments, message, capsys):
    with pytest.raises(SystemExit) as error:
        run(["verify", "hgpose", *arguments])
    assert error.value.code == 2
    assert capsys.readouterr().err.splitlines()[-1].endswith(message)


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


@pytest.mark.parametrize(
    "text", ["metrics/hgpose.json: 3", "metrics/hgpose.json: {PCKh: -1}", "metrics/hgpose.json: {PCKh: wide}"]
)
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
    commands = [
        [*git, "init", "-q"],
        [sys.executable, "-m", "dvc", "init", "-q"],
        [sys.executable, "-m", "dvc", "config"],
    ]
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
