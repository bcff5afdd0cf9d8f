"""Several processes that train one network: torchrun starts them, gradients are averaged. One process is the special case.

Every process runs the same code on its share of each batch; the first (`main`) alone writes files, shows progress and tracks.
"""

from __future__ import annotations

import logging
import os
import sys
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from pose.errors import UserError

T = TypeVar("T")


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

    def any(self, flag: bool) -> bool:
        """Whether any rank says yes, so that all of them leave a loop at the same step."""
        if self.count == 1:
            return flag
        flags = torch.tensor([float(flag)])
        dist.all_reduce(flags, op=dist.ReduceOp.MAX)
        return bool(flags.item())

    def wrap(self, net: nn.Module) -> Callable[[Tensor], Tensor] | None:
        """The network so that its gradients are averaged over the ranks in backward; None where there is nothing to do.

        BatchNorm statistics stay each rank's own: the main one's are saved.
        """
        if self.count == 1:
            return None
        with warnings.catch_warnings():  # torch 2.13 renames the option to one that 2.11 does not know
            warnings.filterwarnings("ignore", message=".*broadcast_buffers.*", category=FutureWarning)
            return DistributedDataParallel(net, broadcast_buffers=False)


def join() -> Ranks:
    """Take one's place among the processes that torchrun started; alone if it did not."""
    if "RANK" not in os.environ:
        return Ranks()
    if torch.cuda.is_available():
        torch.cuda.set_device(int(os.environ["LOCAL_RANK"]))
        dist.init_process_group("cpu:gloo,cuda:nccl")
    else:
        dist.init_process_group("gloo")
    return Ranks(dist.get_rank(), dist.get_world_size())


def leave() -> None:
    """End the group, if there is one: a process that just exits may leave the others waiting."""
    if dist.is_initialized():
        dist.destroy_process_group()


def launch(processes: int, module: str, *args: str) -> None:
    """Run `python -m module args` as that many processes under torchrun, on this machine, and wait for them.

    If one fails the others are ended, and UserError says which failed; what it printed stands above.
    """
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
    from torch.distributed.run import get_args_parser, run

    words = ["--standalone", f"--nproc-per-node={processes}", "--module", module, *args]
    os.environ.setdefault("OMP_NUM_THREADS", "1")  # else torchrun says at length that it sets it
    logging.getLogger("torch.distributed.elastic").setLevel(logging.CRITICAL)  # a failure is said below, once
    sys.stdout.flush()
    try:
        run(get_args_parser().parse_args(words))
    except ChildFailedError as error:
        rank, failure = error.get_first_failure()
        raise UserError(f"{module} {' '.join(args)}: process {rank} of {processes} ended with status {failure.exitcode}") from None


def launched() -> bool:
    """Whether torchrun started this process."""
    return "RANK" in os.environ


def wanted(processes: int | str) -> int:
    """`train.processes` as a number; auto: one per GPU, else one."""
    return max(1, torch.cuda.device_count()) if processes == "auto" else int(processes)
