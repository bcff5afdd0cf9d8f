"""Starting the processes of a training run.

What `pose train`, `python -m stages.train` and torchrun come through.
"""

from __future__ import annotations

import logging
import os
import signal
import sys
from functools import cache
from pathlib import Path

import torch

from pose.io.errors import Interrupted, UserError
from pose.io.paths import TaskPaths
from pose.params import Params, load_params
from pose.tracking.base import NullTracker, Tracker
from pose.training.data import TrainingData
from pose.training.distributed import LOST_PEER, is_first_process, is_launched
from pose.training.lock import end_with_parent
from pose.training.trainer import train

log = logging.getLogger(__name__)


def train_task(task: str) -> None:
    """Train a task with the parameters of this workspace, as several processes if they say so; tracked by MLflow.

    UserError for what cannot be trained; exits with a line where training was asked to end.
    """
    end_with_parent(direct=is_launched())  # torchrun cannot end its processes if it is killed itself
    params = load_params()
    if launch_if_several(params, task, "pose.cli", "train", task):
        return
    try:
        train(params, task, tracker=_mlflow_tracker(task))
    except Interrupted:
        sys.exit(f"{task}: interrupted; the same command resumes from here")


def launch_if_several(
    params: Params, task: str, module: str, *args: str, prepared: Path | None = None
) -> bool:
    """Run `python -m module args` as all processes of the task, and wait; False where this is one of them.

    prepared: the prepared set, if it is not where the stages put it.
    """
    processes = process_count(params.train.processes)
    if processes == 1 or is_launched():
        return False
    # Here, where a mistake is one line and not one of each process.
    TrainingData.load(params, task, processes=processes, prepared=prepared)
    launch(processes, module, *args)
    return True


def launch(processes: int, module: str, *args: str) -> None:
    """Run `python -m module args` as that many processes under torchrun, on this machine, and wait for them.

    If one fails the others are ended, and UserError says which failed and how; what it printed stands above.
    SIGTERM and Ctrl-C are handed on to them, and end this process after them.
    """
    from torch.distributed.elastic.multiprocessing.api import SignalException
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
    from torch.distributed.run import get_args_parser, run

    words = ["--standalone", f"--nproc-per-node={processes}", "--module", module, *args]
    what = " ".join([module, *args])
    os.environ.setdefault("OMP_NUM_THREADS", "1")  # else torchrun says at length that it sets it
    if processes > 2:
        os.environ.setdefault("TORCH_CPP_LOG_LEVEL", "ERROR")  # of unused parameters, see `Ranks.wrap`
    logging.disable()  # of this process, which only waits: what torchrun says at length is said below, once
    sys.stdout.flush()
    try:
        run(get_args_parser().parse_args(words))
    except ChildFailedError as error:
        print(file=sys.stderr)  # a process that was killed has left its progress bar's line open
        # Those that lost it, or that torchrun has then ended, are named beside the one that is the cause.
        status_of = {rank: failure.exitcode for rank, failure in error.failures.items()}
        rank = min(status_of, key=lambda rank: (status_of[rank] in (LOST_PEER, -signal.SIGTERM), rank))
        raise UserError(f"{what}: process {rank} of {processes} {_ended(status_of[rank])}") from None
    except SignalException as asked:
        sys.exit(f"{what}: ended by {signal.Signals(asked.sigval).name}")


def process_count(processes: int | str) -> int:
    """`train.processes` as a number; auto.

    One per GPU, else one. Where there are GPUs never more than those.
    """
    gpus = torch.cuda.device_count()
    if processes == "auto":
        return max(1, gpus)
    if 0 < gpus < int(processes):
        _log_fewer(int(processes), gpus)
        return gpus
    return int(processes)


@cache
def _log_fewer(processes: int, gpus: int) -> None:
    log.info("train.processes: found %d for %d GPUs: using %d, one process for each", processes, gpus, gpus)


def _ended(status: int) -> str:
    return f"was ended by {signal.Signals(-status).name}" if status < 0 else f"ended with status {status}"


def _mlflow_tracker(task: str) -> Tracker:
    if not is_first_process():
        return NullTracker()
    try:
        from pose.tracking.mlflow import MlflowTracker
    except ModuleNotFoundError as error:  # a bare training machine
        log.info("no module %s: nothing is tracked; the history is in %s", error.name, TaskPaths(task).plots)
        return NullTracker()
    return MlflowTracker(TaskPaths(task).run_id)
