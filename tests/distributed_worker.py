"""What torchrun runs for tests/training/test_distributed.py; each rank writes its results to FOLDER/RANK.pt.

`play FOLDER`: steps of every case, and trainings in the folder. `repeat FOLDER`: gradients of a step after
another one, and as the first of a start. `machine FOLDER`: which process of its machine is the first.
`again FOLDER`: two groups, one after the other. `idle FOLDER`: the refusal of a network with a layer that is
not used. `fail FOLDER`: the second process ends by itself, the first waits for it, as on GPUs.
`restart FOLDER`: the second process is killed at the first start, and is late at the next.
"""

import copy
import os
import signal
import sys
import time
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.distributed as dist
from helpers import build_cpu_task
from torch import Tensor, nn

import pose.training.trainer
from pose.data.batch import Batch, Inputs, MultiTargets, SingleTargets
from pose.data.multi_samples import ImageDataset
from pose.io.errors import UserError
from pose.models.blocks import PoseNetwork
from pose.models.networks import HourglassParams
from pose.models.sync_norm import convert_sync_batch_norm
from pose.params import Params, load_params
from pose.tasks.base import Problem
from pose.training.distributed import Ranks, process_group

STEPS = {"frozen": 12, "sync": 3}  # the latter exchange a thousand small tensors each
TOTAL_BATCH = 4  # two images a process at the least: the deepest maps of the tiny networks have a single cell

# (task, batch normalisation): frozen, or learning and synchronised.
CASES = [
    *(("hgpose", "frozen"), ("advpose", "frozen"), ("hgpose-ae", "frozen"), ("advpose-ae", "frozen")),
    *(("hgpose", "sync"), ("advpose-ae", "sync")),
    *(("fine-tuned", "frozen"), ("fine-tuned", "sync")),  # part of the network stays for half of the steps
]


def total_batch(problem: Problem, step: int) -> tuple[Tensor, Any]:
    """Images and targets of noise in float64; at every third step nobody is in the second rank's images."""
    draw = torch.Generator().manual_seed(step)
    size, joints = problem.params.input_size, len(problem.skeleton)
    cells = size // 4
    image = torch.rand(TOTAL_BATCH, 3, size, size, generator=draw, dtype=torch.float64)
    heatmap = torch.rand(TOTAL_BATCH, joints, cells, cells, generator=draw, dtype=torch.float64) ** 4
    if problem.kind == "single":
        return image, SingleTargets(heatmap, (torch.rand(TOTAL_BATCH, joints, generator=draw) < 0.8).double())
    cell = torch.randint(-cells, cells * cells, (TOTAL_BATCH, 3, joints), generator=draw).clamp(min=-1)
    mask = (torch.rand(TOTAL_BATCH, cells, cells, generator=draw) < 0.8).double()
    if step % 3 == 0:
        cell[1::2], heatmap[1::2] = -1, 0
    return image, MultiTargets(heatmap, mask, cell)


def play(params: Params, name: str, norm: str, ranks: Ranks) -> dict[str, Any]:
    """A task's state after steps in float64, each on this rank's share of a batch, and the logged terms."""
    task = build_cpu_task(params, name)
    adversary = task.adversary
    for net in [task.net, *([adversary.net] if adversary else [])]:
        net.double().train(norm == "sync")
        if norm == "sync" and ranks.count > 1:
            convert_sync_batch_norm(net)
    if adversary:
        adversary.mean = ranks.mean
    task.run = ranks.wrap(task.net, freezes=bool(task.params.init))
    logged = []
    for step in range(STEPS[norm]):
        image, targets = total_batch(task.problem, step)
        inputs = Inputs((ranks.share(image),), torch.eye(3)[:2].repeat(len(image), 1, 1))
        terms = task.step(Batch(inputs, targets.map(ranks.share)), done=step, steps=STEPS[norm])
        logged.append(ranks.mean(torch.stack([term.double() for term in terms.values()])))
    state = {"net": task.net.state_dict(), "optimizer": task.optimizer.state_dict()}
    state |= {"adversary": adversary.state_dict()} if adversary else {}
    return state | {"logged": torch.stack(logged)}


def tensors(state: Any, path: str = "") -> dict[str, Tensor]:
    """All tensors of a nested state, by their path."""
    if isinstance(state, Tensor):
        return {path: state}
    inner = state.items() if isinstance(state, dict) else enumerate(state) if isinstance(state, list) else ()
    return {name: tensor for key, value in inner for name, tensor in tensors(value, f"{path}/{key}").items()}


def refusal(function: Any, *args: Any, **kwargs: Any) -> str:
    """The message of the UserError that a call must raise."""
    try:
        function(*args, **kwargs)
    except UserError as error:
        return str(error)
    raise AssertionError("no UserError")


def arrive_late() -> None:
    """From now on every second batch of images comes late, by a time of each process's own."""
    draw, load = np.random.default_rng(), ImageDataset.__getitems__

    def late(self: ImageDataset, keys: Any) -> Any:
        time.sleep(draw.exponential(0.02) * (draw.random() < 0.5))
        return load(self, keys)

    ImageDataset.__getitems__ = late


def record_hashed_files() -> list[str]:
    """The names of files that the trainer hashes from now on."""
    names, file_hash = list[str](), pose.training.trainer.file_hash

    def hashed(*paths: Path) -> str:
        names.extend(path.name for path in paths)
        return file_hash(*paths)

    pose.training.trainer.file_hash = hashed
    return names


def play_all(folder: Path) -> dict[str, Any]:
    params, train = load_params(folder / "params.yaml"), pose.training.trainer.train
    with process_group(120) as ranks:
        found: dict[str, Any] = {"read": ranks.broadcast_from_rank0(lambda: ranks.rank)}
        found["different"] = refusal(ranks.assert_same_on_all_ranks, {"seed": 1, "lr": ranks.rank})
        found["states"] = [play(params, task, norm, ranks) for task, norm in CASES]
        # The trainings below are of these processes too.
        pose.training.trainer.process_group = lambda timeout: nullcontext(ranks)
        prepared = folder / "data/prepared"
        settings: dict[str, Any] = {"folder": folder, "prepared": prepared / "lsp_mpii.h5"}
        found["not finite"] = refusal(train, params.model_copy(update={"lr": 1e38}), "hgpose", **settings)
        arrive_late()
        found["hashed"] = record_hashed_files()
        found["late"] = train(params, "advpose-ae", folder=folder, prepared=prepared / "coco")
    return found


def repeat(folder: Path) -> dict[str, bool]:
    """Whether the gradients of a step are the same, bit for bit, after another step and as the first."""
    net = build_cpu_task(load_params(folder / "params.yaml"), "hgpose").net.train()

    with process_group(120) as ranks:

        def gradients(*steps: int) -> list[Tensor]:
            own = copy.deepcopy(net)
            run = ranks.wrap(own)
            for step in steps:
                own.zero_grad()
                draw = torch.Generator().manual_seed(100 * step + ranks.rank)
                run(torch.rand(2, 3, 64, 64, generator=draw)).square().mean().backward()
            return [weight.grad for weight in own.parameters() if weight.grad is not None]

        later, first, other = gradients(0, 1), gradients(1), gradients(0)
        same = [all(torch.equal(x, y) for x, y in zip(later, those, strict=True)) for those in (first, other)]
        return {"first": same[0], "other": same[1]}


def machine(_: Path) -> int:
    """The first rank of this machine."""
    with process_group(120) as ranks:
        return ranks.once_per_machine(lambda: ranks.rank)


def again(_: Path) -> list[float]:
    """A mean in each of two groups; the first process comes late to the second one, as after writing."""
    means = []
    for _ in range(2):
        with process_group(20) as ranks:
            means.append(ranks.mean(torch.tensor(float(ranks.rank))).item())
        time.sleep(2 if ranks.is_main else 0)
    return means


def idle(folder: Path) -> str:
    """What is said of a layer that no output depends on."""
    build = HourglassParams.build

    def with_idle(self: HourglassParams, outputs: int) -> PoseNetwork:
        net = build(self, outputs)
        net.idle = nn.Linear(2, 2)
        return net

    HourglassParams.build = with_idle
    params, prepared = load_params(folder / "params.yaml"), folder / "data/prepared/lsp_mpii.h5"
    return refusal(pose.training.trainer.train, params, "hgpose", folder=folder, prepared=prepared)


def restart(_: Path) -> tuple[str, float]:
    """The number of this start, and a mean in it."""
    start = os.environ["TORCHELASTIC_RESTART_COUNT"]
    if os.environ["RANK"] == "1" and start == "1":
        time.sleep(2)
    with process_group(20) as ranks:
        if not ranks.is_main and start == "0":
            os.kill(os.getpid(), signal.SIGKILL)
        return start, ranks.mean(torch.tensor(float(ranks.rank))).item()


def fail(_: Path) -> None:
    """The first process waits for the second one, which ends; NCCL would not let go of it there."""
    with process_group(60) as ranks:
        torch.cuda.is_available = lambda: True
        dist.destroy_process_group = lambda: time.sleep(1000)
        if ranks.is_main:
            ranks.mean(torch.ones(1))
        sys.exit("the cause")


WORK = {
    **{"play": play_all, "repeat": repeat, "machine": machine, "again": again, "idle": idle, "fail": fail},
    "restart": restart,
}

if __name__ == "__main__":
    torch.set_num_threads(1)
    work, target = WORK[sys.argv[1]], Path(sys.argv[2])
    torch.save(work(target), target / f"{os.environ['RANK']}.pt")
