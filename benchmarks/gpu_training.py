"""Training on a GPU: is a step the CPU's, does a whole run work, how long does a step take.

    python benchmarks/gpu_training.py check                 stops at the first difference
    python benchmarks/gpu_training.py run                   all tasks on a few synthetic images, evaluated
    python benchmarks/gpu_training.py real [--data FOLDER]  hgpose and advpose on LSPET, writes gpu_real.json
    python benchmarks/gpu_training.py time [--to FOLDER]    writes FOLDER/gpu_training.{json,md}

`benchmarks/gpu.sh` runs all of it; neither dvc nor mlflow is needed. Without a GPU it runs on the CPU, to try
the script itself: then with `--preset demo --rounds 1`.
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from common import RESULTS, machine
from noise import CPU, noise, noise_task, preset, variant

from pose.data.batch import Batch
from pose.data.prepare.coco import prepare_coco
from pose.data.prepare.lsp_mpii import prepare_lsp_mpii
from pose.data.synthetic import synthesize
from pose.experiments.verify import verify
from pose.inference.batches import select_device
from pose.inference.evaluate import evaluate
from pose.io.paths import PREPARED, TaskPaths
from pose.io.schema import parse, write_yaml
from pose.ops import tag_loss as ops
from pose.params import SyntheticParams
from pose.tasks.task import Task
from pose.training.trainer import train

TASKS = ("hgpose", "advpose", "hgpose-ae", "advpose-ae")
DRAWN = {
    "lsp": {"train": 16, "test": 16},
    "lspet": 32,
    "mpii": {"train": 96, "validation": 16},
    "coco": {"train": 160, "validation": 16},
    "size": 160,
}
WARM = 5  # steps before those that count: memory is asked for, kernels are chosen
TOGETHER = 4  # steps between two looks at the clock
DEVICE = select_device()


def moved(batch: Batch, device: torch.device, image_type: torch.dtype = torch.float32) -> Batch:
    """All that a step reads, on the device."""
    images = tuple(image.to(device, image_type) for image in batch.inputs.images)
    targets = batch.targets.map(lambda tensor: tensor.to(device))
    return Batch(replace(batch.inputs, images=images), targets)


# --- check ---


def check(name: str) -> None:
    """A step's terms and gradients, on the GPU and on the CPU, with the parameters of a preset.

    In float64: what is left is a mistake.
    """
    with tempfile.TemporaryDirectory() as scratch:
        params = preset(name, Path(scratch))
    for task_name in TASKS:
        batch, outcomes = noise(params, task_name, batch=2), []
        for device in (CPU, DEVICE):
            task = noise_task(variant(params, precision="float32", compile=False), task_name, device)
            task.net.double().train()
            if task.adversary:
                task.adversary.net.double()
            terms = task.step(moved(batch, device, torch.float64), done=0, steps=100)
            gradients = torch.cat(
                [
                    parameter.grad.flatten().cpu()
                    for parameter in task.net.parameters()
                    if parameter.grad is not None
                ]
            )
            outcomes.append((torch.stack(list(terms.values())).cpu(), gradients))
        (terms_here, gradients_here), (terms_there, gradients_there) = outcomes
        torch.testing.assert_close(terms_there, terms_here, rtol=1e-5, atol=0)
        away = float((gradients_there - gradients_here).norm() / gradients_here.norm())
        assert away < 1e-4, (
            f"{task_name}: gradients on {DEVICE} are {away:.1g} away from the CPU's"
        )  # the network's answer is in float32
        print(f"{name}, {task_name}: a step on {DEVICE} is the CPU's (gradients to {away:.1g})")


# --- run ---


def whole_run() -> None:
    """All tasks from synthetic images to metrics, with loader workers, in bfloat16; then equal bits."""
    with tempfile.TemporaryDirectory() as scratch:
        os.chdir(scratch)
        params = variant(preset("demo", Path()), precision="bfloat16", workers=2, processes=1)
        params = params.model_copy(update={"multi": params.multi.model_copy(update={"held_out": 16})})
        tasks = {name: params.task(name).model_copy(update={"epochs": 2}) for name in TASKS}
        params = params.model_copy(update={"tasks": params.tasks | tasks})
        synthesize(parse(SyntheticParams, DRAWN, "drawn"), seed=params.seed, root="drawn")
        print(prepare_lsp_mpii("drawn", PREPARED["lsp_mpii"], params=params.prepare, seed=params.seed))
        print(prepare_coco("drawn", PREPARED["coco"], params=params.prepare.coco, seed=params.seed))
        for name in TASKS:
            train(params, name)
            print(name, evaluate(params, name))
        write_yaml("params.yaml", params.model_dump())
        for name in TASKS:
            assert verify(name, steps=8, changes={"train.deterministic": "true"}), (
                f"{name}: not the same bits, see above"
            )


# --- real ---


def real_run(data: Path, folder: Path, epochs: int) -> None:
    """hgpose and advpose on real people (LSPET): PCK@0.2 over steps and seconds, and at the end."""
    with tempfile.TemporaryDirectory() as scratch:
        os.chdir(scratch)
        root = Path("root")
        root.mkdir()
        [source] = [data / name for name in ("LSPET", "lspet") if (data / name).is_dir()]
        (root / "LSPET").symlink_to(source)
        params = variant(preset("real", Path()), precision="bfloat16", workers=8, processes=1)
        single = params.single.model_copy(
            update={"input_size": 256}
        )  # as published; so are the stem and a quarter of the stacks
        network = params.task("hgpose").network.model_copy(
            update={"stacks": 2, "features": 256, "stem": [64, 128, 128]}
        )
        tasks = {
            n: params.task(n).model_copy(update={"epochs": epochs, "network": network})
            for n in ("hgpose", "advpose")
        }
        params = params.model_copy(update={"single": single, "lr": 0.001, "tasks": params.tasks | tasks})
        print(prepare_lsp_mpii(root, PREPARED["lsp_mpii"], params=params.prepare, seed=params.seed))
        found: dict[str, Any] = {}
        for name in tasks:
            train(params, name)
            curve = pd.read_csv(TaskPaths(name).plots / "val.csv").merge(
                pd.read_csv(TaskPaths(name).train_time), on="step"
            )
            found[name] = {"test": evaluate(params, name), "curve": curve.to_dict(orient="list")}
        (folder / "gpu_real.json").write_text(
            json.dumps({"epochs": epochs, "tasks": found, "machine": machine()}, indent=2) + "\n"
        )


# --- time ---


def take_times(folder: Path, name: str, rounds: int, names: Sequence[str]) -> None:
    """Tasks in float32 and bfloat16, as they are and compiled; files are written again after each.

    They keep the rows of other tasks with this preset.
    """
    with tempfile.TemporaryDirectory() as scratch:
        params = preset(name, Path(scratch))
    rows: list[dict[str, Any]] = []
    if (file := folder / "gpu_training.json").is_file():
        earlier = json.loads(file.read_text(encoding="utf-8"))
        rows = [row for row in earlier["rows"] if earlier["preset"] == name and row["task"] not in names]
    for task_name in names:
        batch = moved(noise(params, task_name, params.task(task_name).batch), DEVICE)
        first: dict[str, float] = {}
        for precision in ("float32", "bfloat16"):
            for compiled in (False, True):
                task = noise_task(variant(params, precision=precision, compile=compiled), task_name, DEVICE)
                row: dict[str, Any] = {
                    "task": task_name,
                    "batch": len(batch),
                    "precision": precision,
                    "compiled": compiled,
                }
                try:
                    row |= measure(task, batch, rounds)
                except torch.cuda.OutOfMemoryError:
                    row["error"] = "out of memory"
                rows.append(row)
                print(row, flush=True)
                write(folder, name, rounds, rows)
                if "loss" in row:  # of the untrained network, so the same whether it is compiled or not
                    away = abs(row["loss"] / first.setdefault(precision, row["loss"]) - 1)
                    assert away < 0.02, (
                        f"{task_name} {precision}: compiled, the first loss is {100 * away:.1f} % away"
                    )
                del task
                torch.compiler.reset()
                if DEVICE.type == "cuda":
                    torch.cuda.empty_cache()


def measure(task: Task, batch: Batch, rounds: int) -> dict[str, float]:
    """Seconds of the first step (which compiles), milliseconds of the later ones, memory at its peak."""
    on_gpu = DEVICE.type == "cuda"
    if on_gpu:
        torch.cuda.reset_peak_memory_stats()
    task.net.train()

    def seconds(count: int) -> tuple[float, float]:
        """The last loss, and the seconds of a step; as in training, the host waits only to fetch a loss."""
        started = time.perf_counter()
        for _ in range(count):
            loss = task.step(batch, done=0, steps=1_000_000)["loss"]
        return float(loss), (time.perf_counter() - started) / count

    loss, first_seconds = seconds(1)
    seconds(WARM)
    low, middle, high = np.quantile([seconds(TOGETHER)[1] for _ in range(rounds)], [0.25, 0.5, 0.75]).tolist()
    return {
        "milliseconds": 1000 * middle,
        "low": 1000 * low,
        "high": 1000 * high,
        "images_per_second": len(batch) / middle,
        "first_step_seconds": first_seconds,
        "gigabytes": torch.cuda.max_memory_allocated() / 1e9 if on_gpu else 0.0,
        "loss": loss,
    }


def write(folder: Path, name: str, rounds: int, rows: list[dict[str, Any]]) -> None:
    """`gpu_training.json` and `gpu_training.md`."""
    facts = machine() | (
        {"gpu": torch.cuda.get_device_name(), "cuda": torch.version.cuda or ""}
        if DEVICE.type == "cuda"
        else {}
    )
    tag_loss = "our operator" if DEVICE.type in ops.load() else "pure PyTorch"
    text = f"""# Training steps on {"a GPU" if DEVICE.type == "cuda" else "the CPU"}

Preset `{name}`, batches of noise that lie ready on the device; {rounds} rounds of {TOGETHER} steps after
{WARM + 1}: median (range of the middle half). The first step compiles. On a GPU float32 convolves
with TF32, as torch does by default. The tag loss of `hgpose-ae` is {tag_loss}.

| task | batch | precision | compiled | milliseconds a step | images per second | first step, s | memory, GB |
|---|---|---|---|---|---|---|---|
"""
    for row in rows:
        text += (
            f"| {row['task']} | {row['batch']} | {row['precision']} | {'yes' if row['compiled'] else 'no'} | "
        )
        if "error" in row:
            text += f"{row['error']} | | | |\n"
            continue
        text += f"{row['milliseconds']:.1f} ({row['low']:.1f} to {row['high']:.1f}) | "
        text += f"{row['images_per_second']:.1f} | "
        text += f"{row['first_step_seconds']:.1f} | {row['gigabytes']:.1f} |\n"
    text += "\n" + ", ".join(f"{key} {value}" for key, value in facts.items()) + "\n"
    folder.mkdir(parents=True, exist_ok=True)
    content = {"preset": name, "rounds": rounds, "rows": rows, "machine": facts}
    (folder / "gpu_training.json").write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
    (folder / "gpu_training.md").write_text(text, encoding="utf-8")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("what", choices=["check", "run", "real", "time"])
    parser.add_argument("--preset", default="paper")
    parser.add_argument("--rounds", type=int, default=10, help=f"of {TOGETHER} steps, that are timed")
    parser.add_argument(
        "--data", type=Path, default=Path("../shared/data"), help="of `real`: the folder that holds lspet"
    )
    parser.add_argument("--epochs", type=int, default=20, help="of `real`, of each task")
    parser.add_argument("--task", choices=TASKS, help="of `time`: this one alone")
    parser.add_argument("--to", type=Path, default=RESULTS)
    arguments = parser.parse_args()
    if arguments.what == "check":
        check(arguments.preset)
    elif arguments.what == "run":
        whole_run()
    elif arguments.what == "real":
        real_run(arguments.data.resolve(), arguments.to.resolve(), arguments.epochs)
    else:
        names = [arguments.task] if arguments.task else TASKS
        take_times(arguments.to.resolve(), arguments.preset, arguments.rounds, names)


if __name__ == "__main__":
    main()
