"""What torchrun runs for test_distributed.py.

`play FOLDER`, steps of every case in the folder; `repeat FOLDER`, one step's gradients after another step and
as the first of a start; `train TASK`, with random delays.
"""

from __future__ import annotations

import copy
import sys
import time
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from pose.data.multi_samples import ImageDataset, MultiTargets
from pose.data.single_samples import Batch
from pose.io.errors import UserError
from pose.models.sync_norm import convert_sync_batch_norm
from pose.params import Params, load_params
from pose.tasks.task import build_problem, build_task
from pose.training.distributed import Ranks, process_group
from pose.training.trainer import train

STEPS = {"frozen": 20, "convert_sync_batch_norm": 6}  # the latter exchange a thousand small tensors each
WHOLE_BATCH = 4  # two images a process at the least: the deepest maps of the tiny networks have a single cell

# (task, BatchNorm): frozen, or convert_sync_batch_norm and learning.
CASES = [
    ("hgpose", "frozen"),
    ("advpose", "frozen"),
    ("hgpose-ae", "frozen"),
    ("advpose-ae", "frozen"),
    ("hgpose", "convert_sync_batch_norm"),
    ("advpose-ae", "convert_sync_batch_norm"),
]


def whole_batch(params: Params, task: str, step: int) -> Batch | MultiTargets:
    """One of noise, in float64.

    At every third step nobody is in the second process's part of a multi-person one.
    """
    draw = torch.Generator().manual_seed(step)
    problem = build_problem(params.problem(params.task(task).problem))
    size, joints = problem.params.input_size, len(problem.skeleton)
    cells = size // 4
    image = torch.rand(WHOLE_BATCH, 3, size, size, generator=draw, dtype=torch.float64)
    heatmap = torch.rand(WHOLE_BATCH, joints, cells, cells, generator=draw, dtype=torch.float64) ** 4
    affine, row = torch.eye(3, dtype=torch.float64)[:2].repeat(WHOLE_BATCH, 1, 1), torch.arange(WHOLE_BATCH)
    if problem.kind == "single":
        seen = (torch.rand(WHOLE_BATCH, joints, generator=draw) < 0.8).double()
        return Batch(image_B3HW=image, heatmap_BKhw=heatmap, mask_BK=seen, affine_B23=affine, row_B=row)
    cell = torch.randint(-cells, cells * cells, (WHOLE_BATCH, 3, joints), generator=draw).clamp(min=-1)
    mask = (torch.rand(WHOLE_BATCH, cells, cells, generator=draw) < 0.8).double()
    if step % 3 == 0:
        cell[1::2], heatmap[1::2] = -1, 0
    return MultiTargets(
        image_B3HW=image, heatmap_BKhw=heatmap, mask_Bhw=mask, cell_BPK=cell, affine_B23=affine, row_B=row
    )


def play(params: Params, name: str, norm: str, ranks: Ranks) -> dict[str, Any]:
    """Steps of a task in float64, this process on its share of each batch; the state after them, and what a run would log of each."""
    task = build_task(params, name, device=torch.device("cpu"))
    adversary = task.adversary
    for net in [task.net, *([adversary.net] if adversary else [])]:
        net.double().train(norm == "convert_sync_batch_norm")
        if norm == "convert_sync_batch_norm" and ranks.count > 1:
            convert_sync_batch_norm(net)
    if adversary:
        adversary.mean = ranks.mean
    task.run = ranks.wrap(task.net)
    logged = []
    for step in range(STEPS[norm]):
        batch = whole_batch(params, name, step)
        part: Any = replace(
            batch,
            **{f.name: ranks.share(getattr(batch, f.name)) for f in fields(batch) if f.name != "others"},
        )
        terms = task.step(part, done=step, steps=STEPS[norm])
        logged.append(ranks.mean(torch.stack([term.double() for term in terms.values()])))
    state = {
        "net": task.net.state_dict(),
        "optimizer": task.optimizer.state_dict(),
        "logged": torch.stack(logged),
    }
    return state | ({"adversary": adversary.state()} if adversary else {})


def tensors(state: Any, path: str = "") -> dict[str, Tensor]:
    """All tensors of a nested state, by their path."""
    if isinstance(state, Tensor):
        return {path: state}
    inner = state.items() if isinstance(state, dict) else enumerate(state) if isinstance(state, list) else ()
    return {name: tensor for key, value in inner for name, tensor in tensors(value, f"{path}/{key}").items()}


def play_all(folder: Path) -> None:
    params = load_params(folder / "params.yaml")
    with process_group() as ranks:
        wrote: dict[str, Any] = {"read": ranks.broadcast_from_rank0(lambda: ranks.rank)}
        try:
            ranks.agree({"seed": 1, "lr": ranks.rank})
        except UserError as error:
            wrote["unlike"] = str(error)
        wrote["states"] = [play(params, task, norm, ranks) for task, norm in CASES]
        torch.save(wrote, folder / f"{ranks.rank}.pt")


def repeat(folder: Path) -> None:
    """Write whether the gradients of a step are the same, bit for bit, after another step and without one before it."""
    net = build_task(load_params(folder / "params.yaml"), "hgpose", device=torch.device("cpu")).net.train()

    with process_group() as ranks:

        def gradients(*steps: int) -> list[Tensor]:
            mine = copy.deepcopy(net)
            run = ranks.wrap(mine)
            assert run
            for step in steps:
                mine.zero_grad()
                draw = torch.Generator().manual_seed(100 * step + ranks.rank)
                run(torch.rand(2, 3, 64, 64, generator=draw)).square().mean().backward()
            return [weight.grad for weight in mine.parameters() if weight.grad is not None]

        later, first, other = gradients(0, 1), gradients(1), gradients(0)
        same = [all(torch.equal(x, y) for x, y in zip(later, those, strict=True)) for those in (first, other)]
        torch.save({"first": same[0], "other": same[1]}, folder / f"{ranks.rank}.pt")


def train_delayed(task: str) -> None:
    """The real training of this folder, but that every batch comes late, by a time of each process's own."""
    draw, whole = np.random.default_rng(), ImageDataset.__getitems__

    def late(self: ImageDataset, keys: Any) -> Any:
        time.sleep(draw.exponential(0.02) * (draw.random() < 0.5))
        return whole(self, keys)

    ImageDataset.__getitems__ = late  # type: ignore[method-assign]
    train(load_params(), task)


if __name__ == "__main__":
    torch.set_num_threads(1)
    if sys.argv[1] == "play":
        play_all(Path(sys.argv[2]))
    elif sys.argv[1] == "repeat":
        repeat(Path(sys.argv[2]))
    else:
        train_delayed(sys.argv[2])
