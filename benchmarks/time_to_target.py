"""CPU seconds of training until the metrics reach a target: recipes, each with several seeds.

    python benchmarks/time_to_target.py [--seeds 3] [--folder FOLDER]     in a workspace with prepared data

FOLDER keeps the runs with their logs; one that is there is not run again. The seconds are those of
`pose train`, all of its processes, from its start to written weights. A recipe reaches its target if the
mean of its seeds does, on what training never saw.
"""

from __future__ import annotations

import argparse
import json
import resource
import shutil
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path
from statistics import mean, pstdev
from typing import Any

from common import write
from ruamel.yaml import YAML
from tqdm import tqdm

from pose.io.git import run_git

TARGETS = {"hgpose": ("PCKh@0.5", 68.0), "hgpose-ae": ("AP", 0.37)}
# Of each target, CPU seconds that are aimed at.
AIMS = {"hgpose": 150, "hgpose-ae": 200}


@dataclass(frozen=True)
class Recipe:
    """changes: of the task's parameters."""

    task: str
    name: str
    changes: dict[str, Any] = field(default_factory=dict)


RECIPES = (
    Recipe("hgpose", "the demo"),
    Recipe("hgpose", "6 epochs", {"epochs": 6}),
    Recipe("hgpose", "7 epochs", {"epochs": 7}),
    Recipe("hgpose-ae", "the demo"),
    Recipe("hgpose-ae", "7 epochs", {"epochs": 7}),
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--folder", type=Path, default=Path("build/time_to_target"))
    parser.add_argument("--task", help="only train its recipes, beside a process for those of the other")
    options = parser.parse_args()
    seeds, revision = range(1, options.seeds + 1), run_git("rev-parse", "--short", "HEAD")
    recipes = [recipe for recipe in RECIPES if options.task in (None, recipe.task)]
    with tqdm(total=len(recipes) * len(seeds), unit="run") as bar:
        found = [
            [outcome(recipe, seed, options.folder / revision, bar) for seed in seeds] for recipe in recipes
        ]
    if options.task:
        return
    lines = [
        "# Time to a target",
        "",
        f"Of training, and metrics on what it never saw; {options.seeds} seeds, revision {revision}.",
        "",
        "| task | recipe | CPU seconds | aim | metric of each seed | mean (deviation) | target |",
        "|---|---|---|---|---|---|---|",
    ]
    result = []
    for recipe, outcomes in zip(RECIPES, found, strict=True):
        metric, target = TARGETS[recipe.task]
        seconds, values = zip(*outcomes, strict=True)
        each = ", ".join(f"{value:.4g}" for value in values)
        reached = "reached" if mean(values) >= target else "missed"
        cells = (
            *(f"`{recipe.task}`", recipe.name, f"{mean(seconds):.0f}", AIMS[recipe.task], f"{metric} {each}"),
            *(f"{mean(values):.4g} ({pstdev(values):.2g})", f"{target:g}, {reached}"),
        )
        lines.append(f"| {' | '.join(map(str, cells))} |")
        result.append({**vars(recipe), "cpu_seconds": seconds, metric: values})
    write("time_to_target", {"revision": revision, "recipes": result}, "\n".join(lines) + "\n")


def outcome(recipe: Recipe, seed: int, folder: Path, bar: tqdm) -> tuple[float, float]:
    """CPU seconds and the metric of one run, which is made if its folder has no result."""
    run = folder / f"{recipe.task} {recipe.name} {seed}".replace(" ", "-")
    result = run / "result.json"
    if not result.exists():
        _make_workspace(run, recipe, seed)
        before = _cpu_seconds()
        _run(run, "train", recipe.task)
        seconds = _cpu_seconds() - before
        _run(run, "evaluate", recipe.task)
        summary = json.loads((run / f"metrics/summary/{recipe.task}.json").read_text(encoding="utf-8"))
        value = summary[recipe.task][TARGETS[recipe.task][0]]
        result.write_text(json.dumps({"cpu_seconds": seconds, "value": value}), encoding="utf-8")
    content = json.loads(result.read_text(encoding="utf-8"))
    bar.update()
    return content["cpu_seconds"], content["value"]


def _make_workspace(run: Path, recipe: Recipe, seed: int) -> None:
    """A folder with the recipe's parameters and the prepared data and operator of this one."""
    shutil.rmtree(run, ignore_errors=True)
    (run / "data").mkdir(parents=True)
    for name in ("data/prepared", "build"):
        (run / name).symlink_to(Path(name).resolve())
    values = YAML().load(Path("params.yaml"))
    values["seed"], values["evaluate"]["refine"] = seed, {}
    values["tasks"][recipe.task] |= recipe.changes
    YAML().dump(values, run / "params.yaml")


def _run(run: Path, *words: str) -> None:
    with (run / f"{words[0]}.log").open("w") as log:
        command = [sys.executable, "-m", "pose.cli", *words]
        subprocess.run(command, cwd=run, stdout=log, stderr=subprocess.STDOUT, check=True)


def _cpu_seconds() -> float:
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


if __name__ == "__main__":
    main()
