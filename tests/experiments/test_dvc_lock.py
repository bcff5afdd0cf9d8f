"""A lock file that a killed DVC left broken is removed, and only such a one. Real DVC."""

import subprocess
import sys
from pathlib import Path

import pytest
from helpers import clean_environment, user_error

from pose.experiments.repro import dvc_temp_folder, remove_broken_lock


def dvc(folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "dvc", *words]
    return subprocess.run(command, cwd=folder, env=clean_environment(), capture_output=True, text=True)


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    assert dvc(tmp_path, "init", "-q", "--no-scm").returncode == 0
    (tmp_path / "dvc.yaml").write_text("stages:\n  one:\n    cmd: echo 1 > out\n    outs: [out]\n")
    return tmp_path


@pytest.mark.slow
@pytest.mark.parametrize("content", ["", '{"write": {"/a', '{"other": 1}'])
def test_a_broken_lock_file_stops_dvc_until_it_is_removed(repository, content):
    path = dvc_temp_folder(repository) / "rwlock"
    path.parent.mkdir(exist_ok=True)
    path.write_text(content)
    failed = dvc(repository, "repro")
    assert failed.returncode != 0
    assert "rwlock" in failed.stderr
    assert remove_broken_lock(repository) == f"{path}: removed: a DVC that was killed had left it unreadable"
    assert dvc(repository, "repro").returncode == 0


def test_a_lock_file_that_dvc_can_read_stays_and_so_does_a_missing_one(tmp_path):
    assert remove_broken_lock(tmp_path) == ""
    path = dvc_temp_folder(tmp_path) / "rwlock"
    path.parent.mkdir(parents=True)
    path.write_text('{"write": {"/out": {"pid": 1, "cmd": "dvc repro"}}}')
    assert remove_broken_lock(tmp_path) == ""
    assert path.exists()


def test_a_broken_lock_file_stays_while_another_dvc_runs(tmp_path):
    from dvc.lock import make_lock

    path = dvc_temp_folder(tmp_path) / "rwlock"
    path.parent.mkdir(parents=True)
    path.touch()
    another = make_lock(str(path.with_name("lock")), str(path.parent))
    with another, user_error("found no JSON while another DVC runs here"):
        remove_broken_lock(tmp_path)
    assert path.exists()
