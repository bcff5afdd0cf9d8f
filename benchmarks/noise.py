"""Batches of noise, as the data path gives them, and the parameters that they are made by.

What several benchmarks begin with.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch

from pose.data.batch import Batch, Inputs, MultiTargets, SingleTargets
from pose.experiments.presets import apply_preset
from pose.keypoints.geometry import STRIDE
from pose.keypoints.skeleton import Skeleton, built_in
from pose.params import Params, load_params
from pose.tasks.task import Task, build_task

ROOT = Path(__file__).resolve().parents[1]
PEOPLE = 5  # in each image
CPU = torch.device("cpu")


def preset(name: str, folder: Path) -> Params:
    """The parameters that `pose preset NAME` gives, written elsewhere."""
    path = folder / f"{name}.yaml"
    path.write_text((ROOT / "params.yaml").read_text(encoding="utf-8"), encoding="utf-8")
    apply_preset(name, path, ROOT / "presets")
    return load_params(path)


def variant(params: Params, **train: Any) -> Params:
    """The same with other values in section `train`."""
    return params.model_copy(update={"train": params.train.model_copy(update=train)})


def skeleton(params: Params, name: str) -> Skeleton:
    """Of the data set that a task trains on."""
    return built_in({"single": "mpii", "multi": "coco"}[params.task(name).problem])


def noise_task(params: Params, name: str, device: torch.device = CPU) -> Task:
    """A task as training builds it."""
    return build_task(params, name, skeleton=skeleton(params, name), device=device)


def noise(params: Params, name: str, batch: int) -> Batch:
    """A batch as the data path gives it, of noise, on the CPU."""
    kind, joints, rng = params.task(name).problem, len(skeleton(params, name)), np.random.default_rng(0)
    size = params.problem(name).input_size
    cells = size // STRIDE
    image_BHW3 = torch.from_numpy(rng.integers(0, 256, (batch, size, size, 3), dtype=np.uint8))
    inputs = Inputs((image_BHW3,), torch.eye(2, 3).expand(batch, 2, 3))
    heatmap_BKhw = torch.from_numpy(rng.random((batch, joints, cells, cells), dtype=np.float32))
    if kind == "single":
        return Batch(inputs, SingleTargets(heatmap_BKhw, torch.ones(batch, joints))).to(CPU)
    cell_BPK = rng.integers(0, cells**2, (batch, PEOPLE, joints))
    cell_BPK[rng.random(cell_BPK.shape) < 0.2] = -1
    mask_Bhw = torch.ones(batch, cells, cells, dtype=torch.uint8)
    return Batch(inputs, MultiTargets(heatmap_BKhw, mask_Bhw, torch.from_numpy(cell_BPK))).to(CPU)
