"""What the benchmarks share.

Contestants taken in turns, ratios with their spread, facts about the machine.
"""

from __future__ import annotations

import json
import os
import platform
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch

RESULTS = Path(__file__).resolve().parent / "results"


def in_turns(variants: Mapping[str, Callable[[], object]], rounds: int) -> dict[str, np.ndarray]:
    """CPU seconds of each variant in each round, (rounds,).

    A B C A B C ...: other work on the machine slows all of them, so that ratios within a round hold. CPU
    time, not the clock's: what is measured runs in this process. A first round, not counted, fills caches.
    """
    seconds = {name: np.empty(rounds + 1) for name in variants}
    for number in range(rounds + 1):
        for name, work in variants.items():
            started = time.process_time()
            work()
            seconds[name][number] = time.process_time() - started
    return {name: values[1:] for name, values in seconds.items()}


def spread(ratio: np.ndarray) -> dict[str, float]:
    """Median over the rounds, and the range of the middle half of them."""
    low, middle, high = np.quantile(ratio, [0.25, 0.5, 0.75]).tolist()
    return {"median": middle, "low": low, "high": high}


def shown(ratio: Mapping[str, float], digits: int = 2) -> str:
    """`0.52 (0.50 to 0.55)`."""
    return f"{ratio['median']:.{digits}f} ({ratio['low']:.{digits}f} to {ratio['high']:.{digits}f})"


def machine() -> dict[str, str | int]:
    """Kinds and versions; no name, place or time."""
    cpuinfo = Path("/proc/cpuinfo")
    lines = cpuinfo.read_text().splitlines() if cpuinfo.exists() else []
    models = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return {
        "cpu": models[0] if models else platform.machine(),
        "vectors": torch.backends.cpu.get_cpu_capability(),  # of torch on this CPU: AVX2, AVX512
        "cores": os.cpu_count() or 1,
        "python": platform.python_version(),
        "torch": torch.__version__,
        "opencv": cv2.__version__,
        "numpy": np.__version__,
    }


def write(name: str, result: Mapping[str, Any], text: str) -> None:
    """`results/NAME.json` and `results/NAME.md`, the latter with the machine below; and print it."""
    facts = machine()
    text += "\n" + ", ".join(f"{key} {value}" for key, value in facts.items()) + "\n"
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / f"{name}.json").write_text(
        json.dumps({**result, "machine": facts}, indent=2) + "\n", encoding="utf-8"
    )
    (RESULTS / f"{name}.md").write_text(text, encoding="utf-8")
    print(text)
