"""Colours and cloth of synthetic people: functions that colour points on the surface of a body part.

A paint takes surface points q (3, N), in the part's own units (about -1 to 1; x to the person's left, y up on
trunk and head but from start to end on limbs, z to the front), and gives (N, 3) RGB, 0 to 255. A weave does
so from two coordinates of N points: around the body, and along it.
"""

from __future__ import annotations

import colorsys
from collections.abc import Callable

import numpy as np

Paint = Callable[[np.ndarray], np.ndarray]
Weave = Callable[[np.ndarray, np.ndarray], np.ndarray]

SKIN = np.array([
    (255, 219, 190), (244, 200, 165), (232, 184, 142), (214, 160, 118),
    (186, 130, 90), (150, 100, 66), (112, 72, 48), (84, 54, 38),
], dtype=np.float32)  # fmt: skip
HAIR = np.array([
    (24, 20, 18), (48, 34, 26), (84, 56, 36), (126, 84, 48),
    (196, 158, 92), (150, 62, 34), (150, 148, 146), (222, 218, 210),
], dtype=np.float32)  # fmt: skip


def rgb(*value: float) -> np.ndarray:
    """(3,) RGB, 0 to 255, float32."""
    return np.array(value, dtype=np.float32)


def hsv(hue: float, saturation: float, value: float) -> np.ndarray:
    """(3,) RGB, 0 to 255, from hue, saturation, value, 0 to 1."""
    return rgb(*colorsys.hsv_to_rgb(hue, saturation, value)) * 255


def random_colour(rng: np.random.Generator) -> np.ndarray:
    """Any colour (3,) that clothes and things have: many muted ones, some loud ones."""
    kind = rng.random()
    if kind < 0.22:  # white, grey, black
        level = (235, 205, 150, 95, 55, 32)[int(rng.integers(6))]
        return np.clip(level + rng.normal(0, 6, 3), 0, 255).astype(np.float32)
    saturation = rng.uniform(0.65, 1.0) if kind < 0.55 else rng.uniform(0.2, 0.65)
    return hsv(rng.random(), saturation, rng.uniform(0.3, 0.98))


def skin_colour(rng: np.random.Generator) -> np.ndarray:
    """(3,) the colour of some person's skin."""
    return SKIN[int(rng.integers(len(SKIN)))]


def unlike(colour: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """A colour that can be told from the given one."""
    for _ in range(6):
        other = random_colour(rng)
        if np.abs(other - colour).sum() > 190:
            return other
    return rgb(240, 240, 236) if colour.mean() < 128 else rgb(34, 34, 40)


def flat(colour: np.ndarray) -> Paint:
    """One colour."""
    return lambda q: np.broadcast_to(colour, (q.shape[1], 3))


def plain(colour: np.ndarray) -> Weave:
    """Cloth of one colour."""
    return lambda around, along: np.broadcast_to(colour, (len(around), 3))


def draw_weave(rng: np.random.Generator, colour: np.ndarray) -> Weave:
    """Plain cloth, stripes, checks, or blots, of the colour given and another one."""
    other = unlike(colour, rng) if rng.random() < 0.6 else colour * rng.uniform(0.55, 0.8)
    kind = rng.random()
    count, phase = rng.uniform(5, 13), rng.random()
    share = rng.uniform(0.25, 0.5)
    two = np.stack([colour, other]).astype(np.float32)
    three = np.stack([colour, (colour + other) / 2, other]).astype(np.float32)

    def is_striped(place: np.ndarray, width: float) -> np.ndarray:
        return ((place + phase) % 1 < width).astype(int)

    if kind < 0.5:
        return plain(colour)
    if kind < 0.68:
        return lambda around, along: two[is_striped(along * count, share)]
    if kind < 0.78:
        return lambda around, along: two[is_striped(around * count * 0.45, share)]
    if kind < 0.9:
        return lambda around, along: three[
            is_striped(along * count, 0.5) + is_striped(around * count * 0.4, 0.5)
        ]
    waves = rng.uniform(-9, 9, (3, 2))

    def blots(around: np.ndarray, along: np.ndarray) -> np.ndarray:
        height = sum(np.sin(a * around + b * along * 2 + 7 * phase) for a, b in waves)
        return two[(height > 0.5).astype(int)]

    return blots
