"""The order of samples, loading ahead, and loader workers that die."""

import os
import queue
import signal
import subprocess
import sys
import time
import traceback
from collections.abc import Iterator
from contextlib import suppress

import cv2
import numpy as np
import psutil
import pytest
import torch
from helpers import ROOT, user_error, wait_until
from torch.utils.data import Dataset

from pose.data import loader as loader_module
from pose.data.batch import Batch
from pose.data.image_set import ImageSet
from pose.data.loader import Loader, ResumableBatchSampler, raise_on_dead_worker, sequential_batches
from pose.data.multi_samples import ImageDataset
from pose.data.person_set import PersonSet
from pose.data.samples import SampleDataset
from pose.data.single_samples import PersonDataset
from pose.io.errors import UserError
from pose.params import Params


def test_starting_in_the_middle_gives_the_rest_of_the_same_order():
    all_batches = list(ResumableBatchSampler(10, 3, seed=1, start=0, stop=9))
    assert list(ResumableBatchSampler(10, 3, seed=1, start=4, stop=9)) == all_batches[4:]
    assert len({position for batch in all_batches[:3] for _, position in batch}) == 9  # nobody twice an epoch
    assert all_batches[:3] != all_batches[3:6]


def test_processes_share_every_batch_without_overlap():
    def batches(**options: int) -> list:
        return list(ResumableBatchSampler(10, 4, seed=1, start=0, stop=5, **options))

    shares = zip(batches(rank=0, ranks=2), batches(rank=1, ranks=2), strict=True)
    assert [sorted(first + second) for first, second in shares] == [sorted(batch) for batch in batches()]


def test_workers_of_a_program_that_uses_opencvs_threads_are_not_stuck(dataset):
    cv2.setNumThreads(4)
    cv2.warpAffine(np.zeros((3000, 3000, 3), np.uint8), np.eye(2, 3), (3000, 3000))  # the threads begin here
    assert len(list(Loader(dataset, sequential_batches(8, 4), workers=1, timeout=30))) == 2
    assert cv2.getNumThreads() == 4


def test_sequential_batches_have_everyone_once():
    assert [key for batch in sequential_batches(7, 3) for key in batch] == [(0, k) for k in range(7)]


@pytest.fixture(params=["single", "multi"])
def dataset(request: pytest.FixtureRequest, people: PersonSet, params: Params) -> SampleDataset:
    if request.param == "single":
        return PersonDataset(people, people.rows("train"), params.single, seed=1)
    images = ImageSet(request.getfixturevalue("prepared_coco"))
    return ImageDataset(images, images.rows("train"), params.multi, seed=1)


def tensors(batch: Batch) -> list[torch.Tensor]:
    found: list[torch.Tensor] = []
    batch.map(lambda tensor: found.append(tensor) or tensor)
    return found


def test_workers_do_not_change_what_is_loaded(dataset):
    batches = ResumableBatchSampler(len(dataset), 4, seed=1, start=0, stop=6)
    alone, shared = (list(Loader(dataset, batches, workers=workers)) for workers in (0, 2))
    assert len(alone) == len(shared) == 6
    for one, other in zip(alone, shared, strict=True):
        assert all(torch.equal(*pair) for pair in zip(tensors(one), tensors(other), strict=True))


class Tensors(Dataset):
    """Batches come at once; key 13 is the one that cannot be read."""

    def __getitems__(self, keys: list) -> list:
        if keys[0][1] == 13:
            raise UserError("file: found 13, expected another number")
        return [torch.zeros(3, 5000), torch.ones(3)]


@pytest.mark.parametrize("workers", [0, 1])
def test_an_error_of_the_data_is_raised_as_it_is(workers):
    batches = Loader(Tensors(), [[(0, 1)], [(0, 13)]], workers=workers)
    with user_error(r"^file: found 13, expected another number"):
        list(batches)


DEAD = r"found a loader worker dead, perhaps out of memory \(train\.workers\)$"


KILLED = RuntimeError("DataLoader worker (pid 7) is killed by signal: Killed. ")
REPORTS = [  # of torch, and how the line begins
    (KILLED, r"DataLoader worker \(pid 7\) is"),
    (RuntimeError("DataLoader worker (pid(s) 7, 8) exited unexpectedly"), r"DataLoader worker \(pid\(s\) 7"),
    (RuntimeError("Pin memory thread exited unexpectedly"), "Pin memory thread exited"),
    (RuntimeError("DataLoader timed out after 5 seconds"), "DataLoader timed out"),
    (ConnectionResetError(104, "Connection reset by peer"), ".* is gone: ConnectionResetError"),
    (BrokenPipeError(32, "Broken pipe"), ".* is gone: BrokenPipeError"),
    (EOFError(), r"DataLoader worker \(pid unknown\) is gone: EOFError"),
    (queue.Empty(), ".* is gone: Empty"),
]


def failing(error: Exception) -> Loader:
    """A loader in whose workers' place something raises this."""

    def batches() -> Iterator[object]:
        raise error
        yield

    loader = Loader(Tensors(), [[(0, 1)]], workers=0)
    loader._loader = batches()
    return loader


@pytest.mark.parametrize(("error", "line"), REPORTS)
def test_a_dead_worker_is_one_line_however_torch_reports_it(monkeypatch, error, line):
    monkeypatch.setattr(loader_module, "SIGNAL_SECONDS", 0.0)
    with user_error(f"^{line}.*: {DEAD}"), raise_on_dead_worker():
        list(failing(error))


@pytest.mark.parametrize(
    "error", [RuntimeError("out of range"), EOFError("Caught EOFError in DataLoader worker process 0.")]
)
def test_other_errors_stay_what_they_are(error):
    with pytest.raises(type(error)) as caught, raise_on_dead_worker():
        list(failing(error))
    assert caught.value is error


def test_what_the_signal_handler_says_a_moment_later_is_what_is_raised(monkeypatch):
    """The wait that it interrupts is the loader's, so that the whole context is still around it."""

    def handler(_: float) -> None:
        assert any(frame.name == "next" for frame in traceback.extract_stack())
        raise KILLED

    monkeypatch.setattr(loader_module.time, "sleep", handler)
    with user_error(r"^DataLoader worker \(pid 7\) is killed"), raise_on_dead_worker():
        list(failing(ConnectionResetError(104, "Connection reset by peer")))


def kill_a_worker(after: int) -> None:
    others = {child.pid for child in psutil.Process().children()}
    for number, _ in enumerate(Loader(Tensors(), sequential_batches(100_000, 1)[14:], workers=2)):
        if number == after:
            pids = {child.pid for child in psutil.Process().children()} - others
            os.kill(max(pids), signal.SIGKILL)


def test_a_worker_killed_at_any_moment_is_one_line(capfd):
    for after in range(0, 24, 3):
        with user_error(rf"^DataLoader worker \(pid.*: {DEAD}"), raise_on_dead_worker():
            kill_a_worker(after)
    assert "Traceback" not in capfd.readouterr().err


def test_a_worker_that_is_stopped_is_killed_after_a_while_and_named(caplog):
    others = {child.pid for child in psutil.Process().children()}

    def steps() -> None:
        for number, _ in enumerate(Loader(Tensors(), sequential_batches(1000, 1)[14:], workers=1, timeout=2)):
            if number == 0:
                [worker] = {child.pid for child in psutil.Process().children()} - others
                os.kill(worker, signal.SIGSTOP)

    with user_error(rf"^DataLoader worker \(pid.*: {DEAD}"), raise_on_dead_worker():
        steps()
    assert caplog.messages == ["no batch in 2 s (train.timeout): killing the loader workers"]
    wait_until(lambda: {child.pid for child in psutil.Process().children()} <= others)


# Takes batches, a second apart, from a worker that has half a second for each.
SLOW_WORKER = """
import logging, time, torch
from pathlib import Path
from pose.data.loader import Loader
logging.basicConfig()
class Slow(torch.utils.data.Dataset):
    def __getitems__(self, keys):
        time.sleep(0.5)
        return keys
for number, _ in enumerate(Loader(Slow(), [[(0, number)] for number in range(8)], workers=1, timeout=2)):
    Path(f"batch {number}").touch()
"""


@pytest.mark.slow
def test_a_process_that_was_suspended_itself_does_not_kill_its_workers(tmp_path):
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-c", SLOW_WORKER]
    pipe = subprocess.PIPE
    process = subprocess.Popen(command, cwd=tmp_path, env=environment, stderr=pipe, start_new_session=True)
    try:
        wait_until((tmp_path / "batch 1").exists)
        os.killpg(process.pid, signal.SIGSTOP)
        time.sleep(4)
        os.killpg(process.pid, signal.SIGCONT)
        assert process.communicate(timeout=60)[1] == b""
        assert process.returncode == 0
    finally:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)


# Loads a batch of 8 MB in a worker where there is shared memory of 1 MB.
SMALL_MEMORY = """
import torch
from pose.data.batch import Inputs
from pose.data.loader import Loader, raise_on_dead_worker
from pose.io.errors import UserError
class Images(torch.utils.data.Dataset):
    def __getitems__(self, keys):
        return Inputs((torch.zeros(8, 512, 512, 4, dtype=torch.uint8),), torch.zeros(8, 2, 3))
try:
    with raise_on_dead_worker():
        list(Loader(Images(), [[(0, 0)]], workers=1))
except UserError as error:
    print(error)
"""


def test_too_little_shared_memory_is_one_line():
    mount = "mount -t tmpfs -o size=1m tmpfs /dev/shm"
    if subprocess.run(["unshare", "-rm", "sh", "-c", mount], capture_output=True).returncode:
        pytest.skip("no small /dev/shm can be made here (unshare, mount)")
    command = ["unshare", "-rm", "sh", "-c", f'{mount}; exec "$0" -c "$1"', sys.executable, SMALL_MEMORY]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120)
    [line] = done.stdout.splitlines()
    assert line.startswith("/dev/shm: found no room for a batch of a loader worker (unable to")
    assert line.endswith("expected more (docker run --shm-size), or train.workers: 0")
