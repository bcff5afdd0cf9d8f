"""The training step beside the network alone.

Images per second of one thread, for the demo's network and for the paper's.

    python benchmarks/train_step.py [--rounds 15] [--paper-rounds 3] [--name train_step]

Two limits: the network's own forward and backward pass on a batch that lies ready, and, harder, each of its
convolutions alone, with the shapes that it has in the network: what this machine needs for the arithmetic. A
step adds normalisation, activations, additions, the loss, the optimizer and, with data, the whole data path.
Pictures are noise: their content makes no difference to the time. Data are those of benchmarks/data_path.py.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import cycle
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from common import in_turns, shown, spread, write
from noise import CPU, noise, noise_task, preset, variant
from torch import Tensor, nn

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
CONVOLUTIONS = "its convolutions alone, forward + backward"


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
            "demo": compare(demo, prepared, batch=demo.task("hgpose").batch, steps=4, rounds=options.rounds),
            "paper": compare(paper, prepared, batch=1, steps=1, rounds=options.paper_rounds),
        }
    write(options.name, {"threads": 1, "networks": networks}, report(networks))


def compare(params: Params, prepared: Path, *, batch: int, steps: int, rounds: int) -> dict[str, Any]:
    """`steps` batches of each variant a round, in turns."""
    ready = noise(params, "hgpose", batch)

    def task(**train: Any) -> Task:
        built = noise_task(variant(params, **train), "hgpose")
        built.net.train()
        return built

    own = task()
    computed, other = ("bfloat16", "float32") if own.autocast else ("float32", "bfloat16")
    calls = convolutions(own, ready)
    variants: dict[str, Callable[[], object]] = {
        CONVOLUTIONS: lambda: convolve(calls, steps),
        "forward alone": lambda: forward(own, ready, steps),
        LIMIT: lambda: forward_backward(own, ready, steps),
        "step": lambda: step(own, cycle([ready]), steps),
        "step with its data": lambda: step(own, batches, steps),
        "step, contiguous instead of channels last": lambda: step(contiguous, cycle([ready]), steps),
        f"step, {other}": lambda: step(in_other, cycle([ready]), steps),
    }
    contiguous, in_other = task(channels_last=False), task(precision=other)
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
        "precision": computed,
        "batch": batch,
        "rounds": rounds,
        "images_per_second": {
            name: float(batch * steps / np.median(values)) for name, values in seconds.items()
        },
        "share_of_limit": {name: spread(seconds[LIMIT] / values) for name, values in seconds.items()},
        "share_of_convolutions": {
            name: spread(seconds[CONVOLUTIONS] / values) for name, values in seconds.items()
        },
    }


@dataclass(frozen=True)
class Convolution:
    """One of the network's, in the precision that it is computed in; what goes in and what comes back."""

    module: nn.Conv2d
    input_BChw: Tensor
    grad_BDhw: Tensor
    weight: Tensor
    bias: Tensor | None
    is_first: bool  # images need no gradient


def convolutions(task: Task, batch: Batch) -> list[Convolution]:
    """Those of a forward pass, in its order, with tensors as they lie in memory there."""
    calls: list[Convolution] = []

    def note(module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        assert isinstance(module, nn.Conv2d)
        weight, bias, dtype = module.weight, module.bias, output.dtype
        tensors = inputs[0].to(dtype), torch.ones_like(output), weight.to(dtype)
        calls.append(Convolution(module, *tensors, None if bias is None else bias.to(dtype), not calls))

    hooks = [one.register_forward_hook(note) for one in task.net.modules() if isinstance(one, nn.Conv2d)]
    with torch.no_grad():
        task(batch.inputs.image_B3HW)
    for hook in hooks:
        hook.remove()
    return calls


def convolve(calls: list[Convolution], steps: int) -> None:
    """Output, gradient of the input and gradients of the weights, of each."""
    aten = torch.ops.aten
    with torch.no_grad():
        for call in calls * steps:
            one, bias = call.module, call.bias
            how = one.stride, one.padding, one.dilation, False, [0, 0], one.groups
            aten.convolution(call.input_BChw, call.weight, bias, *how)
            aten.convolution_backward(
                call.grad_BDhw,
                call.input_BChw,
                call.weight,
                None if bias is None else list(bias.shape),
                *how,
                [not call.is_first, True, bias is not None],
            )


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
            f"Input {result['input_px']} px, batch {result['batch']}, {result['precision']},"
            f" {result['rounds']} rounds.",
            "",
            "| | images per second | share of the network's rate | of its convolutions' |",
            "|---|---|---|---|",
        ]
        for label, rate in result["images_per_second"].items():
            shares = [
                "1" if label == limit else shown(result[f"share_of_{key}"][label])
                for key, limit in (("limit", LIMIT), ("convolutions", CONVOLUTIONS))
            ]
            lines.append(f"| {label} | {rate:.{1 if rate > 10 else 2}f} | {' | '.join(shares)} |")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    main()
