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
        rotation, colour = params.rotation, params.colour
        # Few calls of the generator, and Python's own arithmetic: on single numbers numpy's is ten times slower.
        turn, widen = rng.standard_normal(2).tolist()
        turned, flip, *gain = rng.random(5).tolist()
        red, green, blue = (1 - colour + 2 * colour * share for share in gain)
        return Augment(
            angle=clipped(rotation.deg * turn, rotation.clip) if turned < rotation.probability else 0.0,
            widen=_widen(widen, params.scale),
            flip=flip < params.flip,
            gain=(red, green, blue),
        )


def clipped(value: float, limit: float) -> float:
    """`value`, or the nearest number within -limit .. limit."""
    return min(max(value, -limit), limit)


def _widen(normal: float, params: ScaleParams) -> float:
    if params.kind == "linear":  # the original project's PyTorch code
        return 1 + clipped(normal * params.spread, params.spread)
    return float(2 ** clipped(normal * params.spread, 2 * params.spread))  # the papers' Lua code
