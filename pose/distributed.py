"""Several processes that train one network: torchrun starts them, gradients are averaged. One process is the special case.

Every process runs the same code on its share of each batch; the first (`main`) alone writes files, shows progress and tracks.
"""

from __future__ import annotations

import logging
import os
import re
import signal
import sys
import threading
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from pose.errors import UserError

T = TypeVar("T")

LOST = 75  # exit status of a process that lost another one
GONE = re.compile(r"(gloo|nccl|store).*(connection|broken pipe|timed? ?out|network|remote)", re.IGNORECASE | re.DOTALL)  # as torch says it
GRACE = 20.0  # seconds from SIGTERM to the end


@dataclass(frozen=True)
class Ranks:
    """This process among `count`. Collective calls are no-ops where there is one; else all ranks must make them alike."""

    rank: int = 0
    count: int = 1

    @property
    def main(self) -> bool:
        """Whether this is the process that writes."""
        return self.rank == 0

    def share(self, items: Any) -> Any:
        """This rank's part of a sequence or array: every `count`-th item."""
        return items[self.rank :: self.count]

    def gather(self, items: list[T], total: int) -> list[T]:
        """The whole sequence again, of which each rank brings what it made of its `share`."""
        if self.count == 1:
            return items
        parts: list[Any] = [None] * self.count
        dist.all_gather_object(parts, items)
        whole: list[Any] = [None] * total
        for rank, part in enumerate(parts):
            whole[rank :: self.count] = part
        return whole

    def mean(self, values: Tensor) -> Tensor:
        """Mean over the ranks, the same on all."""
        if self.count > 1:
            dist.all_reduce(values, op=dist.ReduceOp.SUM)
            values = values / self.count
        return values

    def any(self, *flags: bool) -> list[bool]:
        """For each flag whether any rank says yes, so that all of them leave a loop, or save, at the same step."""
        if self.count == 1:
            return list(flags)
        raised = torch.tensor([float(flag) for flag in flags])
        dist.all_reduce(raised, op=dist.ReduceOp.MAX)
        return [bool(flag) for flag in raised.tolist()]

    def of_main(self, make: Callable[[], T]) -> T:
        """What the main process makes, on all: others may be on machines that lack the files it is made of."""
        made = [make() if self.main else None]
        if self.count > 1:
            dist.broadcast_object_list(made, src=0)
        return made[0]  # type: ignore[return-value]

    def agree(self, values: dict[str, Any]) -> None:
        """UserError, the same on all ranks, for the first key whose value differs from the main one's."""
        every: list[Any] = [values] * self.count
        if self.count > 1:
            dist.all_gather_object(every, values)
        for rank, other in enumerate(every):
            for key in sorted(every[0].keys() | other.keys()):
                if other.get(key) != every[0].get(key):
                    found = f"found {other.get(key)!r} in process {rank} and {every[0].get(key)!r} in process 0"
                    raise UserError(f"{key}: {found}, expected the same on all machines")

    def same_buffers(self, net: nn.Module) -> None:
        """Give all ranks the main one's buffers (running statistics), which are those that are saved."""
        if self.count > 1:
            for buffer in net.buffers():
                dist.broadcast(buffer, src=0)

    def wrap(self, net: nn.Module) -> Callable[[Tensor], Tensor] | None:
        """The network so that its gradients are averaged over the ranks in backward; None where there is nothing to do.

        Its buffers stay each rank's own, see `same_buffers`. Where equal runs give equal bits, they do so too whichever step of a start it
        is: after the first one torch would lay out anew what it sends, and three numbers or more add up to other last bits in another
        place. While it looks for unused parameters, of which there are none, it does not.
        """
        if self.count == 1:
            return None
        on_cpu = all(weight.device.type == "cpu" for weight in net.parameters())
        fixed = self.count > 2 and (on_cpu or torch.are_deterministic_algorithms_enabled())
        with warnings.catch_warnings():  # torch 2.13 renames the option to one that 2.11 does not know
            warnings.filterwarnings("ignore", message=".*broadcast_buffers.*", category=FutureWarning)
            return DistributedDataParallel(net, broadcast_buffers=False, find_unused_parameters=fixed)


@contextmanager
def joined() -> Iterator[Ranks]:
    """Take one's place among the processes that torchrun started, alone if it did not; leave it at the end.

    Where another process is lost meanwhile, this one says so in a line and ends with status LOST.
    """
    try:
        yield join()
    except RuntimeError as error:  # torch has no type of its own for it
        if not launched() or not GONE.search(str(error)):
            raise
        print(f"process {os.environ['RANK']} lost its connection to another process, and ends", file=sys.stderr)
        sys.exit(LOST)
    finally:
        leave()


def join() -> Ranks:
    """Take one's place among the processes that torchrun started; alone if it did not."""
    if not launched():
        return Ranks()
    _end_though_stuck()
    if torch.cuda.is_available():
        rank, gpus = int(os.environ["LOCAL_RANK"]), torch.cuda.device_count()
        if rank >= gpus:
            raise UserError(f"torchrun: found process {rank + 1} on a machine of {gpus} GPUs, expected at most one process for each")
        torch.cuda.set_device(rank)
        dist.init_process_group("cpu:gloo,cuda:nccl")
    else:
        dist.init_process_group("gloo")
    return Ranks(dist.get_rank(), dist.get_world_size())


def leave() -> None:
    """End the group, if there is one: a process that just exits may leave the others waiting."""
    if dist.is_initialized():
        dist.destroy_process_group()


def _end_though_stuck() -> None:
    """From now on, end this process at the latest GRACE seconds after SIGTERM or Ctrl-C.

    A process that waits in C++ for one that is gone, as NCCL does, never comes to run the handlers of `pose.engine.asked_to_end`, and
    torchrun would give it half a minute. Python notes every signal in a file at once, which a thread can read.
    """
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    signal.set_wakeup_fd(writer, warn_on_full_buffer=False)
    os.register_at_fork(after_in_child=lambda: signal.set_wakeup_fd(-1))  # what a loader's worker is sent is not for this process

    def watch() -> None:
        while os.read(reader, 1)[0] not in (signal.SIGTERM, signal.SIGINT):
            pass
        time.sleep(GRACE)
        os._exit(LOST)

    threading.Thread(target=watch, name="end_though_stuck", daemon=True).start()


def launch(processes: int, module: str, *args: str) -> None:
    """Run `python -m module args` as that many processes under torchrun, on this machine, and wait for them.

    If one fails the others are ended, and UserError says which failed and how; what it printed stands above. SIGTERM and Ctrl-C are
    handed on to them, and end this process after them.
    """
    from torch.distributed.elastic.multiprocessing.api import SignalException
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
    from torch.distributed.run import get_args_parser, run

    words = ["--standalone", f"--nproc-per-node={processes}", "--module", module, *args]
    what = " ".join([module, *args])
    os.environ.setdefault("OMP_NUM_THREADS", "1")  # else torchrun says at length that it sets it
    if processes > 2:
        os.environ.setdefault("TORCH_CPP_LOG_LEVEL", "ERROR")  # each would say that it found no unused parameters, see `Ranks.wrap`
    logging.disable()  # of this process, which only waits: what torchrun says at length is said below, once
    sys.stdout.flush()
    try:
        run(get_args_parser().parse_args(words))
    except ChildFailedError as error:
        print(file=sys.stderr)  # a process that was killed has left its progress bar's line open
        # Those that lost it, or that torchrun has then ended, are named beside the one that is the cause.
        status_of = {rank: failure.exitcode for rank, failure in error.failures.items()}
        rank = min(status_of, key=lambda rank: (status_of[rank] in (LOST, -signal.SIGTERM), rank))
        raise UserError(f"{what}: process {rank} of {processes} {_ended(status_of[rank])}") from None
    except SignalException as asked:
        sys.exit(f"{what}: ended by {signal.Signals(asked.sigval).name}")


def _ended(status: int) -> str:
    return f"was ended by {signal.Signals(-status).name}" if status < 0 else f"ended with status {status}"


def launched() -> bool:
    """Whether torchrun started this process."""
    return "RANK" in os.environ


def wanted(processes: int | str) -> int:
    """`train.processes` as a number; auto: one per GPU, else one. Where there are GPUs it is never more than those, which is said."""
    gpus = torch.cuda.device_count()
    if processes == "auto":
        return max(1, gpus)
    if 0 < gpus < int(processes):
        _say_fewer(int(processes), gpus)
        return gpus
    return int(processes)


@cache
def _say_fewer(processes: int, gpus: int) -> None:
    print(f"train.processes: found {processes} for {gpus} GPU{'s' * (gpus > 1)}: {gpus} it is, one process for each", flush=True)
