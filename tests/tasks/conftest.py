"""Batches made in memory."""

import numpy as np
import pytest
import torch
from helpers import COCO, MPII

from pose.data.batch import Batch, Inputs, MultiTargets, SingleTargets
from pose.keypoints.heatmap import encode, encode_people

SIDE, CELLS = 64, 16


@pytest.fixture(scope="session")
def batches() -> dict[str, Batch]:
    """By problem: 4 images of noise, some joints of which are unlabelled or outside, and a masked quarter."""
    rng = np.random.default_rng(0)
    image_B3HW = torch.from_numpy(rng.random((4, 3, SIDE, SIDE), dtype=np.float32))
    affine_B23 = torch.eye(3, dtype=torch.float64)[None, :2].repeat(4, 1, 1)
    inputs = Inputs((image_B3HW,), affine_B23)
    labelled_BK = rng.random((4, len(MPII))) < 0.8
    single = [
        encode(rng.uniform(-1, CELLS, (len(MPII), 2)), one, size=CELLS, sigma=1.0) for one in labelled_BK
    ]
    labelled_BPK = rng.random((4, 3, len(COCO))) < 0.8
    joint_BPK2 = rng.uniform(-1, CELLS, (4, 3, len(COCO), 2))
    pairs = zip(joint_BPK2, labelled_BPK, strict=True)
    multi = [encode_people(joint_PK2, some, size=CELLS, sigma=1.0) for joint_PK2, some in pairs]
    mask_Bhw = torch.ones(4, CELLS, CELLS)
    mask_Bhw[:, : CELLS // 2, : CELLS // 2] = 0
    heatmap_BKhw, cell_BPK = (torch.from_numpy(np.stack(some)) for some in zip(*multi, strict=True))
    single_heatmap_BKhw = torch.from_numpy(np.stack([heatmap for heatmap, _ in single]))
    return {
        "single": Batch(inputs, SingleTargets(single_heatmap_BKhw, torch.from_numpy(labelled_BK).float())),
        "multi": Batch(inputs, MultiTargets(heatmap_BKhw, mask_Bhw, cell_BPK)),
    }
