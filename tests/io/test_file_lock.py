"""Locks on files end with the process that took them."""

import os
import signal
import subprocess
import sys
import time

import pytest
from helpers import ROOT, wait_until

from pose.io.file_lock import FileLock, LockedError

# Takes the lock, forks a process that outlives it, and says so.
HOLDER = """
import os, time
from pose.io.file_lock import FileLock
lock = FileLock("lock")
if os.fork() == 0:
    open("forked", "w").close()
time.sleep(60)
"""


def test_a_lock_is_waited_for_until_a_deadline_and_its_holder_is_named(tmp_path):
    with FileLock(tmp_path / "lock"):
        started = time.monotonic()
        with pytest.raises(LockedError, match=f"lock is locked by process {os.getpid()}$"):
            FileLock(tmp_path / "lock", seconds=0.2)
        assert time.monotonic() - started >= 0.2
    FileLock(tmp_path / "lock").release()


def test_a_forked_process_does_not_keep_the_lock_of_one_that_was_killed(tmp_path):
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    group = {"start_new_session": True, "cwd": tmp_path, "env": environment}
    holder = subprocess.Popen([sys.executable, "-c", HOLDER], **group)
    try:
        wait_until((tmp_path / "forked").exists)
        with pytest.raises(LockedError, match=f"process {holder.pid}$"):
            FileLock(tmp_path / "lock")
        holder.kill()
        holder.wait()
        FileLock(tmp_path / "lock").release()
    finally:
        os.killpg(holder.pid, signal.SIGKILL)
