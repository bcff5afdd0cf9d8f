"""What a second process brings, and a second training.

Images per second of one process of one thread, one of two threads, two of one thread each that share a batch,
and of two trainings at a time, each of one process of one thread.

    python benchmarks/processes.py [--rounds 5] [--steps 40] [--name processes]

All four tasks at the demo's sizes, the batch shared by the processes as in training, gradients exchanged over
gloo, the adversary active in every step. Wall clock, since processes wait for each other: run it on a
machine that does nothing else. The limit is twice the first.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import torch
from common import shown, spread, write
from noise import noise, noise_task, preset, variant

from pose.params import Params
from pose.training.distributed import Ranks, process_group

TASKS = ("hgpose", "advpose", "hgpose-ae", "advpose-ae")
WAYS = {
    "one process, one thread": (1, 1, 1),  # processes, threads of each, trainings at a time
    "one process, two threads": (1, 2, 1),
    "two processes, one thread each": (2, 1, 1),
    "two trainings at a time, one thread each": (1, 1, 2),
}
FIRST, *OTHERS = WAYS


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--steps", type=int, default=40, help="of each way and task in a round")
    parser.add_argument("--name", default="processes", help="of the files in benchmarks/results")
    parser.add_argument(
        "--work", type=int, default=0, help=argparse.SUPPRESS
    )  # threads: this is one of the processes measured
    options = parser.parse_args()
    if options.work:
        return work(options.work, options.steps)
    rates: dict[str, dict[str, list[float]]] = {task: {way: [] for way in WAYS} for task in TASKS}
    for _ in range(options.rounds):
        for way, (processes, threads, at_a_time) in WAYS.items():
            with ThreadPoolExecutor(at_a_time) as pool:
                runs = [pool.submit(measured, processes, threads, options.steps) for _ in range(at_a_time)]
            for task in TASKS:
                rates[task][way].append(sum(run.result()[task] for run in runs))
    tasks = {
        task: {
            "images_per_second": {way: float(np.median(values)) for way, values in of_way.items()},
            "over_one": {way: spread(np.array(of_way[way]) / np.array(of_way[FIRST])) for way in OTHERS},
        }
        for task, of_way in rates.items()
    }
    write(options.name, {"rounds": options.rounds, "steps": options.steps, "tasks": tasks}, report(tasks))


def measured(processes: int, threads: int, steps: int) -> dict[str, float]:
    """Images a second of each task, in processes of their own."""
    command = [
        "torch.distributed.run",
        "--standalone",
        f"--nproc-per-node={processes}",
        __file__,
        f"--work={threads}",
        f"--steps={steps}",
    ]
    done = subprocess.run(
        [sys.executable, "-m", *command],
        capture_output=True,
        text=True,
        check=True,
        env=os.environ | {"OMP_NUM_THREADS": str(threads)},
    )
    found: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return found


def work(threads: int, steps: int) -> None:
    """Take the steps of every task; the first process prints its rates."""
    torch.set_num_threads(threads)
    with tempfile.TemporaryDirectory() as scratch:
        params = variant(preset("demo", Path(scratch)), threads=threads)
    with process_group(600) as ranks:
        rates = {name: rate(params, name, ranks, steps) for name in TASKS}
        if ranks.is_main:
            print(json.dumps(rates))


def rate(params: Params, name: str, ranks: Ranks, steps: int) -> float:
    """Images a second that all processes take together."""
    batch = params.task(name).batch
    task, ready = noise_task(params, name), noise(params, name, batch // ranks.count)
    task.net.train()
    task.run = ranks.wrap(task.net)
    if task.adversary:
        task.adversary.mean = ranks.mean

    def seconds(count: int) -> float:
        started = time.perf_counter()
        for _ in range(count):
            task.step(
                ready, done=999_999, steps=1_000_000
            )  # late in the run: the adversary is active, the rate next to nothing
        return time.perf_counter() - started

    seconds(3)
    return batch * steps / seconds(steps)


def report(tasks: dict[str, Any]) -> str:
    """The table that is committed."""
    lines = [
        "# Processes",
        "",
        "The demo's sizes. Ratios to one process of one thread within a round: median (middle half of the"
        " rounds).",
        "",
    ]
    lines += [
        "| task | images a second, " + FIRST + " | " + " | ".join(OTHERS) + " |",
        "| --- | --- |" + " --- |" * len(OTHERS),
    ]
    for name, found in tasks.items():
        ratios = " | ".join(shown(found["over_one"][way]) for way in OTHERS)
        lines.append(f"| {name} | {found['images_per_second'][FIRST]:.0f} | {ratios} |")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    main()
