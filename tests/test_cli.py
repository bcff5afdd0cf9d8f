"""The command `pose`: help, arguments, published weights; other commands are tested beside what they call."""

import importlib
import os
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from helpers import ROOT, run_python, user_error, with_values, write_initial_weights, write_params_file

from pose.cli import NEED_ARGUMENTS, parser, run
from pose.io.command import run_stage
from pose.models.weights import load_weights, save_weights


def test_help_names_every_command_and_loads_nothing_heavy():
    heavy = "print([name for name in ('torch', 'cv2', 'mlflow', 'pandas', 'dvc') if name in sys.modules])"
    code = f"import sys, pose.cli; pose.cli.run([]); {heavy}"
    done = run_python(code)
    assert done.returncode == 0, done.stderr
    *printed, loaded = done.stdout.splitlines()
    named = {line.split()[0] for line in printed if line.startswith("    ")}
    assert {"train", "evaluate", "report", "predict", "preset", "gate", "show", "verify"} <= named
    assert {"import-weights", "export-weights"} <= named
    assert loaded == "[]"


@pytest.mark.parametrize(
    ("command", "given", "policy"),
    [
        ("predict", {}, "PASSIVE"),
        ("predict", {"OMP_WAIT_POLICY": "ACTIVE"}, "ACTIVE"),
        ("train", {}, None),
    ],
)
def test_prediction_leaves_a_core_to_others_while_its_threads_wait(command, given, policy):
    """Before torch is imported: its OpenMP reads the policy once."""
    code = f"""
import os, sys
sys.argv = ["pose", {command!r}, "--help"]
import pose.cli
try:
    pose.cli.main()
except SystemExit:
    print(os.environ.get("OMP_WAIT_POLICY"), "torch" in sys.modules)
"""
    environment = {key: value for key, value in os.environ.items() if key != "OMP_WAIT_POLICY"}
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, env=environment | given, capture_output=True, text=True
    )
    assert done.stdout.splitlines()[-1] == f"{policy} False", done.stderr


def test_a_name_that_is_no_text_can_be_printed():
    code = "from pose.io.command import run_command; run_command(print, 'a\\udcff.jpg')"
    environment = {**os.environ, "PYTHONIOENCODING": "utf-8:strict"}
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, env=environment, capture_output=True)
    assert (done.stdout, done.stderr) == (rb"a\udcff.jpg" + os.linesep.encode(), b"")


def test_the_commands_that_need_arguments_are_known():
    [commands] = [action for action in parser()._actions if isinstance(action.choices, dict)]
    need = [name for name, one in commands.choices.items() if any(action.required for action in one._actions)]
    assert sorted(need) == sorted(NEED_ARGUMENTS)


@pytest.mark.parametrize("command", NEED_ARGUMENTS)
def test_a_command_that_needs_arguments_shows_its_help_without(command, capsys):
    with pytest.raises(SystemExit) as error:
        run([command])
    assert error.value.code == 0
    assert capsys.readouterr().out.startswith(f"usage: pose {command}")


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ("predict w.pt --no-draw a.jpg --min-score 0.3 b.jpg", {"sources": ["w.pt", "a.jpg", "b.jpg"]}),
        ("predict --no-draw w.pt -- -a.jpg", {"sources": ["w.pt", "-a.jpg"], "draw": False}),
        ("score a.json --truth t b.json", {"predictions": Path("a.json"), "other": Path("b.json")}),
        ("data check a --out o b", {"sources": ["a", "b"], "out": Path("o")}),
    ],
)
def test_options_may_stand_between_other_arguments(words, expected):
    found = vars(parser().parse_args(words.split()))
    assert {key: found[key] for key in expected} == expected


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


def test_a_box_may_begin_left_of_the_image(tmp_path):
    words = ["predict", "none.jpg", "--weights", str(tmp_path / "none.pt"), "--box", "-5,0,90,200"]
    with user_error(r"none\.pt: no such file"):
        run(words)


def test_each_set_that_is_there_is_prepared(drawn_root, params, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    shutil.copytree(drawn_root / "coco", "root/coco")
    write_params_file(tmp_path, with_values(params, {"data.root": "root"}).model_dump())
    with pytest.raises(SystemExit, match="1"):
        run(["prepare"])
    assert "error: lsp_mpii: data.root root: no LSP" in capsys.readouterr().err
    assert (tmp_path / "data/prepared/coco/coco.h5").is_file()
    with user_error(r"^SET: found 'cocoo', expected one of lsp_mpii, coco$"):
        run(["prepare", "cocoo"])


def test_weights_exported_and_imported_again_are_the_same(params, tmp_path, capsys):
    source, exported, back = (tmp_path / name for name in ("last.pt", "external.pth.tar", "back.pt"))
    weights = load_weights(write_initial_weights(params, "hgpose", tmp_path))
    save_weights(source, replace(weights, inference={**weights.inference, "loss": "mse"}))
    run(["export-weights", str(source), "--kind", "roytseng_hgpose", "--out", str(exported)])
    run(["import-weights", str(exported), "--out", str(back), "--task", "named"])
    first, second = capsys.readouterr().out.splitlines()
    assert first == f"{exported}: named as in roytseng_hgpose"
    assert second.startswith(f"{back}: roytseng_hgpose (")
    assert "stacks 2, " in second
    imported = load_weights(back)
    assert (imported.task, imported.network) == ("named", weights.network)
    assert all(torch.equal(tensor, imported.tensors[name]) for name, tensor in weights.tensors.items())


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("import-weights none.pth", "none.pth: no such file, expected a published checkpoint"),
        ("import-weights last.pt", "last.pt: found this project's own .*, expected a published checkpoint"),
        ("export-weights last.pt --kind hourglass", "kind: found 'hourglass', expected one of: bearpaw_hg, "),
        (
            "export-weights last.pt --kind bearpaw_hg",
            "trained with loss: cross_entropy; bearpaw_hg expects loss",
        ),
        ("export-weights none.pt --kind bearpaw_hg", "none.pt: no such file, expected model weights"),
    ],
)
def test_what_cannot_be_imported_or_exported_is_one_line_and_writes_nothing(
    arguments, message, params, tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    write_initial_weights(params, "hgpose", tmp_path)
    with user_error(message):
        run([*arguments.split(), "--out", "out.pt"])
    assert [path.name for path in tmp_path.iterdir()] == ["last.pt"]
