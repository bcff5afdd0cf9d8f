"""The training step beside the network alone.

Images per second of one thread, for the demo's network and for the paper's.

    python benchmarks/train_step.py [--rounds 15] [--paper-rounds 3] [--name train_step]

The limit is the network's own forward and backward pass on a batch that lies ready; a step adds the loss, the
optimiser and, with data, the whole data path. Pictures are noise: their content makes no difference to the
time. Data are those of benchmarks/data_path.py.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Callable, Iterator
from itertools import cycle
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from common import in_turns, shown, spread, write
from noise import CPU, noise, noise_task, preset, variant
from torch import Tensor

from pose.data.batch import Batch
from pose.data.loader import Loader, ResumableBatchSampler
from pose.data.prepare.lsp_mpii import prepare_lsp_mpii
from pose.data.synthetic import synthesize
from pose.io.schema import parse
from pose.params import Params, SyntheticParams
from pose.tasks.task import Task, open_data

DRAWN = {
    "lsp": {"train": 60, "test": 60},
    "lspet": 0,
    "mpii": {"train": 0, "validation": 0},
    "coco": {"train": 0, "validation": 0},
    "size": 160,
}
LIMIT = "forward + backward alone"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=15, help="of the demo's network")
    parser.add_argument("--paper-rounds", type=int, default=3, help="of the paper's; a round takes a minute")
    parser.add_argument("--name", default="train_step", help="of the files in benchmarks/results")
    options = parser.parse_args()

    cv2.setNumThreads(0)
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as scratch:
        demo, paper = preset("demo", Path(scratch)), preset("paper", Path(scratch))
        root, prepared = Path(scratch) / "drawn", Path(scratch) / "lsp_mpii.h5"
        synthesize(parse(SyntheticParams, DRAWN, "drawn"), seed=1, root=root)
        prepare_lsp_mpii(root, prepared, params=demo.prepare, seed=demo.seed)
        networks = {
            "demo": compare(
                demo, prepared, batch=demo.task("hgpose").batch // 2, steps=4, rounds=options.rounds
            ),
            "paper": compare(paper, prepared, batch=1, steps=1, rounds=options.paper_rounds),
        }
    write(options.name, {"threads": 1, "networks": networks}, report(networks))


def compare(params: Params, prepared: Path, *, batch: int, steps: int, rounds: int) -> dict[str, Any]:
    """`steps` batches of each variant a round, in turns. batch: of one process."""
    ready = noise(params, "hgpose", batch)

    def task(**train: Any) -> Task:
        built = noise_task(variant(params, **train), "hgpose")
        built.net.train()
        return built

    own = task()
    variants: dict[str, Callable[[], object]] = {
        "forward alone": lambda: forward(own, ready, steps),
        LIMIT: lambda: forward_backward(own, ready, steps),
        "step": lambda: step(own, cycle([ready]), steps),
        "step with its data": lambda: step(own, batches, steps),
        "step, contiguous instead of channels last": lambda: step(contiguous, cycle([ready]), steps),
        "step, bfloat16": lambda: step(half, cycle([ready]), steps),
    }
    contiguous, half = task(channels_last=False), task(precision="bfloat16")
    data = open_data(params.single, prepared)
    rows = data.rows("train")
    keys = ResumableBatchSampler(len(rows), batch, seed=params.seed, start=0, stop=steps * (rounds + 1))
    dataset = data.dataset(rows, seed=params.seed)
    batches = (raw.to(CPU) for raw in Loader(dataset, keys, workers=0))
    seconds = in_turns(variants, rounds)
    return {
        "network": params.task("hgpose").network.model_dump(),
        "weights": sum(parameter.numel() for parameter in own.net.parameters()),
        "input_px": params.single.input_size,
        "batch": batch,
        "rounds": rounds,
        "images_per_second": {
            name: float(batch * steps / np.median(values)) for name, values in seconds.items()
        },
        "share_of_limit": {name: spread(seconds[LIMIT] / values) for name, values in seconds.items()},
    }


def forward(task: Task, batch: Batch, steps: int) -> None:
    """The network without gradients."""
    with torch.inference_mode():
        for _ in range(steps):
            task(batch.inputs.image_B3HW)


def forward_backward(task: Task, batch: Batch, steps: int) -> None:
    """The network and its gradients, for the cheapest loss there is."""
    for _ in range(steps):
        output: Tensor = task(batch.inputs.image_B3HW)
        task.net.zero_grad(set_to_none=True)
        output.sum().backward()


def step(task: Task, batches: Iterator[Batch], steps: int) -> None:
    """What training does."""
    for _ in range(steps):
        task.step(next(batches), done=0, steps=1_000_000)  # far within the warm-up: the weights hardly move


def report(networks: dict[str, Any]) -> str:
    """A table for each network."""
    lines = [
        "# Training step",
        "",
        "One thread, variants in turns. Ratios are of CPU time within a round: median (middle half of the"
        " rounds).",
    ]
    for name, result in networks.items():
        network = result["network"]
        lines += [
            "",
            f"## {name}: {network['stacks']} stack{'s' if network['stacks'] > 1 else ''},"
            f" {network['features']} features, stem {network['stem']}, {result['weights']:,} weights",
            "",
            f"Input {result['input_px']} px, batch {result['batch']} (one process's share),"
            f" {result['rounds']} rounds.",
            "",
            "| | images per second | share of the limit's rate |",
            "|---|---|---|",
        ]
        for label, rate in result["images_per_second"].items():
            share = "1 (the limit)" if label == LIMIT else shown(result["share_of_limit"][label])
            lines.append(f"| {label} | {rate:.{1 if rate > 10 else 2}f} | {share} |")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    main()
