"""A network's outputs under test-time augmentation."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from pose.tasks.base import TTAOutput
from pose.tasks.task import Model


@torch.inference_mode()
def tta_outputs(model: Model, images: Sequence[Tensor], *, flip: bool) -> list[TTAOutput]:
    """The network's outputs for a batch (B, 3, H, W) at one or several sizes, the input's own first.

    flip: also for the mirrored images.
    """
    outputs = []
    for image_B3HW in images:
        outputs.append(TTAOutput(model(image_B3HW)))
        if flip:
            outputs.append(TTAOutput(model(image_B3HW.flip(-1)), mirrored=True))
    return outputs
