"""Faces, hair and hats of synthetic people."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from pose.data.synthetic.paint import Paint, flat, rgb
from pose.data.synthetic.pose import pick

STYLES = {
    "short": 0.42, "long": 0.2, "ponytail": 0.1, "bun": 0.07, "cap": 0.1, "beanie": 0.05, "bald": 0.06,
}  # fmt: skip


@dataclass(frozen=True)
class HeadExtra:
    """An ellipsoid on the head. keep: which surface points exist, where not all do.

    centre, half: its centre and half axes, in half axes of the head. tilt: degrees forwards.
    """

    centre: tuple[float, float, float]
    half: tuple[float, float, float]
    paint: Paint
    tilt: float = 0.0
    keep: Callable[[np.ndarray], np.ndarray] | None = None


def draw_head(
    rng: np.random.Generator, skin: np.ndarray, hair: np.ndarray, accent: np.ndarray
) -> tuple[Paint, tuple[HeadExtra, ...], bool]:
    """The face, what covers the rest of the head, and whether the ears show."""
    style = pick(rng, STYLES)
    hairline = rng.uniform(0.12, 0.34)
    hair_paint = _hair(rng, hair)
    beard = style in ("short", "cap", "bald", "beanie") and rng.random() < 0.3
    face = _face(rng, skin, hair, beard=beard)

    def covered(q: np.ndarray) -> np.ndarray:
        return 0.75 * q[1] - 0.95 * q[2] > hairline

    extras = []
    if style != "bald":
        extras.append(HeadExtra((0, 0.03, -0.05), (1.1, 1.06, 1.1), hair_paint, keep=covered))
    if style == "long":
        length, tilt = rng.uniform(0.75, 1.25), rng.uniform(-6, 6)
        extras.append(HeadExtra((0, 0.25 - length, -0.5), (1.12, length, 0.62), hair_paint, tilt))
    elif style == "ponytail":
        height, tilt = rng.uniform(-0.5, 0.1), rng.uniform(5, 35)
        extras.append(HeadExtra((0, height, -1.4), (0.34, 0.85, 0.3), hair_paint, tilt))
    elif style == "bun":
        extras.append(HeadExtra((0, rng.uniform(0.3, 0.95), -0.95), (0.5, 0.45, 0.45), hair_paint))
    elif style == "cap":
        crown = flat(accent)
        extras.append(HeadExtra((0, 0.08, -0.02), (1.16, 1.06, 1.16), crown, keep=lambda q: q[1] > 0.3))
        front, tilt = (1.15, 8) if rng.random() < 0.85 else (-1.15, -8)  # some wear it backwards
        extras.append(HeadExtra((0, 0.42, front), (0.8, 0.1, 0.75), flat(accent * 0.75), tilt))
    elif style == "beanie":

        def above(q: np.ndarray) -> np.ndarray:
            return q[1] - 0.35 * q[2] > 0.12

        extras.append(HeadExtra((0, 0.14, -0.05), (1.16, 1.1, 1.16), flat(accent), keep=above))
    return face, tuple(extras), style in ("short", "bald", "cap", "bun", "ponytail")


def _hair(rng: np.random.Generator, hair: np.ndarray) -> Paint:
    waves, depth = rng.uniform(8, 22), rng.uniform(0.04, 0.16)
    return lambda q: np.clip(hair * (1 + depth * np.sin(waves * q[0] + 3 * q[1]))[:, None], 0, 255)


def _face(rng: np.random.Generator, skin: np.ndarray, hair: np.ndarray, *, beard: bool) -> Paint:
    lips = np.clip(skin * rgb(0.85, 0.48, 0.48), 0, 255)
    iris = [rgb(24, 18, 14), rgb(32, 48, 72), rgb(32, 50, 32)][int(rng.integers(3))]
    brow = np.minimum(hair, skin * 0.65) * 0.8
    glasses = rng.random() < 0.08
    smile = rng.uniform(-0.15, 0.5)
    mouth_half = rng.uniform(0.26, 0.38)

    def face(q: np.ndarray) -> np.ndarray:
        x, y, z = q
        wide = np.abs(x)
        ahead = z > 0.1
        out = np.repeat(skin[None], q.shape[1], axis=0)
        if beard:
            out[ahead & (y < -0.3 + 0.25 * wide * wide) | ((wide > 0.6) & (y < 0.1) & (z > 0.0))] = hair
        eye = (wide - 0.38) ** 2
        out[ahead & (eye / 0.042 + (y - 0.12) ** 2 / 0.03 < 1)] = (246, 246, 242)
        out[ahead & (eye / 0.016 + (y - 0.12) ** 2 / 0.026 < 1)] = iris
        out[ahead & (eye < 0.06) & (np.abs(y - 0.4) < 0.07)] = brow
        if glasses:
            rims, bar = ahead & (eye / 0.085 + (y - 0.12) ** 2 / 0.06 < 1), np.abs(y - 0.2) < 0.05
            out[rims | (bar & (z > -0.1))] = (22, 22, 26)
        curve = y + 0.5 - smile * wide * wide
        out[ahead & (wide < mouth_half) & (np.abs(curve) < 0.075)] = lips
        return out

    return face
