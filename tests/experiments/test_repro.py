"""Stages that do not depend on each other run at a time, and end together; DVC's broken lock. Real DVC."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from helpers import clean_environment, end_of, only_error, start_process, user_error, wait_until, with_values
from ruamel.yaml import YAML

from pose.experiments.repro import default_jobs
from pose.experiments.repro import repro as run_repro
from pose.experiments.repro.broken_lock import dvc_temp_folder, remove_broken_lock

# Writes its file when the other stage has begun: that of two which run at a time.
MEET = """\
touch began-$1
for turn in $(seq 600); do
  if [ -e began-$2 ]; then echo $1 > $1; exit 0; fi
  sleep 0.1
done
exit 1
"""


def dvc(folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "dvc", *words]
    return subprocess.run(command, cwd=folder, env=clean_environment(), capture_output=True, text=True)


def stage(name: str, cmd: str, *deps: str) -> dict[str, Any]:
    return {name: {"cmd": cmd, "deps": [*deps], "outs": [name]}}


PIPELINE = {
    **stage("first", "echo 1 > first"),
    **stage("left", "sh meet.sh left right", "first"),
    **stage("right", "sh meet.sh right left", "first"),
    **stage("last", "cat left right > last", "left", "right"),
}


def repository(folder: Path, stages: Mapping[str, Any]) -> Path:
    assert dvc(folder, "init", "--quiet", "--no-scm").returncode == 0
    with (folder / "dvc.yaml").open("w") as file:
        YAML().dump({"stages": dict(stages)}, file)
    (folder / "meet.sh").write_text(MEET)
    return folder


def repro(folder: Path, *words: str) -> subprocess.Popen:
    return start_process("pose.cli", "repro", *words, folder=folder)


@pytest.mark.slow
def test_two_stages_run_at_a_time_each_after_what_it_depends_on_and_once(tmp_path):
    folder = repository(tmp_path, PIPELINE)
    status, out, err = end_of(repro(folder, "--jobs=2"))
    assert status == 0, out + err
    assert (folder / "last").read_text() == "left\nright\n"
    assert "left  | > sh meet.sh left right" in out
    assert out.endswith(": first, last, left, right\n")
    assert "up to date" in dvc(folder, "status").stdout
    _, again, _ = end_of(repro(folder, "left", "--jobs=1"))
    assert "left  | Stage 'left' didn't change, skipping" in again
    assert again.endswith(": first, left\n")
    assert "Data and pipelines are up to date" not in again


@pytest.mark.slow
def test_after_a_stage_that_fails_the_others_that_run_are_waited_for_and_no_more_begin(tmp_path):
    pipeline = PIPELINE | stage("left", "sh meet.sh left right; false", "first")
    folder = repository(tmp_path, pipeline)
    result = end_of(repro(folder, "--jobs=2"))
    assert only_error(result) == "error: left: failed, see its lines above; not begun: last"
    assert (folder / "right").read_text() == "right\n"
    assert not (folder / "last").exists()
    assert "last" not in result[1]


def ended(folder: Path) -> bool:
    """Whether the process of a stage is over that wrote its id into the file `pid`."""
    try:
        os.kill(int((folder / "pid").read_text()), 0)
    except ProcessLookupError:
        return True
    return False


@contextmanager
def signals_of_a_terminal(ctrl_c: Any = signal.default_int_handler) -> Iterator[None]:
    """Where the tests run Ctrl-C and SIGHUP may be ignored, and children inherit that."""
    before = {signal.SIGINT: signal.signal(signal.SIGINT, ctrl_c)}
    before[signal.SIGHUP] = signal.signal(signal.SIGHUP, signal.SIG_DFL)
    try:
        yield
    finally:
        for one, handler in before.items():
            signal.signal(one, handler)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("number", "ctrl_c"),
    [
        (signal.SIGINT, signal.default_int_handler),
        (signal.SIGHUP, signal.default_int_handler),
        (signal.SIGTERM, signal.SIG_IGN),
    ],
    ids=["Ctrl-C", "SIGHUP", "SIGTERM in the background"],
)
def test_a_signal_ends_what_runs(tmp_path, number, ctrl_c):
    folder = repository(tmp_path, stage("long", "echo $$ > pid; touch began; exec sleep 600 > long"))
    with signals_of_a_terminal(ctrl_c):
        process = repro(folder, "--jobs=1")
    wait_until((folder / "began").exists)
    process.send_signal(number)
    status, _, err = end_of(process)
    assert status == 130
    assert "Traceback" not in err
    assert ended(folder)


# Takes its time to save at Ctrl-C, as a training does, speaks all the while, and writes how many it heard.
SAVES = """\
import signal, sys, time
from pathlib import Path
heard = []
signal.signal(signal.SIGINT, lambda *_: heard.append(1))
Path("began-" + sys.argv[1]).touch()
while not heard:
    print("line", flush=True)
    time.sleep(0.1)
for _ in range(20):
    print("saving", flush=True)
    time.sleep(0.1)
Path("saved-" + sys.argv[1]).write_text(str(len(heard)))
sys.exit(1)
"""


@pytest.mark.slow
@pytest.mark.parametrize("way", ["terminal", "pipe"])
def test_what_runs_is_ended_once_and_waited_for_where_nobody_reads_its_lines(tmp_path, way):
    names = "left", "right"
    pipeline = stage("left", "python saves.py left") | stage("right", "python saves.py right")
    folder = repository(tmp_path, pipeline)
    (folder / "saves.py").write_text(SAVES)
    read_end, write_end = os.openpty() if way == "terminal" else os.pipe()
    with signals_of_a_terminal():
        process = subprocess.Popen(
            [sys.executable, "-m", "pose.cli", "repro", "--jobs=2"],
            cwd=folder,
            env=clean_environment(),
            stdout=write_end,
            stderr=write_end,
            preexec_fn=partial(os.login_tty, write_end) if way == "terminal" else None,
        )
    os.close(write_end)
    wait_until(lambda: all((folder / f"began-{name}").exists() for name in names))
    os.close(read_end)  # of a terminal: the kernel sends SIGHUP
    assert process.wait(300)
    assert [(folder / f"saved-{name}").read_text() for name in names] == ["1", "1"]


@pytest.mark.slow
def test_what_ignores_ctrl_c_is_killed_at_the_third(tmp_path):
    folder = repository(tmp_path, stage("long", "trap '' INT; echo $$ > pid; touch began; exec sleep 600"))
    with signals_of_a_terminal():
        process = repro(folder, "--jobs=1")
    wait_until((folder / "began").exists)
    for _ in range(2):
        process.send_signal(signal.SIGINT)
        time.sleep(1)
        assert process.poll() is None
        assert not ended(folder)
    process.send_signal(signal.SIGINT)
    assert end_of(process)[0] == 130
    wait_until(lambda: ended(folder))  # whoever adopts it has to ask how it ended


WATCHES = """\
import os, time
from pathlib import Path
from pose.training.lock import end_with_parent
end_with_parent(poll=0.05)
Path("pid").write_text(str(os.getpid()))
Path("began").touch()
time.sleep(600)
"""


@pytest.mark.slow
def test_a_training_ends_with_a_pose_repro_that_is_killed(tmp_path):
    folder = repository(tmp_path, stage("long", "exec python watches.py"))
    (folder / "watches.py").write_text(WATCHES)
    process = repro(folder, "--jobs=1")
    wait_until((folder / "began").exists)
    process.kill()
    wait_until(lambda: ended(folder))


@pytest.mark.slow
def test_what_a_stage_leaves_in_the_background_is_not_waited_for(tmp_path):
    cmd = "sh -c 'echo $$ > pid; exec sleep 600' & while [ ! -s pid ]; do sleep 0.1; done; echo 1 > one"
    folder = repository(tmp_path, stage("one", cmd))
    status, out, err = end_of(repro(folder, "--jobs=1"))
    assert status == 0, out + err
    assert not ended(folder)


@pytest.mark.slow
def test_tracked_files_are_as_dvc_repro_leaves_them(tmp_path):
    folder = repository(tmp_path, stage("one", "echo 1 > one"))
    (folder / "notes").write_text("first")
    assert dvc(folder, "add", "notes").returncode == 0
    before = (folder / "notes.dvc").read_text()
    (folder / "notes").write_text("second")
    _, out, _ = end_of(repro(folder, "--jobs=1"))
    assert out.endswith(": one\n")
    assert (folder / "notes.dvc").read_text() == before


@pytest.mark.slow
def test_a_full_disk_under_its_lines_is_one_line_and_ends_what_runs(tmp_path):
    folder = repository(tmp_path, stage("long", "exec sleep 600"))
    with Path("/dev/full").open("w") as full, signals_of_a_terminal():
        process = subprocess.Popen(
            [sys.executable, "-m", "pose.cli", "repro", "--jobs=1"],
            cwd=folder,
            env=clean_environment(),
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
        )
    assert "standard output: cannot be written to (No space left" in only_error(end_of(process))


def test_a_dvc_that_cannot_be_started_is_one_line(tmp_path, monkeypatch):
    monkeypatch.chdir(repository(tmp_path, stage("one", "echo 1 > one")))
    monkeypatch.setattr(sys, "executable", str(tmp_path / "none"))
    with user_error("dvc: cannot be started"):
        run_repro(["one"], jobs=1)


def test_an_unknown_stage_is_one_line(tmp_path):
    folder = repository(tmp_path, stage("first", "echo 1 > first"))
    assert "second" in only_error(end_of(repro(folder, "second", "--jobs=1")))


def test_as_many_stages_run_as_there_are_cores_for(params, monkeypatch):
    monkeypatch.setattr("pose.experiments.repro.cores", lambda: 8)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert default_jobs(with_values(params, {"train.processes": 2, "train.threads": 2})) == 2
    assert default_jobs(with_values(params, {"train.processes": "auto", "train.threads": 16})) == 1
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert default_jobs(params) == 1


@pytest.mark.slow
@pytest.mark.parametrize("content", ["", '{"write": {"/a', '{"other": 1}'])
def test_a_broken_lock_file_stops_dvc_but_not_pose_repro(tmp_path, content):
    folder = repository(tmp_path, stage("one", "echo 1 > one"))
    path = dvc_temp_folder(Path()) / "rwlock"
    (folder / path.parent).mkdir(exist_ok=True)
    (folder / path).write_text(content)
    failed = dvc(folder, "repro")
    assert failed.returncode != 0
    assert "rwlock" in failed.stderr
    status, out, err = end_of(repro(folder, "--jobs=1"))
    assert status == 0, err
    assert f"{path}: removed: a DVC that was killed had left it unreadable" in out


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
