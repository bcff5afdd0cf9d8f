"""Recorded losses of the first steps of each task: they hold the arithmetic of training through refactoring.

Computed in float64 and with a small learning rate, because the first steps of RMSprop turn the last bits of
float32 into differences of a percent: other CPUs agree to about 1e-12. After an intended change of the
arithmetic or of params.yaml, write them anew:

    POSE_WRITE_GOLDEN=1 python -m pytest tests/tasks/test_golden.py
"""

import json
import os

import pytest
import torch
from helpers import ROOT, build_cpu_task, with_values
from torch import Tensor

from pose.data.batch import Batch
from pose.params import Params

STEPS = 12
FOLDER = ROOT / "tests" / "golden"


def losses(params: Params, name: str, batch: Batch, dtype: torch.dtype, steps: int) -> list[dict[str, float]]:
    """The terms of each step, from the weights that the seed draws."""
    changes: dict[str, object] = {"train.precision": "float32", "lr": 1e-5}
    if params.task(name).adversary:
        # So that the adversary begins within the steps, and that k_t is not 0.
        adversary = {"start_fraction": 0.25, "gamma": 2.0, "balance_rate": 0.1}
        changes |= {f"tasks.{name}.adversary.{key}": value for key, value in adversary.items()}
    task = build_cpu_task(with_values(params, changes), name)
    for net in [task.net, *([task.adversary.net] if task.adversary else [])]:
        net.to(dtype)

    def converted(tensor: Tensor) -> Tensor:
        return tensor.to(dtype) if tensor.is_floating_point() else tensor

    batch = batch.map(converted)
    rows = (task.step(batch, done=done, steps=STEPS) for done in range(steps))
    return [{term: float(value) for term, value in row.items()} for row in rows]


@pytest.mark.parametrize("name", ["hgpose", "advpose", "hgpose-ae", "advpose-ae"])
def test_losses_of_the_first_steps_are_the_recorded_ones(params, batches, name):
    batch, path = batches[params.task(name).problem], FOLDER / f"{name}.json"
    found = losses(params, name, batch, torch.float64, STEPS)
    if os.environ.get("POSE_WRITE_GOLDEN"):
        path.write_text("[\n" + ",\n".join(json.dumps(row) for row in found) + "\n]\n", encoding="utf-8")
    recorded = json.loads(path.read_text(encoding="utf-8"))
    for step, (row, expected) in enumerate(zip(found, recorded, strict=True)):
        assert row == pytest.approx(expected, rel=1e-7), f"step {step}"
    [first] = losses(params, name, batch, torch.float32, 1)
    assert first == pytest.approx(recorded[0], rel=1e-4)
