"""Does a long training grow? Memory, open files, threads and processes of one, sampled from outside.

    python benchmarks/memory.py [--task advpose-ae] [--minutes 30] [--prepared PATH] [--to FOLDER]

Trains with the parameters of params.yaml, one process and two loader workers, MLflow and checkpoints as ever,
until the time is over; what the first fifth of it needs to warm up is left out. Writes
FOLDER/memory.{json,md} (default: benchmarks/results), and each look into memory.csv: a slope alone does not
tell a leak from one step between two levels.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import pandas as pd
import psutil
from common import RESULTS, machine
from tqdm import tqdm

from pose.io.paths import TaskPaths
from pose.io.schema import write_yaml
from pose.params import load_params, parse_params

EVERY = 5.0  # seconds between two looks
WARM = 0.2  # of the time
ROOT = Path(__file__).resolve().parents[1]


def look(process: psutil.Process) -> dict[str, float]:
    """Of the process and all that it has started.

    Resident memory of its own and of them (MB), file descriptors, threads, processes.
    """
    family = [process]
    family += [child for child in process.children(recursive=True) if child.status() != psutil.STATUS_ZOMBIE]
    with process.oneshot():
        return {
            "main_mb": process.memory_info().rss / 2**20,
            "all_mb": sum(member.memory_info().rss for member in family) / 2**20,
            "files": process.num_fds(),
            "threads": process.num_threads(),
            "processes": len(family),
        }


def watch(task: str, minutes: float, prepared: Path | None) -> pd.DataFrame:
    """One row a look."""
    params = load_params(ROOT / "params.yaml")
    values = params.model_dump()
    values["tasks"][task]["epochs"] = 10**6
    values["train"] |= {"processes": 1, "workers": 2, "checkpoint_every": 50}
    rows = []
    with tempfile.TemporaryDirectory(prefix="pose-memory-") as name:
        folder = Path(name)
        write_yaml(folder / "params.yaml", parse_params(values).model_dump())
        place = params.prepared(task)
        (folder / place).parent.mkdir(parents=True)
        (folder / place).symlink_to((prepared or ROOT / place).resolve())
        environment = {
            key: value for key, value in os.environ.items() if not key.startswith(("MLFLOW", "DVC"))
        }
        environment |= {"PYTHONPATH": str(ROOT), "POSE_BUILD": str(ROOT / "build")}
        command = [sys.executable, "-m", "stages.train", task]
        with (folder / "log.txt").open("w") as log:
            process = subprocess.Popen(command, cwd=folder, env=environment, stdout=log, stderr=log)
        try:
            started = time.monotonic()
            with tqdm(total=round(60 * minutes), unit="s") as bar:
                while (seconds := time.monotonic() - started) < 60 * minutes:
                    if process.poll() is not None:
                        said = (folder / "log.txt").read_text()[-500:]
                        sys.exit(f"error: training ended with status {process.returncode}: {said}")
                    history = folder / TaskPaths(task).plots / "train.csv"
                    steps = (
                        int(pd.read_csv(history)["step"].max())
                        if history.exists() and history.stat().st_size > 1
                        else 0
                    )
                    rows.append(
                        {"seconds": round(seconds, 1), "steps": steps, **look(psutil.Process(process.pid))}
                    )
                    time.sleep(EVERY)
                    bar.update(round(time.monotonic() - started) - bar.n)
        finally:
            process.send_signal(signal.SIGTERM)
            process.wait()
    return pd.DataFrame(rows)


def main() -> None:
    """Watch, and write what was seen."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--task", default="advpose-ae")
    parser.add_argument("--minutes", type=float, default=30)
    parser.add_argument("--prepared", type=Path)
    parser.add_argument("--to", type=Path, default=RESULTS)
    options = parser.parse_args()
    table = watch(options.task, options.minutes, options.prepared)
    warm = table[table["seconds"] > WARM * 60 * options.minutes]
    fifth = max(1, len(warm) // 5)
    rows = {
        name: {
            "first": float(warm[name].head(fifth).median()),
            "last": float(warm[name].tail(fifth).median()),
            "most": float(warm[name].max()),
            "slope_per_hour": float(np.polyfit(warm["seconds"], warm[name], 1)[0] * 3600),
        }
        for name in ("main_mb", "all_mb", "files", "threads", "processes")
    }
    found = {
        "machine": machine(),
        "task": options.task,
        "minutes": options.minutes,
        "steps": int(table["steps"].max()),
        "seen": rows,
    }
    options.to.mkdir(parents=True, exist_ok=True)
    table.round(1).to_csv(options.to / "memory.csv", index=False)
    (options.to / "memory.json").write_text(json.dumps(found, indent=2) + "\n")
    lines = [
        f"# {options.task}: {options.minutes:g} minutes, {found['steps']:,} steps, two loader workers",
        "",
        "| | first fifth | last fifth | most | slope an hour |",
        "|---|---|---|---|---|",
        *(
            f"| {name} | {row['first']:.1f} | {row['last']:.1f} | {row['most']:.1f} |"
            f" {row['slope_per_hour']:+.2f} |"
            for name, row in rows.items()
        ),
        "",
        f"Medians after a warm-up of {WARM:.0%} of the time. mb: resident memory of the training process,"
        " and of all its processes.",
    ]
    (options.to / "memory.md").write_text("\n".join(lines) + "\n")
    print("\n".join(lines))


if __name__ == "__main__":
    main()
