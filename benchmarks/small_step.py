"""What a small network's step is spent on.

Its stem, the batch of a process, the optimizer's form. Images per second of one thread.

    python benchmarks/small_step.py [--rounds 9]

Of `hgpose-ae` as the demo has it, beside the same with the published stem (three numbers), with half of the
batch, with other optimizers: RMSprop, and torch's own Muon, which takes one matrix after the other; and with
`train.compile`, whose minutes of compiling, before the first round, are not in the table.
Pictures are noise: their content makes no difference to the time.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from common import in_turns, shown, spread, write
from noise import noise, noise_task, preset
from torch import Tensor

from pose.params import Params
from pose.params.task import RMSpropParams
from pose.tasks.muon import Muon
from pose.tasks.task import Task

TASK = "hgpose-ae"
DEMO = "the demo's"
PUBLISHED_STEM = [16, 32, 64]
STEPS = 4
MUON_SETTINGS = ("lr", "weight_decay", "momentum", "betas")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=9)
    options = parser.parse_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as scratch:
        params = preset("demo", Path(scratch))
    assert isinstance(params.train.processes, int)
    share = params.task(TASK).batch // params.train.processes
    one_by_one = build(params)
    compiled = build(params.model_copy(update={"train": params.train.model_copy(update={"compile": True})}))
    steps(params, compiled, share)()
    groups = one_by_one.optimizer.param_groups
    one_by_one.optimizer = OneByOne(groups, **{key: groups[0][key] for key in MUON_SETTINGS})
    tasks = {
        DEMO: (build(params), share),
        "half of the batch": (build(params), share // 2),
        "the published stem": (build(params, stem=PUBLISHED_STEM), share),
        "both, as it was": (build(params, stem=PUBLISHED_STEM), share // 2),
        "RMSprop": (build(params, optimizer=RMSpropParams(name="rmsprop", weight_decay=0.0)), share),
        "torch.optim.Muon": (one_by_one, share),
        "torch.compile": (compiled, share),
    }
    seconds = in_turns(
        {name: steps(params, task, batch) for name, (task, batch) in tasks.items()}, options.rounds
    )
    per_image = {name: seconds[name] / (STEPS * batch) for name, (_, batch) in tasks.items()}
    rate = {name: float(1 / np.median(values)) for name, values in per_image.items()}
    share_of_demo = {name: spread(per_image[DEMO] / values) for name, values in per_image.items()}
    setting = (
        f"input {params.multi.input_size} px, {params.train.precision}, batch {share}, one process's share"
    )
    lines = [
        f"# A small network's training step: {TASK}",
        "",
        f"Stem {params.task(TASK).network.stem}, {setting}.",
        f"One thread, variants in turns, {options.rounds} rounds. Ratios are of CPU time an image in"
        " a round: median (middle half).",
        "",
        "| | images per second | share of the demo's rate |",
        "|---|---|---|",
        *(f"| {name} | {rate[name]:.1f} | {shown(share_of_demo[name])} |" for name in tasks),
    ]
    write(
        "small_step",
        {"threads": 1, "images_per_second": rate, "share_of_demo": share_of_demo},
        "\n".join(lines) + "\n",
    )


def build(params: Params, *, stem: list[int] | None = None, optimizer: RMSpropParams | None = None) -> Task:
    """The task in training, with another stem or optimizer if one is given."""
    spec = params.tasks[TASK]
    network = spec.network.model_copy(update={"stem": stem or spec.network.stem})
    changed = spec.model_copy(update={"network": network, "optimizer": optimizer or spec.optimizer})
    task = noise_task(params.model_copy(update={"tasks": params.tasks | {TASK: changed}}), TASK)
    task.net.train()
    return task


class OneByOne(Muon):
    """Muon as torch has it: each matrix by itself, orthogonalised in bfloat16."""

    def _muon(self, group: dict[str, Any], weights: list[Tensor], grads: list[Tensor]) -> None:
        inner: torch.optim.Muon | None = group.get("inner")
        if inner is None:
            matrices = [weight.detach().permute(0, 2, 3, 1).flatten(1) for weight in weights]
            inner = group["inner"] = torch.optim.Muon(matrices, lr=group["lr"], weight_decay=0.0)
        [settings] = inner.param_groups
        settings["lr"] = group["lr"]
        for matrix, grad in zip(settings["params"], grads, strict=True):
            matrix.grad = grad.permute(0, 2, 3, 1).flatten(1)
        inner.step()


def steps(params: Params, task: Task, batch: int) -> Callable[[], None]:
    """`STEPS` of them on a batch that lies ready, far within the warm-up: the weights hardly move."""
    ready = noise(params, TASK, batch)

    def run() -> None:
        for _ in range(STEPS):
            task.step(ready, done=0, steps=1_000_000)

    return run


if __name__ == "__main__":
    main()
