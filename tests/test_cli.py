"""The command `pose`: help, arguments, published weights; other commands are tested beside what they call."""

from __future__ import annotations

import importlib
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from helpers import ROOT, write_active_weights, write_initial_weights

from pose.cli import run
from pose.inference.predictor import Predictor
from pose.io.command import run_stage
from pose.io.errors import UserError
from pose.models.discriminator import Discriminator
from pose.models.published import export_weights
from pose.models.weights import load_weights, save_weights
from pose.params import Params


def test_help_names_every_command_and_loads_nothing_heavy():
    heavy = "print([name for name in ('torch', 'cv2', 'mlflow', 'pandas', 'dvc') if name in sys.modules])"
    code = f"import sys, pose.cli; pose.cli.run([]); {heavy}"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    *printed, loaded = done.stdout.splitlines()
    named = {line.split()[0] for line in printed if line.startswith("    ")}
    assert {"train", "evaluate", "report", "predict", "preset", "gate", "show", "verify"} <= named
    assert {"import-weights", "export-weights"} <= named
    assert loaded == "[]"


def test_versions_are_printed(capsys):
    with pytest.raises(SystemExit) as error:
        run(["--version"])
    assert error.value.code == 0
    assert f"torch {torch.__version__.partition('+')[0]}" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("stage", "arguments", "message"),
    [
        ("train", [], "the following arguments are required: TASK"),
        ("evaluate", ["a", "b"], "unrecognized arguments: b"),
        ("report", ["a"], "unrecognized arguments: a"),
    ],
)
def test_a_stage_says_what_it_is_called_with(stage, arguments, message, capsys):
    with pytest.raises(SystemExit) as error:
        run_stage(importlib.import_module(f"stages.{stage}").main, arguments)
    assert error.value.code == 2
    assert capsys.readouterr().err.strip().endswith(f"error: {message}")


# --- pose import-weights, pose export-weights ---


def as_published(source: Path, out: Path, **changes: object) -> Path:
    """The same weights, trained as the published ones are: heatmaps, not logits, and tags as they come."""
    weights = load_weights(source)
    inference = {**weights.inference, "loss": "mse"}
    if weights.problem == "multi":
        inference["tag_gain"] = 1.0
    save_weights(out, replace(weights, inference=inference | changes))
    return out


@pytest.fixture(scope="module")
def weights(params: Params, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Weights as they are before training, by task."""
    single, multi = (tmp_path_factory.mktemp("models") for _ in range(2))
    return {
        "hgpose": write_initial_weights(params, "hgpose", single),
        "hgpose-ae": write_active_weights(params, multi),
    }


@pytest.mark.parametrize(
    ("task", "kind"),
    [("hgpose-ae", "umich_pose_ae"), ("hgpose-ae", "roytseng_hgpose_ae"), ("hgpose", "bearpaw_hg")],
)
def test_weights_exported_and_imported_again_are_the_same(task, kind, weights, tmp_path, capsys):
    source = as_published(weights[task], tmp_path / "own.pt")
    exported, back = tmp_path / "external.pth.tar", tmp_path / "models" / "back.pt"
    run(["export-weights", str(source), "--kind", kind, "--out", str(exported)])
    run(["import-weights", str(exported), "--out", str(back), "--task", "named"])
    first, second = capsys.readouterr().out.splitlines()
    assert first == f"{exported}: named as in {kind}"
    assert second.startswith(f"{back}: {kind} (")
    assert "stacks 2, " in second
    before, after = load_weights(source), load_weights(back)
    assert after.task == "named"
    assert after.network == before.network
    assert all(torch.equal(tensor, after.tensors[name]) for name, tensor in before.tensors.items())
    assert Predictor.load(back).problem == before.problem


@pytest.fixture
def published(weights: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder, made the working one, with published checkpoints and files that are none."""
    monkeypatch.chdir(tmp_path)
    torch.save(export_weights(load_weights(weights["hgpose-ae"]).tensors, "umich_pose_ae"), "ae.pth")
    discriminator = Discriminator(joints=16, stacks=1, modules=1, features=8, stem=[4, 8, 8])
    torch.save(export_weights(discriminator.state_dict(), "roytseng_discriminator"), "netD.pth")
    as_published(weights["hgpose-ae"], Path("multi.pt"))
    as_published(weights["hgpose-ae"], Path("gained.pt"), tag_gain=4.0)
    as_published(weights["hgpose-ae"], Path("logits.pt"), loss="focal")
    Path("notes.txt").write_text("not a checkpoint")
    torch.save({"weight": torch.zeros(3)}, "other.pth")
    return tmp_path


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("import-weights none.pth", "none.pth: no such file, expected a published checkpoint"),
        ("import-weights .", r"\.: is a folder, expected a published checkpoint"),
        ("import-weights notes.txt", "notes.txt: cannot be read as a published checkpoint"),
        ("import-weights other.pth", "other.pth: found weight, expected the tensors of one of: bearpaw_hg, "),
        ("import-weights netD.pth", "netD.pth: found roytseng_discriminator, expected a pose network"),
        ("import-weights ae.pth --kind bearpaw_hg", "ae.pth: found umich_pose_ae, expected bearpaw_hg"),
        ("import-weights ae.pth --kind hourglass", "kind: found 'hourglass', expected one of: bearpaw_hg, "),
        ("import-weights multi.pt", "multi.pt: found this project's own .*, expected a published checkpoint"),
        ("export-weights multi.pt --kind hourglass", "kind: found 'hourglass', expected one of: bearpaw_hg"),
        ("export-weights multi.pt --kind bearpaw_hg", "multi.pt: .* our StackedHourglass with a stem of"),
        ("export-weights multi.pt --kind roytseng_discriminator", "the tensors of our Discriminator"),
        ("export-weights logits.pt --kind umich_pose_ae", "logits.pt: .* loss: focal, whose maps are logits"),
        ("export-weights gained.pt --kind umich_pose_ae", "gained.pt: .* with tag_gain: 4"),
        ("export-weights none.pt --kind umich_pose_ae", "none.pt: no such file, expected model weights"),
        ("export-weights ae.pth --kind umich_pose_ae", "ae.pth: found None, expected model weights"),
    ],
)
def test_what_cannot_be_imported_or_exported_is_one_line_and_writes_nothing(arguments, message, published):
    before = sorted(published.rglob("*"))
    with pytest.raises(UserError, match=message) as error:
        run([*arguments.split(), "--out", "out.pt"])
    assert "\n" not in str(error.value)
    assert sorted(published.rglob("*")) == before
