"""One writer per folder; no trainer outlives the make or dvc that it runs under.

With real processes, really killed.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest
from helpers import ROOT

from pose.io.errors import UserError
from pose.training.lock import FolderLock

BIN = Path(sys.executable).parent
# Stands for a trainer: says who it is and what it watches, then works until it is told to end.
TRAINER = """
import json, os, psutil, signal, sys, time
from pathlib import Path
from pose.training.lock import end_with_parent
if "stubborn" in sys.argv:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
watched = end_with_parent(direct="direct" in sys.argv, every=0.05, grace=0.5)
started = Path(os.environ.get("DVC_ROOT", "."), "started")
Path("started.tmp").write_text(json.dumps([os.getpid(), {pid: " ".join(psutil.Process(pid).cmdline()) for pid in watched}]))
os.replace("started.tmp", started)
time.sleep(float(Path("seconds").read_text()))
"""


@pytest.fixture
def workshop(tmp_path: Path) -> Iterator[Path]:
    """A folder with a trainer in it; whatever still runs there afterwards is ended."""
    (tmp_path / "trainer.py").write_text(TRAINER)
    (tmp_path / "seconds").write_text("120")
    yield tmp_path
    for process in psutil.process_iter():
        try:
            if process.cwd() == str(tmp_path):
                process.kill()
        except psutil.Error:
            continue


def environment() -> dict[str, str]:
    git = {
        f"GIT_{who}_{what}": "test@example.org"
        for who in ("AUTHOR", "COMMITTER")
        for what in ("NAME", "EMAIL")
    }
    return (
        os.environ
        | git
        | {"PATH": f"{BIN}:{os.environ['PATH']}", "PYTHONPATH": str(ROOT), "SHELL": "/bin/sh"}
    )


def start(*command: str, folder: Path) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        command, cwd=folder, env=environment(), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )


def eventually(true: Callable[[], bool], seconds: float = 120) -> bool:
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        if true():
            return True
        time.sleep(0.02)
    return False


def trainer(folder: Path) -> tuple[psutil.Process, dict[int, str]]:
    """The trainer once it has started, and the processes that it watches with their commands."""
    assert eventually((folder / "started").exists)
    pid, watched = json.loads((folder / "started").read_text())
    return psutil.Process(pid), {int(number): command for number, command in watched.items()}


def ended(process: psutil.Process) -> bool:
    return not process.is_running() or process.status() == psutil.STATUS_ZOMBIE


def test_a_second_writer_is_refused_by_name_of_folder_and_holder(tmp_path):
    with (
        FolderLock(tmp_path / "models"),
        pytest.raises(UserError, match=rf"{tmp_path}/models: process {os.getpid()} is writing there"),
    ):
        FolderLock(tmp_path / "models")


def test_a_folder_is_free_again_after_the_writer_left(tmp_path):
    with FolderLock(tmp_path):
        pass
    with FolderLock(tmp_path):
        pass


def test_the_lock_of_a_killed_writer_is_gone(workshop):
    hold = "import time; from pose.training.lock import FolderLock; lock = FolderLock('out'); open('started', 'w'); time.sleep(60)"
    writer = start(sys.executable, "-c", hold, folder=workshop)
    assert eventually((workshop / "started").exists)
    with pytest.raises(UserError, match=f"process {writer.pid} "):
        FolderLock(workshop / "out")
    writer.send_signal(signal.SIGKILL)
    writer.wait()
    FolderLock(workshop / "out").release()


def test_a_folder_that_cannot_be_made_is_named(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="file: cannot be written to"):
        FolderLock(tmp_path / "file")


@pytest.mark.parametrize("kind", ["obedient", "stubborn"])
def test_a_trainer_ends_when_make_is_killed(workshop, kind):
    (workshop / "Makefile").write_text(f"repro:\n\t@sh -c 'python trainer.py {kind}; true'\n")
    make = start("make", "repro", folder=workshop)
    process, watched = trainer(workshop)
    assert make.pid in watched
    make.send_signal(signal.SIGKILL)
    make.wait()
    assert eventually(lambda: ended(process))


def test_a_trainer_ends_when_a_killed_make_is_left_as_a_zombie(workshop):
    (workshop / "Makefile").write_text("repro:\n\t@python trainer.py\n")
    make = start("make", "repro", folder=workshop)
    process, _ = trainer(workshop)
    make.send_signal(signal.SIGKILL)
    assert eventually(lambda: ended(process))  # nobody has waited for make yet
    make.wait()


def test_a_trainer_without_make_or_dvc_above_it_goes_on(workshop):
    # A shell that leaves its child behind, in a session of its own: nothing of `make test` stands above it
    # then.
    start("setsid", "sh", "-c", "sh -c 'python trainer.py &'", folder=workshop).wait()
    process, watched = trainer(workshop)
    assert eventually(lambda: not {parent.pid for parent in process.parents()} & {os.getpid()})
    assert not watched.keys() - {parent.pid for parent in psutil.Process().parents()}
    time.sleep(0.3)
    assert not ended(process)


def test_a_trainer_ends_with_whatever_started_it_if_asked_to(workshop):
    launcher = start("sh", "-c", "python trainer.py direct; true", folder=workshop)
    process, watched = trainer(workshop)
    assert launcher.pid in watched
    launcher.send_signal(signal.SIGKILL)
    launcher.wait()
    assert eventually(lambda: ended(process))


@pytest.mark.slow
def test_a_trainer_ends_when_dvc_is_killed(workshop):
    repository(workshop)
    dvc = start("dvc", "repro", folder=workshop)
    process, watched = trainer(workshop)
    assert dvc.pid in watched
    dvc.send_signal(signal.SIGKILL)
    dvc.wait()
    assert eventually(lambda: ended(process))


@pytest.mark.slow
def test_a_queued_experiment_does_not_depend_on_the_command_that_started_the_queue(workshop):
    (workshop / "seconds").write_text("2")
    repository(workshop)
    (workshop / "Makefile").write_text(
        "queue:\n\tdvc exp run --queue -S lr=2 && dvc queue start && sleep 1\n"
    )
    assert start("make", "queue", folder=workshop).wait() == 0
    process, watched = trainer(workshop)
    assert any("exec-run" in command for command in watched.values())
    assert not [
        command for command in watched.values() if "queue start" in command or "make queue" in command
    ]
    assert eventually(lambda: ended(process))
    status = ["dvc", "queue", "status"]
    assert eventually(
        lambda: (
            b"Success"
            in subprocess.run(status, cwd=workshop, capture_output=True, env=environment(), check=True).stdout
        )
    )


def repository(folder: Path) -> None:
    """A DVC project whose one stage is the trainer."""
    (folder / "dvc.yaml").write_text("stages:\n  train:\n    cmd: python trainer.py\n    params: [lr]\n")
    (folder / "params.yaml").write_text("lr: 1\n")
    for command in (
        "git init -q",
        "dvc init -q",
        "dvc config core.analytics false",
        "git add -A",
        "git commit -qm project",
    ):
        assert start(*command.split(), folder=folder).wait() == 0, command
