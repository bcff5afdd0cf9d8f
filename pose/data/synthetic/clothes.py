"""Clothes of synthetic people.

Left and right limbs share one paint, so no joint has a colour of its own; front and back differ as they do on
real people: face and hair, collar, buttons, pockets, print.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache

import cv2
import numpy as np

from pose.data.synthetic.head import draw_head
from pose.data.synthetic.paint import (
    HAIR,
    Paint,
    Weave,
    draw_weave,
    flat,
    hsv,
    plain,
    random_colour,
    rgb,
    skin_colour,
    unlike,
)
from pose.data.synthetic.pose import pick

# (u left-right, v hips-shoulders 0..1, front > 0) of N points -> (N, 3) RGB
Shirt = Callable[[np.ndarray, np.ndarray, np.ndarray], np.ndarray]

SHIRT_STYLES = {
    "print": 0.22, "buttons": 0.16, "zip": 0.13, "tie": 0.09, "jacket": 0.14, "emblem": 0.16, "plain": 0.1,
}  # fmt: skip


class Outfit:
    """The paints of every body part of one person: random clothes that go together."""

    def __init__(self, rng: np.random.Generator) -> None:
        skin = skin_colour(rng) * rng.uniform(0.93, 1.05)
        hair = HAIR[int(rng.integers(len(HAIR)))] * rng.uniform(0.85, 1.15)
        top, bottom = random_colour(rng), _trouser_colour(rng)
        accent = unlike(top, rng)
        top_weave = draw_weave(rng, top)
        bottom_weave = plain(bottom) if rng.random() < 0.75 else draw_weave(rng, bottom)
        top_sleeve = pick(rng, {0.0: 0.1, 0.75: 0.35, 0.9: 0.1, 2.0: 0.45})
        trouser = pick(rng, {0.35: 0.1, 0.7: 0.2, 1.1: 0.12, 2.0: 0.58})
        backpack = rng.random() < 0.12
        skirt = rng.random() < 0.1
        dress = skirt and rng.random() < 0.5
        bare_chest = not backpack and not skirt and rng.random() < 0.06
        hooded = not bare_chest and rng.random() < 0.12
        bag_colour = unlike(top, rng)

        shirt = _draw_shirt(rng, top_weave, skin, accent, straps=bag_colour if backpack else None)
        if bare_chest:
            top_weave, top_sleeve = plain(skin), 0.0
            shirt = _bare_trunk(skin)
        self.hand = skin_paint = flat(skin)
        hem = rng.uniform(-0.1, 0.6)  # how far the shirt hangs over the hips
        self.hips = _hips(rng, bottom_weave, bottom, top_weave if dress else _lowest_part(shirt), hem)
        self.face, self.head_extras, self.ears = draw_head(rng, skin, hair, accent)
        sock = unlike(bottom, rng) if rng.random() < 0.5 else rgb(235, 235, 232)
        barefoot = rng.random() < 0.1
        self.shoe = skin_paint if barefoot else _shoe(rng)
        sock_from = 2.0 if barefoot or trouser >= 2 else (2.0, 1.8, 1.55)[int(rng.integers(3))]
        if skirt:
            trouser = 0.2 if rng.random() < 0.6 else trouser
        self.nose = flat(skin * 0.94)
        self.neck = flat(top * 0.95) if hooded and rng.random() < 0.4 else skin_paint
        self.waist, self.belly = _band(shirt, 0.2, 0.2), _band(shirt, 0.4, 0.08)
        self.chest, self.yoke = _band(shirt, 0.66, 0.26), _band(shirt, 0.92, 0.16)
        self.upper_arm_start = (lambda q: top_weave(q[0], 0.1 * q[1])) if top_sleeve > 0 else skin_paint
        self.upper_arm = _sleeve(top_weave, skin, top_sleeve, 0.0)
        self.elbow = _joint(top_weave, skin, top_sleeve > 1)
        self.forearm = _sleeve(top_weave, skin, top_sleeve - (0.05 if top_sleeve == 2 else 0.0), 1.0)
        self.thigh_start = lambda q: bottom_weave(q[0], 0.1 * q[1])
        self.thigh = _sleeve(bottom_weave, skin, trouser, 0.0)
        self.knee = _joint(bottom_weave, skin, trouser > 1)
        self.shank = _sleeve(bottom_weave, skin, trouser, 1.0, sock=sock, sock_from=sock_from)
        self.heel = skin_paint
        if not barefoot and (trouser == 2 or sock_from < 2):
            self.heel = flat(bottom if trouser == 2 else sock)
        self.backpack = _backpack(rng, bag_colour) if backpack else None
        self.hood = flat(top * 0.86) if hooded and not backpack else None
        self.skirt = (lambda q: (top_weave if dress else bottom_weave)(q[0], 0.5 * q[1])) if skirt else None
        self.skirt_length = rng.uniform(0.45, 1.0)


def _trouser_colour(rng: np.random.Generator) -> np.ndarray:
    if rng.random() < 0.35:  # denim
        return hsv(rng.uniform(0.57, 0.64), rng.uniform(0.25, 0.65), rng.uniform(0.25, 0.75))
    return random_colour(rng)


def _band(shirt: Shirt, middle: float, half: float) -> Paint:
    """A part of the trunk, from middle - half to middle + half of the shirt's height."""
    return lambda q: shirt(q[0], middle + half * q[1], q[2])


def _lowest_part(shirt: Shirt) -> Weave:
    """The shirt's cloth where it hangs over the hips."""
    return lambda around, along: shirt(around, np.zeros_like(along), np.zeros_like(along))


@lru_cache(maxsize=256)
def _glyphs(text: str) -> np.ndarray:
    """Text as a boolean bitmap of 24 rows, 40 columns."""
    canvas = np.zeros((24, 40), np.uint8)
    (width, height), _ = cv2.getTextSize(text, cv2.FONT_HERSHEY_SIMPLEX, 0.7, 3)
    cv2.putText(canvas, text, ((40 - width) // 2, (24 + height) // 2), cv2.FONT_HERSHEY_SIMPLEX, 0.7, 255, 3)
    return canvas > 100


def _print(
    text: str, *, middle: tuple[float, float], half: tuple[float, float]
) -> Callable[[np.ndarray, np.ndarray], np.ndarray]:
    """Whether points (u, v) of a shirt are covered by the text."""
    bitmap = _glyphs(text)

    def where(u: np.ndarray, v: np.ndarray) -> np.ndarray:
        column = ((u - middle[0]) / half[0] * 20 + 20).astype(int)
        row = (12 - (v - middle[1]) / half[1] * 12).astype(int)
        inside = (column >= 0) & (column < 40) & (row >= 0) & (row < 24)
        return inside & bitmap[np.clip(row, 0, 23), np.clip(column, 0, 39)]

    return where


def _draw_shirt(
    rng: np.random.Generator, weave: Weave, skin: np.ndarray, accent: np.ndarray, straps: np.ndarray | None
) -> Shirt:
    """In front a neckline and buttons, a zip, a tie, an open jacket or a print; on the back little."""
    style = pick(rng, SHIRT_STYLES)
    neckline, depth = rng.uniform(1.4, 2.6), rng.uniform(0.72, 0.86)
    inner = rgb(238, 238, 234) if rng.random() < 0.6 else unlike(accent, rng)
    pocket = rng.random() < 0.3
    text = "".join("ABEHKMNRSTXZ358"[k] for k in rng.integers(0, 15, int(rng.integers(1, 4))))
    middle = 0.0, rng.uniform(0.58, 0.68)
    printed = _print(text, middle=middle, half=(rng.uniform(0.55, 0.8), rng.uniform(0.13, 0.2)))
    number = None
    if rng.random() < 0.25:
        number = _print(str(rng.integers(1, 100)), middle=(0.0, 0.62), half=(-0.6, 0.2))
    yoke_dark = rng.uniform(0.72, 0.92) if rng.random() < 0.35 else 1.0
    emblem_half = rng.uniform(0.3, 0.5)
    opening = rng.uniform(0.2, 0.38)

    def shirt(u: np.ndarray, v: np.ndarray, front: np.ndarray) -> np.ndarray:
        colour = np.array(weave(u, v), dtype=np.float32)
        ahead = front > 0
        wide = np.abs(u)
        if style == "print":
            colour[ahead & printed(u, v)] = accent
        elif style == "buttons":
            colour[ahead & (wide < 0.09)] *= 0.82
            colour[ahead & (wide < 0.075) & ((v * 7) % 1 < 0.45)] = accent
            colour[ahead & (wide < 0.38) & (wide > 0.1) & (v > 0.9 - 0.12 * wide)] = accent * 0.6 + 80
        elif style == "zip":
            colour[ahead & (wide < 0.085)] = accent
        elif style == "tie":
            colour[ahead & (wide < 0.28 * (v - 0.3) / 0.6) & (v > 0.3)] = inner
            colour[ahead & (wide < 0.07 + 0.07 * (1 - v)) & (v > 0.22)] = accent
        elif style == "jacket":
            colour[ahead & (wide < opening * (0.55 + 0.45 * v))] = inner
            colour[ahead & (np.abs(wide - opening * (0.55 + 0.45 * v)) < 0.045)] *= 0.6
        elif style == "emblem":
            colour[ahead & ((u / emblem_half) ** 2 + ((v - 0.62) / (0.42 * emblem_half)) ** 2 < 1)] = accent
        if pocket and style in ("buttons", "zip", "plain", "jacket"):
            box = ahead & (np.abs(u - 0.5) < 0.2) & (np.abs(v - 0.68) < 0.08)
            colour[box] = colour[box] * 0.72
        colour[ahead & (wide < (v - depth) * neckline)] = skin if style not in ("tie", "jacket") else inner
        if number is not None:
            colour[~ahead & number(u, v)] = accent
        if yoke_dark < 1:
            colour[~ahead & (v > 0.85)] *= yoke_dark
        if straps is not None:
            colour[ahead & (wide > 0.42) & (wide < 0.66) & (v > 0.42)] = straps
        return colour

    return shirt


def _bare_trunk(skin: np.ndarray) -> Shirt:
    def trunk(u: np.ndarray, v: np.ndarray, front: np.ndarray) -> np.ndarray:
        colour = np.repeat(skin[None], len(u), axis=0)
        ahead = front > 0
        colour[ahead & (np.abs(np.abs(u) - 0.5) < 0.09) & (np.abs(v - 0.68) < 0.035)] *= 0.6
        colour[ahead & (np.abs(u) < 0.08) & (np.abs(v - 0.2) < 0.035)] *= 0.55
        colour[ahead & (np.abs(v - 0.56 - 0.04 * np.abs(u)) < 0.022) & (np.abs(u) < 0.8)] *= 0.8
        colour[~ahead & (np.abs(u) < 0.07) & (v < 0.95)] *= 0.8
        return colour

    return trunk


def _hips(rng: np.random.Generator, weave: Weave, colour: np.ndarray, over: Weave, hem: float) -> Paint:
    """Trousers from above: a belt, pockets behind, a fly in front; the shirt may hang over them."""
    belt = unlike(colour, rng) if rng.random() < 0.4 else colour * 0.7
    patch = colour * (0.68, 0.75, 1.3)[int(rng.integers(3))]

    def hips(q: np.ndarray) -> np.ndarray:
        out = np.array(weave(q[0], 0.2 * q[1]), dtype=np.float32)
        behind = q[2] < 0
        out[q[1] > 0.5] = belt
        out[behind & (np.abs(np.abs(q[0]) - 0.42) < 0.23) & (np.abs(q[1] + 0.05) < 0.38)] = patch
        out[~behind & (np.abs(q[0]) < 0.06) & (q[1] > -0.5) & (q[1] < 0.5)] *= 0.65
        out[behind & (np.abs(q[0]) < 0.05) & (q[1] < 0.5)] *= 0.7
        shirt = q[1] > 1 - 1.2 * hem if hem > 0 else np.zeros(q.shape[1], bool)
        if shirt.any():
            out[shirt] = over(q[0][shirt], q[1][shirt])
        return np.clip(out, 0, 255)

    return hips


def _sleeve(
    weave: Weave,
    skin: np.ndarray,
    until: float,
    start: float,
    sock: np.ndarray | None = None,
    sock_from: float = 9.0,
) -> Paint:
    """A limb's segment from `start` to start + 1: cloth up to `until`, then skin, then perhaps a sock."""

    def sleeve(q: np.ndarray) -> np.ndarray:
        along = start + (q[1] + 1) / 2
        if until >= start + 1 and sock_from > start + 1:
            return weave(q[0], along * 0.5)
        out = np.array(weave(q[0], along * 0.5), dtype=np.float32)
        out[along > until] = skin
        out[(along > until - 0.05) & (along < until)] *= 0.8
        if sock is not None:
            out[along > sock_from] = sock
        return out

    return sleeve


def _joint(weave: Weave, skin: np.ndarray, clothed: bool) -> Paint:
    return (lambda q: weave(q[0], 0.5 + 0.08 * q[1])) if clothed else flat(skin)


def _shoe(rng: np.random.Generator) -> Paint:
    colour = random_colour(rng)
    sole = rgb(240, 240, 236) if rng.random() < 0.5 else colour * 0.45
    cap = unlike(colour, rng) if rng.random() < 0.45 else colour * 1.12
    lace = unlike(colour, rng)
    laced = rng.random() < 0.6

    def shoe(q: np.ndarray) -> np.ndarray:
        out = np.repeat(colour[None], q.shape[1], axis=0)
        out[q[2] > 0.55] = cap
        if laced:
            out[(q[1] > 0.25) & (np.abs(q[2] - 0.2) < 0.28) & (np.abs(q[0]) < 0.45)] = lace
        out[q[1] < -0.45] = sole
        return np.clip(out, 0, 255)

    return shoe


def _backpack(rng: np.random.Generator, colour: np.ndarray) -> Paint:
    second = colour * rng.uniform(0.5, 0.8)

    def backpack(q: np.ndarray) -> np.ndarray:
        out = np.repeat(colour[None], q.shape[1], axis=0)
        out[(q[1] < 0.0) & (np.abs(q[0]) < 0.6) & (q[1] > -0.65)] = second
        out[np.abs(q[1] - 0.35) < 0.06] = second * 0.6
        return out

    return backpack
