"""A stage fails if what it has read changes before it ends: DVC would record what is there by then."""

import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from dvc.lock import make_lock
from helpers import clean_environment, end_of, start_process, user_error, wait_until

from pose.io.dvc_stage import require_dependency

STAGE = """
import time
from pathlib import Path
from pose.io.command import run_stage
def main():
    Path("started").touch()
    while not Path("go").exists():
        time.sleep(0.01)
    Path("out").write_text("done")
run_stage(main)
"""
DVC_YAML = """
stages:
  work:
    cmd: "{python} stage.py"
    deps: [data, one.txt]
    params: [lr, task.batch]
    outs: [out]
"""


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A DVC repository with one stage, which waits for the file `go`."""
    (tmp_path / "data/inner").mkdir(parents=True)
    for name in ("one.txt", "data/two.txt", "data/inner/three.txt"):
        (tmp_path / name).write_text(name)
    (tmp_path / "params.yaml").write_text("lr: 0.1\nother: 1\ntask: {batch: 4, name: a}\n")
    (tmp_path / "stage.py").write_text(STAGE)
    (tmp_path / "dvc.yaml").write_text(DVC_YAML.format(python=sys.executable))
    init = [sys.executable, "-m", "dvc", "init", "-q", "--no-scm"]
    subprocess.run(init, cwd=tmp_path, env=clean_environment(), check=True)
    return tmp_path


def edit(name: str, old: str, new: str) -> Callable[[Path], object]:
    return lambda folder: (folder / name).write_text((folder / name).read_text().replace(old, new))


CHANGES: dict[str, tuple[Callable[[Path], object], str]] = {
    "a parameter": (
        edit("params.yaml", "0.1", "0.2"),
        "params.yaml: lr was 0.1, is 0.2: edited while work ran",
    ),
    "a nested parameter": (
        edit("params.yaml", "batch: 4", "batch: 5"),
        "params.yaml: task.batch was 4, is 5",
    ),
    "a file": (edit("one.txt", "one", "two"), "one.txt has changed: edited while work ran"),
    "a file in a folder": (edit("data/inner/three.txt", "three", "four"), "data/inner/three.txt has changed"),
    "a new file": (lambda folder: (folder / "data/new.txt").touch(), "data/new.txt has changed"),
    "a file that is gone": (lambda folder: (folder / "data/two.txt").unlink(), "data/two.txt has changed"),
    "what the stage does not read": (edit("params.yaml", "other: 1", "other: 2"), ""),
}


@pytest.mark.slow
def test_a_stage_that_begins_while_dvc_writes_its_lock_file_waits(project):
    temp = project / ".dvc/tmp"
    temp.mkdir(exist_ok=True)
    environment = clean_environment() | {"DVC_STAGE": "work", "DVC_ROOT": str(project)}
    with make_lock(str(temp / "lock"), str(temp)):
        (project / "dvc.lock").touch()
        process = subprocess.Popen([sys.executable, "stage.py"], cwd=project, env=environment)
        time.sleep(8)  # DVC itself would give up after five seconds
        assert process.poll() is None
        assert not (project / "started").exists()
        (project / "dvc.lock").unlink()
    (project / "go").touch()
    assert process.wait(300) == 0


@pytest.mark.slow
@pytest.mark.parametrize("change", CHANGES)
def test_what_changes_while_a_stage_runs_fails_it_and_is_named(project, change):
    action, message = CHANGES[change]
    dvc = start_process("dvc", "repro", folder=project)
    wait_until((project / "started").exists)
    action(project)
    (project / "go").touch()
    status, _, err = end_of(dvc)
    lock = project / "dvc.lock"
    if not message:
        assert (status, "work" in lock.read_text()) == (0, True)
        return
    assert status != 0
    [line] = [line for line in err.splitlines() if line.startswith("error: ")]
    assert line.startswith(f"error: {message}")
    assert not lock.exists() or "work" not in lock.read_text()
    status, _, err = end_of(start_process("dvc", "repro", folder=project))
    assert status == 0 or "gone" in change, err


def test_a_file_that_a_parameter_names_must_be_a_dependency_of_the_stage(project, monkeypatch):
    monkeypatch.chdir(project)
    require_dependency("models/a.pt", "tasks.a.init.weights", "init")  # outside of DVC
    monkeypatch.setenv("DVC_STAGE", "work")
    for path in ("one.txt", "data/inner/three.txt", project / "data/two.txt"):
        require_dependency(path, "tasks.a.init.weights", "init")
    expected = "found models/a.pt, expected a dependency of work; write `init: models/a.pt` into its entry in"
    with user_error(f"^tasks.a.init.weights: {expected} dvc.yaml$"):
        require_dependency("models/a.pt", "tasks.a.init.weights", "init")


def test_outside_dvc_nothing_is_compared(tmp_path):
    (tmp_path / "stage.py").write_text(STAGE)
    (tmp_path / "go").touch()
    status, _, err = end_of(start_process("stage", folder=tmp_path))
    assert (status, err) == (0, "")
