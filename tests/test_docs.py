"""README and docs: every command in them works, every path exists, and the site builds without a warning."""

import json
import re
import shlex
import subprocess
import sys
from typing import Any

import pytest
from helpers import ROOT

from pose import train
from pose.cli import parser
from pose.io.paths import TaskPaths
from pose.io.schema import flatten, read_yaml
from pose.metrics.monitored import MONITORED
from pose.params import load_params

PAGES = [
    ROOT / "README.md",
    ROOT / "CONTRIBUTING.md",
    ROOT / "data" / "README.md",
    *sorted((ROOT / "docs").rglob("*.md")),
]
STAGES = read_yaml(ROOT / "dvc.yaml")["stages"]
OWN = {"evaluate@hand", "evaluate@hand-ae", "evaluate@lspet"}  # which `pose new-dataset` adds in the docs
TARGETS = set(STAGES) | {
    f"{name}@{task}" for name in ("train", "evaluate") for task in STAGES["train"]["foreach"]
}


def blocks(language: str) -> list[str]:
    """Fenced blocks of all pages, and, as `sh`, code in the text that is a command."""
    found = []
    for page in PAGES:
        text = page.read_text(encoding="utf-8")
        found += re.findall(rf"```{language}\n(.*?)```", text, flags=re.DOTALL)
        if language == "sh":
            inline = re.findall(r"`((?:pose|make|dvc) [^`]+)`", text)
            found += [" ".join(command.split()) for command in inline]
    return found


def commands(program: str) -> list[list[str]]:
    """Every call of a program in the docs, as words, each once."""
    lines = [line for block in blocks("sh") for line in re.split(r"\n|&&|;", block)]
    words = [shlex.split(" ".join(line.split()), comments=True) for line in lines]
    # Without FOO=bar before it.
    words = [[word for word in line if "=" not in word or line.index(word) > 0] for line in words]
    return sorted({tuple(line) for line in words if line[:1] == [program]})


@pytest.mark.parametrize("words", commands("pose"), ids=" ".join)
def test_a_pose_command_in_the_docs_is_understood(words):
    if len(words) == 2:  # `pose predict`, named in the text
        assert words[1] == "--help" or words[1] in parser().format_help()
    else:
        parser().parse_args(words[1:])


@pytest.mark.parametrize("words", commands("make"), ids=" ".join)
def test_a_make_target_in_the_docs_exists(words):
    targets = re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), flags=re.MULTILINE)
    assert {word for word in words[1:] if "=" not in word} <= set(targets)


@pytest.mark.parametrize("words", commands("dvc"), ids=" ".join)
def test_stages_and_parameters_of_a_dvc_command_in_the_docs_exist(words):
    changes = [words[n + 1] for n, word in enumerate(words) if word == "-S"]
    known = flatten(load_params(ROOT / "params.yaml").model_dump())
    assert {change.partition("=")[0].removeprefix("+") for change in changes} <= set(known)
    assert {word for word in words[2:] if "@" in word or word in STAGES} <= TARGETS | {"evaluate@TASK", *OWN}


def test_python_in_the_docs_is_python_and_imports_what_exists():
    for block in blocks("python"):
        compile(block, "docs", "exec")
        for line in re.findall(r"^(?:from pose|import pose).*$", block, flags=re.MULTILINE):
            exec(line)


def test_the_tracker_in_the_docs_keeps_a_run_and_continues_it(params, prepared, tmp_path, monkeypatch):
    wandb = pytest.importorskip("wandb", reason="needs Weights & Biases, which is no dependency")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("WANDB_MODE", "offline")
    [block] = [block for block in blocks("python") if "class WandbTracker" in block]
    names: dict[str, Any] = {}
    exec(block, names)
    for steps in (3, 5):
        tracker = names["WandbTracker"]()
        train(params, "hgpose", folder=tmp_path, prepared=prepared, max_steps=steps, tracker=tracker)
    starts = sorted(tmp_path.glob("wandb/offline-run-*/*.wandb"))
    assert [path.stem for path in starts] == [f"run-{tracker.run.id}"] * 2
    assert all(b"PCKh@0.5" in path.read_bytes() for path in starts)
    assert wandb.run is None


def test_paths_in_the_docs_exist():
    made = ("data/", "models/", "checkpoints/", "predictions/", "report/", "build/", "metrics/", "mlruns")
    entries = {entry.name for entry in ROOT.iterdir()}
    for page in PAGES:
        text = re.sub(r"```.*?```", "", page.read_text(encoding="utf-8"), flags=re.DOTALL)
        for path in re.findall(r"`([\w./-]+/[\w./-]*)`", text):
            if path.split("/")[0] in entries and not path.startswith(made) and "NAME" not in path:
                assert (ROOT / path).exists(), f"{page.name}: {path}"


def test_the_readme_has_at_most_a_thousand_words():
    assert len((ROOT / "README.md").read_text(encoding="utf-8").split()) <= 1000


@pytest.mark.slow
def test_the_site_builds_without_a_warning(tmp_path):
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", str(tmp_path)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "api" / "training" / "index.html").stat().st_size > 10_000


def test_the_readmes_metrics_are_those_of_the_demos_run():
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    for task, spec in load_params(ROOT / "params.yaml").tasks.items():
        metrics = json.loads((ROOT / TaskPaths(task).summary).read_text())[task]
        metric = next(one for one in MONITORED[spec.problem] if one.name in metrics)
        [row] = re.findall(rf"^\| `{task}` \|.*$", readme, flags=re.MULTILINE)
        assert f"{metric.name} {metrics[metric.name]:.{metric.digits}f} after" in row
