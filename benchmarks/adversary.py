"""What the adversary costs.

A step of each adversarial task beside one of the task that it is like, on one thread.

    python benchmarks/adversary.py [--rounds 15] [--name adversary]

The adversary is active in every step, which in the demo it is not before `start_fraction`. Images are
noise: their content makes no difference.
"""

from __future__ import annotations

import argparse
import tempfile
from itertools import cycle
from pathlib import Path
from typing import Any

import numpy as np
import torch
from common import in_turns, shown, spread, write
from noise import noise, noise_task, preset
from train_step import step

from pose.params import Params
from pose.tasks.task import Task

PAIRS = {"advpose": "hgpose", "advpose-ae": "hgpose-ae"}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--name", default="adversary", help="of the files in benchmarks/results")
    options = parser.parse_args()

    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as scratch:
        params = preset("demo", Path(scratch))
    tasks = {played: compare(params, played, plain, rounds=options.rounds) for played, plain in PAIRS.items()}
    write(options.name, {"threads": 1, "tasks": tasks}, report(tasks))


def compare(params: Params, played: str, plain: str, *, rounds: int) -> dict[str, Any]:
    """Four steps of either a round, in turns."""
    spec = params.task(played)
    assert spec.adversary
    always = spec.adversary.model_copy(update={"start_fraction": 0.0})
    params = params.model_copy(
        update={"tasks": params.tasks | {played: spec.model_copy(update={"adversary": always})}}
    )
    batch = spec.batch // 2  # of one process
    ready = noise(params, played, batch)
    seconds = in_turns({name: stepping(noise_task(params, name), ready) for name in (plain, played)}, rounds)
    return {
        "network": always.network.model_dump(),
        "batch": batch,
        "rounds": rounds,
        "images_per_second": {name: float(4 * batch / np.median(values)) for name, values in seconds.items()},
        "step_over_plain": spread(seconds[played] / seconds[plain]),
    }


def stepping(task: Task, ready: Any) -> Any:
    """Four steps on that batch, when called."""
    task.net.train()
    return lambda: step(task, cycle([ready]), 4)


def report(tasks: dict[str, Any]) -> str:
    """The table that is committed."""
    lines = [
        "# Steps with and without an adversary",
        "",
        "One thread, the demo's networks, the adversary active in every step.",
        "",
    ]
    lines += [
        "| task | images a second | plain task | step over the plain task's |",
        "| --- | --- | --- | --- |",
    ]
    for name, found in tasks.items():
        rates = found["images_per_second"]
        lines.append(
            f"| {name} | {rates[name]:.0f} | {rates[PAIRS[name]]:.0f} | {shown(found['step_over_plain'])} |"
        )
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    main()
