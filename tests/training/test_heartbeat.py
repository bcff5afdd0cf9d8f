"""A process that waits for another one that shows no sign of life ends, and says for whom it waited."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from datetime import timedelta

import pytest
from helpers import ROOT, free_port, run_python
from torch.distributed import PrefixStore, TCPStore

SECONDS = 5
# Process 1 of 2, whose main thread waits, as in a collective call.
WAITING = f"""
import logging, time
from pose.io.command import configure_logging
from pose.training.heartbeat import Heartbeat
configure_logging()
heartbeat = Heartbeat(1, 2, group='0 0', seconds={SECONDS}, status=75)
time.sleep(100)
"""


@pytest.fixture
def waiting() -> Iterator[tuple[subprocess.Popen[str], PrefixStore]]:
    """Process 1, and the store in which this one is process 0."""
    port = free_port()
    server = TCPStore("127.0.0.1", port, is_master=True, timeout=timedelta(seconds=30))
    store = PrefixStore("heartbeat 0 0", server)
    store.set("0", "0")
    place = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "PYTHONPATH": str(ROOT)}
    environment = os.environ | place | {"TORCH_CPP_LOG_LEVEL": "ERROR"}
    command = [sys.executable, "-c", WAITING]
    process = subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, text=True)
    try:
        store.get("1")  # waits until it has joined
        yield process, store
    finally:
        process.kill()


@pytest.mark.slow
def test_a_silent_process_is_named_by_the_one_that_waits_for_it_and_ends(waiting):
    process, _ = waiting
    _, err = process.communicate(timeout=60)
    assert process.returncode == 75
    assert err == f"process 0 was silent for {SECONDS} s (train.timeout): ending; the same command resumes\n"


@pytest.mark.slow
def test_a_process_that_was_suspended_itself_does_not_take_the_others_for_dead(waiting):
    process, store = waiting
    process.send_signal(signal.SIGSTOP)
    time.sleep(SECONDS + 2)
    process.send_signal(signal.SIGCONT)
    for beat in range(2 * SECONDS):
        store.set("0", str(beat + 1))
        time.sleep(0.5)
    assert process.poll() is None


@pytest.mark.slow
def test_a_process_that_is_done_is_not_waited_for(waiting):
    process, store = waiting
    store.set("0", "left")
    time.sleep(SECONDS + 3)
    assert process.poll() is None


@pytest.mark.slow
def test_a_process_that_leaves_says_so(waiting):
    _, store = waiting
    place = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(store.underlying_store.port)}
    made = "Heartbeat(0, 2, group='0 0', seconds=5, status=75)"
    code = f"from pose.training.heartbeat import Heartbeat; {made}.leave()"
    assert run_python(code, **place).returncode == 0
    assert store.get("0") == b"left"
