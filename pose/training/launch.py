"""Starting the processes of a training run, for `pose train`, `python -m stages.train` and torchrun."""

from __future__ import annotations

import logging
import os
import signal
import sys
from pathlib import Path

import torch
from torch import nn

from pose.io.dvc_stage import require_dependency
from pose.io.errors import Interrupted, UserError
from pose.io.paths import TaskPaths
from pose.params import Params, load_params, packing_fault
from pose.tasks.task import build_task
from pose.tracking.base import NullTracker, Tracker
from pose.training.data import TrainingData
from pose.training.distributed import LOST_PEER, is_first_process, is_launched
from pose.training.lock import end_with_parent
from pose.training.trainer import train

log = logging.getLogger(__name__)

LEAST_NORMALISED = 4  # images of a process by themselves, or a line asks for more


def train_task(task: str) -> None:
    """Train a task with this workspace's parameters, as several processes if they say so, tracked by MLflow.

    UserError for what cannot be trained; exits with a line after SIGTERM or Ctrl-C.
    """
    end_with_parent(direct=is_launched())  # torchrun cannot end its processes if it is killed itself
    params = load_params()
    if not is_launched():
        if init := params.task(task).init:
            require_dependency(init.weights, f"tasks.{task}.init.weights", "init")
        if fault := packing_fault(params.prepare, params.problem(task)):
            log.warning("%s: large images are blurred: %s", task, fault)
    if launch_if_several(params, task, "pose.cli", "train", task):
        return
    try:
        train(params, task, tracker=_mlflow_tracker(task))
    except Interrupted:
        sys.exit(f"{task}: interrupted; the same command resumes from here")


def launch_if_several(
    params: Params, task: str, module: str, *args: str, prepared: Path | None = None
) -> bool:
    """Run `python -m module args` as all processes of the task and wait for them.

    Returns False, having done nothing, where the task has one process or this is one of several.
    """
    batch = params.task(task).batch
    if is_launched() or (processes := process_count(params.train.processes, batch)) == 1:
        return False
    check_inputs(params, task, processes=processes, prepared=prepared)
    few = batch < LEAST_NORMALISED * processes
    if few and not params.train.sync_batch_norm and _has_batch_norm(params, task):
        found = f"{processes} processes normalise {batch // processes} images each"
        log.warning("%s: %s; train.sync_batch_norm: true normalises all %d together", task, found, batch)
    launch(processes, module, *args)
    return True


def _has_batch_norm(params: Params, task: str) -> bool:
    with torch.device("meta"):
        net = params.task(task).network.build(outputs=1)
    return any(isinstance(module, nn.BatchNorm2d) for module in net.modules())


def check_inputs(params: Params, task: str, *, processes: int, prepared: Path | None = None) -> TrainingData:
    """The data of a task; UserError for data, or weights to begin from, that cannot be used.

    For who starts several processes or runs: a mistake is then one line, and not one of each.
    """
    data = TrainingData.load(params, task, processes=processes, prepared=prepared)
    if params.task(task).init:
        build_task(params, task, skeleton=data.data.skeleton, device=torch.device("cpu"))
    return data


def launch(processes: int, module: str, *args: str) -> None:
    """Run `python -m module args` as that many processes of this machine under torchrun, and wait for them.

    If one fails, the others are ended, and UserError says which one failed and how. SIGTERM and Ctrl-C are
    passed on to them, and end this process after them.
    """
    from torch.distributed.elastic.multiprocessing.api import SignalException
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
    from torch.distributed.run import get_args_parser, run

    words = ["--standalone", f"--nproc-per-node={processes}", "--module", module, *args]
    what = " ".join([module, *args])
    os.environ.setdefault("OMP_NUM_THREADS", "1")  # else torchrun says at length that it sets it
    # Else it warns of unused parameters, see `Ranks.wrap`, and shows frames of its store where we are killed.
    os.environ.setdefault("TORCH_CPP_LOG_LEVEL", "ERROR")
    sys.stdout.flush()
    logging.disable()  # torchrun's own lines; what matters in them is in the error below
    try:
        run(get_args_parser().parse_args(words))
    except ChildFailedError as error:
        print(file=sys.stderr)  # a process that was killed has left its progress bar's line open
        # Not one that lost another process, or that torchrun ended, if there is one that failed by itself.
        status_of = {rank: failure.exitcode for rank, failure in error.failures.items()}
        rank = min(status_of, key=lambda rank: (status_of[rank] in (LOST_PEER, -signal.SIGTERM), rank))
        raise UserError(f"{what}: process {rank} of {processes} {_ending(status_of[rank])}") from None
    except SignalException as received:
        sys.exit(f"{what}: ended by {signal.Signals(received.sigval).name}")
    finally:
        logging.disable(logging.NOTSET)


def process_count(processes: int | str, batch: int) -> int:
    """`train.processes` as a number; where there are GPUs, never more than those.

    auto: one for each GPU, but no more than share the task's batch evenly; 1 where there is no GPU.
    """
    gpus = torch.cuda.device_count()
    if processes == "auto":
        count = max((n for n in range(1, gpus + 1) if batch % n == 0), default=1)
        if count < gpus:
            found = "train.processes: using %d of %d GPUs, the most that share a batch of %d evenly"
            log.info(found, count, gpus, batch)
        return count
    if 0 < gpus < int(processes):
        found = "train.processes: found %d for %d GPUs: using %d, one process for each"
        log.info(found, processes, gpus, gpus)
    return min(int(processes), gpus or int(processes))


def _ending(status: int) -> str:
    if status == LOST_PEER:
        return "lost another process"
    return f"was ended by {signal.Signals(-status).name}" if status < 0 else f"ended with status {status}"


def _mlflow_tracker(task: str) -> Tracker:
    if not is_first_process():
        return NullTracker()
    try:
        from pose.tracking.mlflow import MlflowTracker
    except ModuleNotFoundError as error:  # a bare training machine
        log.info("no module %s: nothing is tracked; the history is in %s", error.name, TaskPaths(task).plots)
        return NullTracker()
    return MlflowTracker()
