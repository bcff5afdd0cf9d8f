"""Random draws of a sample as values: printed, tested and replayed before anything is applied."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from pose.params import AugmentParams, ScaleParams


@dataclass(frozen=True)
class Augment:
    """What is done to one single-person sample.

    angle: degrees, counter-clockwise as seen. widen: the crop's side is multiplied by this. gain: of the three colour channels.
    """

    angle: float = 0.0
    widen: float = 1.0
    flip: bool = False
    gain: tuple[float, float, float] = (1.0, 1.0, 1.0)

    @staticmethod
    def draw(rng: np.random.Generator, params: AugmentParams) -> Augment:
        """Draw from the distributions of the published codes; `params` says which."""
        rotation = params.rotation
        angle = float(np.clip(rng.normal(0, rotation.deg), -rotation.clip, rotation.clip))
        turned = rng.random() < rotation.probability
        widen = _widen(rng.normal(), params.scale)
        flip = bool(rng.random() < params.flip)
        gain = rng.uniform(1 - params.colour, 1 + params.colour, size=3)
        return Augment(angle=angle if turned else 0.0, widen=widen, flip=flip, gain=(gain[0], gain[1], gain[2]))


def _widen(normal: float, params: ScaleParams) -> float:
    if params.kind == "linear":  # the original project's PyTorch code
        return 1 + float(np.clip(normal * params.spread, -params.spread, params.spread))
    return float(2 ** np.clip(normal * params.spread, -2 * params.spread, 2 * params.spread))  # the papers' Lua code
