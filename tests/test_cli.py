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
import pytest
import torch
from helpers import ROOT, write_active_weights, write_initial_weights

from pose.cli import run
from pose.experiments.gate import judge, read_tolerance
from pose.inference.predictor import Predictor
from pose.io.errors import UserError
from pose.io.images import encode_jpeg
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
