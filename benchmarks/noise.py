"""Batches of noise, as the data path gives them, and the parameters that they are made by.

What several benchmarks begin with.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch

from pose.data.multi_samples import MultiTargets, RawMultiBatch
from pose.data.single_samples import Batch, RawBatch
from pose.experiments.presets import apply_preset
from pose.keypoints.geometry import STRIDE
from pose.keypoints.skeleton import COCO, MPII
from pose.params import Params, load_params

ROOT = Path(__file__).resolve().parents[1]
PEOPLE = 5  # in each picture
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


def noise(params: Params, name: str, batch: int) -> Batch | MultiTargets:
    """A batch as the data path gives it, of noise, on the CPU."""
    if params.task(name).problem == "single":
        return one_person(params, batch)
    size, joints, rng = params.multi.input, len(COCO), np.random.default_rng(0)
    cells = size // STRIDE
    cell_BPK = rng.integers(0, cells**2, (batch, PEOPLE, joints))
    cell_BPK[rng.random(cell_BPK.shape) < 0.2] = -1
    raw = RawMultiBatch(
        image_BHW3=torch.from_numpy(rng.integers(0, 256, (batch, size, size, 3), dtype=np.uint8)),
        heatmap_BKhw=torch.from_numpy(rng.random((batch, joints, cells, cells), dtype=np.float32)),
        mask_Bhw=torch.ones(batch, cells, cells, dtype=torch.uint8),
        cell_BPK=torch.from_numpy(cell_BPK),
        affine_B23=torch.eye(2, 3).expand(batch, 2, 3),
        row_B=torch.arange(batch),
        others=(),
    )
    return raw.to(CPU)


def one_person(params: Params, batch: int) -> Batch:
    """The same of a single-person task."""
    size, joints, rng = params.single.input, len(MPII), np.random.default_rng(0)
    cells = size // STRIDE
    return RawBatch(
        image_BHW3=torch.from_numpy(rng.integers(0, 256, (batch, size, size, 3), dtype=np.uint8)),
        gain_B3=torch.ones(batch, 3),
        heatmap_BKhw=torch.from_numpy(rng.random((batch, joints, cells, cells), dtype=np.float32)),
        mask_BK=torch.ones(batch, joints),
        affine_B23=torch.eye(2, 3).expand(batch, 2, 3),
        row_B=torch.arange(batch),
    ).to(CPU)
