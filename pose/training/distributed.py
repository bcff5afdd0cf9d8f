"""Several processes that train one network: each on its share of every batch, gradients averaged.

Every process runs the same code; only the first (`is_main`) writes files, shows progress and tracks. Where
there is one process, all of this does nothing.
"""

from __future__ import annotations

import logging
import os
import re
import sys
import threading
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from itertools import count
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed import PrefixStore  # type: ignore[attr-defined]
from torch.distributed.rendezvous import rendezvous
from torch.nn.parallel import DistributedDataParallel

from pose.io.errors import UserError
from pose.training.heartbeat import WARN, Heartbeat

log = logging.getLogger(__name__)

T = TypeVar("T")

LOST_PEER = 75  # exit status of a process that lost another one
GRACE = 2.0  # seconds that it stays, so that the launcher sees first who failed
LONGEST = 1800.0  # seconds that a collective call may take; gloo's default, in place of NCCL's 600
LAUNCHED = ("RANK", "LOCAL_RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")  # set by torchrun
# How torch says that another process is gone.
LOST = r"(gloo|nccl|store).*(connection|broken pipe|timed? ?out|network|remote)"

_group_numbers = count()  # of the groups that this process joins, one after another


@dataclass(frozen=True)
class Ranks:
    """This process, one of `count`. All must make the same collective calls, which do nothing for one.

    local_rank: its number among those of its machine, whose ranks follow one another.
    """

    rank: int = 0
    count: int = 1
    local_rank: int = 0

    @property
    def is_main(self) -> bool:
        """Whether this is the process that writes."""
        return self.rank == 0

    def share(self, items: Any) -> Any:
        """This rank's part of a sequence or array: every `count`-th item."""
        return items[self.rank :: self.count]

    def gather(self, items: list[T], total: int) -> list[T]:
        """The items of all ranks in one sequence of `total`, in the order before `share`."""
        if self.count == 1:
            return items
        parts: list[Any] = [None] * self.count
        dist.all_gather_object(parts, items)
        joined: list[Any] = [None] * total
        for rank, part in enumerate(parts):
            joined[rank :: self.count] = part
        return joined

    def mean(self, values: Tensor) -> Tensor:
        """Mean over the ranks, the same on all."""
        if self.count > 1:
            dist.all_reduce(values, op=dist.ReduceOp.SUM)
            values = values / self.count
        return values

    def any(self, *flags: bool) -> list[bool]:
        """Each flag, true if it is on any rank: all ranks stop, or save, at the same step."""
        if self.count == 1:
            return list(flags)
        raised = torch.tensor([float(flag) for flag in flags])
        dist.all_reduce(raised, op=dist.ReduceOp.MAX)
        return [bool(flag) for flag in raised.tolist()]

    def broadcast_from_rank0(self, make: Callable[[], T]) -> T:
        """What the first process makes, on all ranks; others may be on machines without its files."""
        made = [make() if self.is_main else None]
        if self.count > 1:
            dist.broadcast_object_list(made, src=0)
        return made[0]  # type: ignore[return-value]

    def once_per_machine(self, make: Callable[[], T]) -> T:
        """What the first process of this machine makes, for all of its processes."""
        made: list[Any] = [make() if self.local_rank == 0 else None]
        if self.count > 1:
            made = self.gather(made, self.count)
        return made[self.rank - self.local_rank]

    def assert_same_on_all_ranks(self, values: dict[str, Any]) -> None:
        """UserError, the same on all ranks, for the first key whose value differs from the first rank's."""
        every: list[Any] = [values] * self.count
        if self.count > 1:
            dist.all_gather_object(every, values)
        for rank, other in enumerate(every):
            for key in sorted(every[0].keys() | other.keys()):
                value, first = other.get(key), every[0].get(key)
                if value != first:
                    found = f"found {value!r} in process {rank} and {first!r} in process 0"
                    raise UserError(f"{key}: {found}, expected the same on all machines")

    def broadcast_buffers(self, net: nn.Module) -> None:
        """Give all ranks the buffers (running statistics) of the first, which are those that are saved."""
        if self.count > 1:
            for buffer in net.buffers():
                dist.broadcast(buffer, src=0)

    def wrap(self, net: nn.Module, *, freezes: bool = False) -> Callable[[Tensor], Tensor] | None:
        """The network with its gradients averaged over the ranks in backward; None for one process.

        Its buffers stay each rank's own, see `broadcast_buffers`. freezes: some of its parameters will need
        no gradient for a while.
        """
        if self.count == 1:
            return None
        # After the first step of a start torch rearranges its buckets of gradients, and sums of three ranks
        # or more then round differently. Not while it looks for unused parameters: a resumed run so gets
        # equal bits.
        on_cpu = all(weight.device.type == "cpu" for weight in net.parameters())
        fixed = self.count > 2 and (on_cpu or torch.are_deterministic_algorithms_enabled())
        unused = fixed or freezes
        with warnings.catch_warnings():  # torch 2.13 renames the option to one that 2.11 does not know
            warnings.filterwarnings("ignore", message=".*broadcast_buffers.*", category=FutureWarning)
            return DistributedDataParallel(net, broadcast_buffers=False, find_unused_parameters=unused)


@contextmanager
def process_group(timeout: float) -> Iterator[Ranks]:
    """Join the processes that torchrun started, or be the only one; leave the group at the end.

    A process that loses the connection to another one, or has no sign of life of it for `timeout` seconds,
    exits with a line and status LOST_PEER.
    """
    heartbeat, ended = None, False
    # Torchrun counts how often it has started the processes anew (`--max-restarts`).
    group = f"{os.environ.get('TORCHELASTIC_RESTART_COUNT', 0)} {next(_group_numbers)}"
    try:
        ranks = _join(group, timeout)
        if ranks.count > 1:
            heartbeat = Heartbeat(ranks.rank, ranks.count, group=group, seconds=timeout, status=LOST_PEER)
            ranks.any(False)  # a collective call, on the CPU: all beat before anybody listens
        yield ranks
        if heartbeat:
            heartbeat.leave()
        ended = True
    except RuntimeError as error:  # torch has no type of its own for it
        if not is_launched() or not re.search(LOST, str(error), re.IGNORECASE | re.DOTALL):
            raise
        rank = os.environ["RANK"]
        print(f"process {rank} lost its connection to another process, and ends", file=sys.stderr)
        time.sleep(GRACE)
        sys.exit(LOST_PEER)
    finally:
        if heartbeat:
            heartbeat.stop()
        # NCCL waits here for the other processes, which after an error wait for this one: nobody would say
        # what is wrong.
        if dist.is_initialized() and (ended or not torch.cuda.is_available()):
            dist.destroy_process_group()


def is_launched() -> bool:
    """Whether torchrun started this process: one of its variables alone is left over from something else."""
    return all(name in os.environ for name in LAUNCHED)


def is_first_process() -> bool:
    """Whether this is the process that writes; may be asked before the processes have joined."""
    return not is_launched() or int(os.environ["RANK"]) == 0


def _join(group: str, timeout: float) -> Ranks:
    if not is_launched():
        return Ranks()
    place, others = f"{os.environ['MASTER_ADDR']}:{os.environ['MASTER_PORT']}", os.environ["WORLD_SIZE"]
    line = "waiting for all %s processes of this run to join at %s"
    timer = threading.Timer(WARN, log.info, (line, others, place))
    timer.daemon = True
    timer.start()
    try:
        return _init_group(group, timeout)
    finally:
        timer.cancel()


def _init_group(group: str, timeout: float) -> Ranks:
    backend = "gloo"
    if torch.cuda.is_available():
        rank, gpus = int(os.environ["LOCAL_RANK"]), torch.cuda.device_count()
        if rank >= gpus:
            found = f"found process {rank + 1} on a machine of {gpus} GPUs"
            raise UserError(f"torchrun: {found}, expected at most one process for each")
        torch.cuda.set_device(rank)
        backend = "cpu:gloo,cuda:nccl"
    # A store outlives its group: without a name, processes that come to the next one early would take the
    # addresses of the one before.
    store, rank, processes = next(rendezvous("env://", timeout=timedelta(seconds=LONGEST)))
    dist.init_process_group(
        backend,
        store=PrefixStore(f"group {group}", store),
        rank=rank,
        world_size=processes,
        timeout=timedelta(seconds=max(timeout, LONGEST)),
    )
    return Ranks(dist.get_rank(), dist.get_world_size(), int(os.environ["LOCAL_RANK"]))
