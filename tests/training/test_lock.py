"""One writer per folder; no trainer outlives the make or dvc that started it. Real processes and signals."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
from helpers import ROOT, user_error, wait_until

from pose.training.lock import lock_folder

# Stands for a trainer: writes its id and the processes that it would end with, then works for two minutes.
TRAINER = """
import json, os, psutil, signal, sys, time
from pathlib import Path
from pose.training.lock import end_with_parent
if "stubborn" in sys.argv:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
parents = end_with_parent(direct="direct" in sys.argv, poll=0.05, grace=0.5)
Path("started.tmp").write_text(json.dumps([os.getpid(), parents]))
os.replace("started.tmp", "started")
time.sleep(120)
"""


# Starts a trainer, as torchrun does, and passes on what it is told when make has ended.
LAUNCHER = """
import signal, subprocess, sys
from pose.training.lock import end_with_parent
child = subprocess.Popen([sys.executable, "trainer.py", "direct"])
signal.signal(signal.SIGTERM, lambda number, frame: child.send_signal(number))
end_with_parent(poll=0.05)
child.wait()
"""
# The trainer then takes a while to save, and counts what reaches it meanwhile.
SAVING = """
import signal, threading
from pathlib import Path
asked = threading.Event()
def note(*_):
    with Path("signals").open("a") as file:
        file.write("x")
    asked.set()
signal.signal(signal.SIGTERM, note)
"""


@pytest.fixture
def workshop(tmp_path: Path) -> Iterator[Path]:
    """A folder with a trainer in it; whatever still runs there afterwards is ended."""
    (tmp_path / "trainer.py").write_text(TRAINER)
    yield tmp_path
    for process in psutil.process_iter():
        try:
            if process.cwd() == str(tmp_path):
                process.kill()
        except psutil.Error:
            continue


def start(*command: str, folder: Path) -> subprocess.Popen[bytes]:
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    environment = os.environ | {"PATH": path, "PYTHONPATH": str(ROOT), "SHELL": "/bin/sh"}
    environment["DVC_NO_ANALYTICS"] = "true"
    silent = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    return subprocess.Popen(command, cwd=folder, env=environment, **silent)


def trainer(folder: Path) -> tuple[psutil.Process, list[int]]:
    """The trainer once it has started, and the processes that it would end with."""
    wait_until((folder / "started").exists)
    pid, parents = json.loads((folder / "started").read_text())
    return psutil.Process(pid), parents


def is_below_this_one(process: psutil.Process) -> bool:
    try:
        return os.getpid() in {parent.pid for parent in process.parents()}
    except psutil.NoSuchProcess:  # a parent that ends now
        return True


def has_ended(process: psutil.Process) -> bool:
    try:
        return not process.is_running() or process.status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:  # between the two
        return True


def test_a_second_writer_is_refused_by_name_of_folder_and_holder_until_the_first_has_left(tmp_path):
    with lock_folder(tmp_path / "models"):
        holder = rf"{tmp_path}/models: process {os.getpid()} is writing there"
        with user_error(holder):
            lock_folder(tmp_path / "models")
    with lock_folder(tmp_path / "models"):
        pass
    (tmp_path / "file").write_text("")
    with user_error("file: cannot be written to"):
        lock_folder(tmp_path / "file")


@pytest.mark.parametrize(
    ("kind", "waited_for"), [("obedient", True), ("stubborn", True), ("obedient", False), ("direct", True)]
)
def test_a_trainer_ends_when_make_is_killed(workshop, kind, waited_for):
    (workshop / "Makefile").write_text(f"repro:\n\t@sh -c 'python trainer.py {kind}; true'\n")
    make = start("make", "repro", folder=workshop)
    process, parents = trainer(workshop)
    assert make.pid in parents
    make.kill()
    if waited_for:  # else a zombie
        make.wait()
    wait_until(lambda: has_ended(process))
    make.wait()


def test_a_trainer_without_make_or_dvc_above_it_keeps_running(workshop):
    # The shell leaves its child behind, in a session of its own: nothing of `make test` is above it then.
    start("setsid", "sh", "-c", "sh -c 'python trainer.py &'", folder=workshop).wait()
    process, parents = trainer(workshop)
    wait_until(lambda: not is_below_this_one(process))
    assert not set(parents) - {parent.pid for parent in psutil.Process().parents()}
    time.sleep(0.3)
    assert not has_ended(process)


def test_a_trainer_ends_with_whatever_started_it_if_asked_to(workshop):
    launcher = start("sh", "-c", "python trainer.py direct; true", folder=workshop)
    process, parents = trainer(workshop)
    assert launcher.pid in parents
    launcher.kill()
    launcher.wait()
    wait_until(lambda: has_ended(process))


def test_a_trainer_whose_launcher_ends_with_make_too_is_asked_to_end_once(workshop):
    """A second SIGTERM would interrupt the saving of its checkpoint."""
    saving = TRAINER.replace("time.sleep(120)", "asked.wait(120); time.sleep(0.4)")
    (workshop / "trainer.py").write_text(SAVING + saving)
    (workshop / "launcher.py").write_text(LAUNCHER)
    (workshop / "Makefile").write_text("repro:\n\t@sh -c 'python launcher.py; true'\n")
    make = start("make", "repro", folder=workshop)
    process, _ = trainer(workshop)
    make.kill()
    make.wait()
    wait_until(lambda: has_ended(process))
    assert (workshop / "signals").read_text() == "x"


@pytest.mark.slow
def test_a_trainer_ends_when_dvc_is_killed(workshop):
    (workshop / "dvc.yaml").write_text("stages:\n  train:\n    cmd: python trainer.py\n")
    assert start("dvc", "init", "-q", "--no-scm", folder=workshop).wait() == 0
    dvc = start("dvc", "repro", folder=workshop)
    process, parents = trainer(workshop)
    assert dvc.pid in parents
    dvc.send_signal(signal.SIGKILL)
    dvc.wait()
    wait_until(lambda: has_ended(process))
