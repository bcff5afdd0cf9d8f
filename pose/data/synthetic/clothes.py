"""Clothes, skin and hair of drawn people: functions that colour points on the surface of a body part.

A paint takes surface points q (3, N), in the part's own units (about -1 to 1; x to the person's left, y up on
trunk and head but from start to end on limbs, z to the front), and gives (N, 3) RGB, 0 to 255. Left and right
limbs share one paint, so no joint has a colour of its own; front and back differ as they do on real people:
face and hair, collar, buttons, pockets, print.
"""

from __future__ import annotations

import colorsys
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache

import cv2
import numpy as np

from pose.data.synthetic.pose import pick

Paint = Callable[[np.ndarray], np.ndarray]
Weave = Callable[[np.ndarray, np.ndarray], np.ndarray]  # (around, along) -> RGB

_SKIN = np.array(
    [
        (255, 219, 190), (244, 200, 165), (232, 184, 142), (214, 160, 118), (186, 130, 90), (150, 100, 66), (112, 72, 48), (84, 54, 38),
    ],
    dtype=np.float32,
)  # fmt: skip
_HAIR = np.array(
    [
        (24, 20, 18), (48, 34, 26), (84, 56, 36), (126, 84, 48), (196, 158, 92), (150, 62, 34), (150, 148, 146), (222, 218, 210),
    ],
    dtype=np.float32,
)  # fmt: skip


@dataclass(frozen=True)
class HeadExtra:
    """Something on the head.

    An ellipsoid with its centre and half axes in half axes of the head, tilted forwards by degrees.
    """

    centre: tuple[float, float, float]
    half: tuple[float, float, float]
    paint: Paint
    tilt: float = 0.0
    keep: Callable[[np.ndarray], np.ndarray] | None = None


@dataclass(frozen=True)
class Outfit:
    """The paints of every body part of one person."""

    face: Paint
    nose: Paint
    ears: bool
    neck: Paint
    head_extras: tuple[HeadExtra, ...]
    hips: Paint
    waist: Paint
    belly: Paint
    chest: Paint
    yoke: Paint
    upper_arm_start: Paint
    upper_arm: Paint
    elbow: Paint
    forearm: Paint
    hand: Paint
    thigh_start: Paint
    thigh: Paint
    knee: Paint
    shank: Paint
    shoe: Paint
    heel: Paint
    backpack: Paint | None
    hood: Paint | None
    skirt: Paint | None
    skirt_length: float  # share of the thighs

    @staticmethod
    def draw(rng: np.random.Generator) -> Outfit:
        """Random clothes that go together."""
        skin = _SKIN[int(rng.integers(len(_SKIN)))] * rng.uniform(0.93, 1.05)
        hair = _HAIR[int(rng.integers(len(_HAIR)))] * rng.uniform(0.85, 1.15)
        top, bottom = _colour(rng), _trouser_colour(rng)
        accent = _unlike(top, rng)
        top_weave = _draw_weave(rng, top)
        bottom_weave = _plain(bottom) if rng.random() < 0.75 else _draw_weave(rng, bottom)
        top_sleeve = pick(rng, {0.0: 0.1, 0.75: 0.35, 0.9: 0.1, 2.0: 0.45})
        trouser = pick(rng, {0.35: 0.1, 0.7: 0.2, 1.1: 0.12, 2.0: 0.58})
        backpack = rng.random() < 0.12
        skirt = rng.random() < 0.1
        dress = skirt and rng.random() < 0.5
        bare_chest = not backpack and not skirt and rng.random() < 0.06
        hooded = not bare_chest and rng.random() < 0.12
        bag_colour = _unlike(top, rng)

        shirt = _draw_shirt(rng, top_weave, skin, accent, straps=bag_colour if backpack else None)
        if bare_chest:
            top_weave, top_sleeve = _plain(skin), 0.0
            shirt = _bare_trunk(skin)
        skin_paint = _flat(skin)
        hem = float(rng.uniform(-0.1, 0.6))  # how far the shirt hangs over the hips
        hips = _hips(rng, bottom_weave, bottom, top_weave if dress else shirt_weave(shirt), hem)
        face, head_extras, ears = _draw_head(rng, skin, hair, accent)
        sock = _unlike(bottom, rng) if rng.random() < 0.5 else _rgb(235, 235, 232)
        barefoot = rng.random() < 0.1
        shoe = _shoe(rng, skin) if not barefoot else skin_paint
        sock_from = 2.0 if barefoot or trouser >= 2 else (2.0, 1.8, 1.55)[int(rng.integers(3))]
        if skirt:
            trouser = 0.2 if rng.random() < 0.6 else trouser
        return Outfit(
            face=face,
            nose=_flat(skin * 0.94),
            ears=ears,
            neck=_flat(top * 0.95) if hooded and rng.random() < 0.4 else skin_paint,
            head_extras=head_extras,
            hips=hips,
            waist=lambda q: shirt(q[0], 0.2 + 0.2 * q[1], q[2]),
            belly=lambda q: shirt(q[0], 0.4 + 0.08 * q[1], q[2]),
            chest=lambda q: shirt(q[0], 0.66 + 0.26 * q[1], q[2]),
            yoke=lambda q: shirt(q[0], 0.92 + 0.16 * q[1], q[2]),
            upper_arm_start=lambda q: (
                top_weave(q[0], 0.1 * q[1]) if top_sleeve > 0 else np.broadcast_to(skin, (q.shape[1], 3))
            ),
            upper_arm=_sleeve(top_weave, skin, top_sleeve, 0.0),
            elbow=_joint(top_weave, skin, top_sleeve > 1),
            forearm=_sleeve(top_weave, skin, top_sleeve - (0.05 if top_sleeve == 2 else 0.0), 1.0),
            hand=skin_paint,
            thigh_start=lambda q: bottom_weave(q[0], 0.1 * q[1]),
            thigh=_sleeve(bottom_weave, skin, trouser, 0.0),
            knee=_joint(bottom_weave, skin, trouser > 1),
            shank=_sleeve(bottom_weave, skin, trouser, 1.0, sock=sock, sock_from=sock_from),
            shoe=shoe,
            heel=skin_paint
            if barefoot
            else _flat(bottom if trouser == 2 else sock if sock_from < 2 else skin),
            backpack=_backpack(rng, bag_colour) if backpack else None,
            hood=_flat(top * 0.86) if hooded and not backpack else None,
            skirt=(lambda q: (top_weave if dress else bottom_weave)(q[0], 0.5 * q[1])) if skirt else None,
            skirt_length=float(rng.uniform(0.45, 1.0)),
        )


def _letters(rng: np.random.Generator, count: int) -> str:
    return "".join("ABEHKMNRSTXZ358"[k] for k in rng.integers(0, 15, count))


def _rgb(*value: float) -> np.ndarray:
    return np.array(value, dtype=np.float32)


def _hsv(hue: float, saturation: float, value: float) -> np.ndarray:
    """(3,) RGB, 0 to 255, from hue, saturation, value, 0 to 1."""
    return _rgb(*colorsys.hsv_to_rgb(hue, saturation, value)) * 255


def random_colour(rng: np.random.Generator) -> np.ndarray:
    """Any colour (3,), as clothes and things in a picture have them: many muted ones, some loud ones."""
    return _colour(rng)


def skin_colour(rng: np.random.Generator) -> np.ndarray:
    """(3,) the colour of some person's skin."""
    return _SKIN[int(rng.integers(len(_SKIN)))]


def _colour(rng: np.random.Generator) -> np.ndarray:
    kind = rng.random()
    if kind < 0.22:  # white, grey, black
        level = (235, 205, 150, 95, 55, 32)[int(rng.integers(6))]
        return np.clip(level + rng.normal(0, 6, 3), 0, 255).astype(np.float32)
    saturation = rng.uniform(0.65, 1.0) if kind < 0.55 else rng.uniform(0.2, 0.65)
    return _hsv(rng.random(), saturation, rng.uniform(0.3, 0.98))


def _trouser_colour(rng: np.random.Generator) -> np.ndarray:
    if rng.random() < 0.35:  # denim
        return _hsv(rng.uniform(0.57, 0.64), rng.uniform(0.25, 0.65), rng.uniform(0.25, 0.75))
    return _colour(rng)


def _unlike(colour: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """A colour that can be told from the given one."""
    for _ in range(6):
        other = _colour(rng)
        if np.abs(other - colour).sum() > 190:
            return other
    return _rgb(240, 240, 236) if colour.mean() < 128 else _rgb(34, 34, 40)


def _flat(colour: np.ndarray) -> Paint:
    return lambda q: np.broadcast_to(colour, (q.shape[1], 3))


def _plain(colour: np.ndarray) -> Weave:
    return lambda around, along: np.broadcast_to(colour, (len(around), 3))


def _draw_weave(rng: np.random.Generator, colour: np.ndarray) -> Weave:
    """Plain cloth, stripes, checks, dots, or blots, of the colour given and another one."""
    other = _unlike(colour, rng) if rng.random() < 0.6 else colour * rng.uniform(0.55, 0.8)
    kind = rng.random()
    count, phase = float(rng.uniform(5, 13)), float(rng.random())
    share = float(rng.uniform(0.25, 0.5))
    two = np.stack([colour, other]).astype(np.float32)
    if kind < 0.5:
        return _plain(colour)
    if kind < 0.68:
        return lambda around, along: two[((along * count + phase) % 1 < share).astype(int)]
    if kind < 0.78:
        return lambda around, along: two[((around * count * 0.45 + phase) % 1 < share).astype(int)]
    if kind < 0.9:
        three = np.stack([colour, (colour + other) / 2, other]).astype(np.float32)

        def checks(around: np.ndarray, along: np.ndarray) -> np.ndarray:
            return three[
                ((along * count + phase) % 1 < 0.5).astype(int) + ((around * count * 0.4 + phase) % 1 < 0.5)
            ]

        return checks
    waves = rng.uniform(-9, 9, (3, 2))

    def blots(around: np.ndarray, along: np.ndarray) -> np.ndarray:
        height = sum(np.sin(a * around + b * along * 2 + 7 * phase) for a, b in waves)
        return two[(height > 0.5).astype(int)]

    return blots


Shirt = Callable[
    [np.ndarray, np.ndarray, np.ndarray], np.ndarray
]  # (u left-right, v hips-shoulders 0..1, front > 0) -> RGB


def shirt_weave(shirt: Shirt) -> Weave:
    """The shirt's cloth where it hangs over the hips: its lowest part."""
    return lambda around, along: shirt(around, np.zeros_like(along), np.zeros_like(along))


@lru_cache(maxsize=256)
def _glyphs(text: str) -> np.ndarray:
    """Text as a boolean bitmap of 24 rows, 40 columns."""
    canvas = np.zeros((24, 40), np.uint8)
    (width, height), _ = cv2.getTextSize(text, cv2.FONT_HERSHEY_SIMPLEX, 0.7, 3)
    cv2.putText(canvas, text, ((40 - width) // 2, (24 + height) // 2), cv2.FONT_HERSHEY_SIMPLEX, 0.7, 255, 3)
    return canvas > 100


def _print(
    rng: np.random.Generator, text: str, *, middle: tuple[float, float], half: tuple[float, float]
) -> Callable[[np.ndarray, np.ndarray], np.ndarray]:
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
    """What is on the front.

    A neckline and buttons, a zip, a tie, an open jacket, a pocket or a print. On the back: little.
    """
    style = pick(
        rng,
        {
            "print": 0.22,
            "buttons": 0.16,
            "zip": 0.13,
            "tie": 0.09,
            "jacket": 0.14,
            "emblem": 0.16,
            "plain": 0.1,
        },
    )
    neckline, depth = float(rng.uniform(1.4, 2.6)), float(rng.uniform(0.72, 0.86))
    inner = _rgb(238, 238, 234) if rng.random() < 0.6 else _unlike(accent, rng)
    pocket = rng.random() < 0.3
    front_text = _letters(rng, int(rng.integers(1, 4)))
    printed = _print(
        rng,
        front_text,
        middle=(0.0, float(rng.uniform(0.58, 0.68))),
        half=(float(rng.uniform(0.55, 0.8)), float(rng.uniform(0.13, 0.2))),
    )
    number = (
        _print(rng, str(rng.integers(1, 100)), middle=(0.0, 0.62), half=(-0.6, 0.2))
        if rng.random() < 0.25
        else None
    )
    yoke_dark = float(rng.uniform(0.72, 0.92)) if rng.random() < 0.35 else 1.0
    emblem_half = float(rng.uniform(0.3, 0.5))
    opening = float(rng.uniform(0.2, 0.38))

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
    """Trousers from above: a belt, pockets on the seat behind, a fly in front; the shirt may hang over them."""
    belt = _unlike(colour, rng) if rng.random() < 0.4 else colour * 0.7
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
    """A limb's segment that runs from `start` to start + 1.

    Cloth as far as `until`, then skin, then perhaps a sock.
    """

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
    if not clothed:
        return _flat(skin)
    return lambda q: weave(q[0], 0.5 + 0.08 * q[1])


def _shoe(rng: np.random.Generator, skin: np.ndarray) -> Paint:
    colour = _colour(rng)
    sole = _rgb(240, 240, 236) if rng.random() < 0.5 else colour * 0.45
    cap = _unlike(colour, rng) if rng.random() < 0.45 else colour * 1.12
    lace = _unlike(colour, rng)
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


def _draw_head(
    rng: np.random.Generator, skin: np.ndarray, hair: np.ndarray, accent: np.ndarray
) -> tuple[Paint, tuple[HeadExtra, ...], bool]:
    """The face, what covers the rest of the head, and whether the ears show."""
    style = pick(
        rng,
        {"short": 0.42, "long": 0.2, "ponytail": 0.1, "bun": 0.07, "cap": 0.1, "beanie": 0.05, "bald": 0.06},
    )
    hairline = float(rng.uniform(0.12, 0.34))
    hair_paint = _hair(rng, hair)
    beard = style in ("short", "cap", "bald", "beanie") and rng.random() < 0.3
    face = _face(rng, skin, hair, beard=beard)

    def covered(q: np.ndarray) -> np.ndarray:
        return 0.75 * q[1] - 0.95 * q[2] > hairline

    shell = HeadExtra((0, 0.03, -0.05), (1.1, 1.06, 1.1), hair_paint, keep=covered)
    extras: list[HeadExtra] = []
    if style != "bald":
        extras.append(shell)
    if style == "long":
        length = float(rng.uniform(0.75, 1.25))
        extras.append(
            HeadExtra(
                (0, 0.25 - length, -0.5), (1.12, length, 0.62), hair_paint, tilt=float(rng.uniform(-6, 6))
            )
        )
    elif style == "ponytail":
        extras.append(
            HeadExtra(
                (0, float(rng.uniform(-0.5, 0.1)), -1.4),
                (0.34, 0.85, 0.3),
                hair_paint,
                tilt=float(rng.uniform(5, 35)),
            )
        )
    elif style == "bun":
        extras.append(HeadExtra((0, float(rng.uniform(0.3, 0.95)), -0.95), (0.5, 0.45, 0.45), hair_paint))
    elif style == "cap":
        extras.append(
            HeadExtra((0, 0.08, -0.02), (1.16, 1.06, 1.16), _flat(accent), keep=lambda q: q[1] > 0.3)
        )
        visor = 1.15 if rng.random() < 0.85 else -1.15  # some wear it backwards
        extras.append(
            HeadExtra((0, 0.42, visor), (0.8, 0.1, 0.75), _flat(accent * 0.75), tilt=8 if visor > 0 else -8)
        )
    elif style == "beanie":
        extras.append(
            HeadExtra(
                (0, 0.14, -0.05), (1.16, 1.1, 1.16), _flat(accent), keep=lambda q: q[1] - 0.35 * q[2] > 0.12
            )
        )
    return face, tuple(extras), style in ("short", "bald", "cap", "bun", "ponytail")


def _hair(rng: np.random.Generator, hair: np.ndarray) -> Paint:
    waves, depth = float(rng.uniform(8, 22)), float(rng.uniform(0.04, 0.16))
    return lambda q: np.clip(hair * (1 + depth * np.sin(waves * q[0] + 3 * q[1]))[:, None], 0, 255)


def _face(rng: np.random.Generator, skin: np.ndarray, hair: np.ndarray, *, beard: bool) -> Paint:
    lips = np.clip(skin * _rgb(0.85, 0.48, 0.48), 0, 255)
    iris = [_rgb(24, 18, 14), _rgb(32, 48, 72), _rgb(32, 50, 32)][int(rng.integers(3))]
    brow = np.minimum(hair, skin * 0.65) * 0.8
    glasses = rng.random()
    smile = float(rng.uniform(-0.15, 0.5))
    mouth_half = float(rng.uniform(0.26, 0.38))

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
        if glasses < 0.08:
            out[
                ahead & (eye / 0.085 + (y - 0.12) ** 2 / 0.06 < 1) | ((np.abs(y - 0.2) < 0.05) & (z > -0.1))
            ] = (22, 22, 26)
        curve = y + 0.5 - smile * wide * wide
        out[ahead & (wide < mouth_half) & (np.abs(curve) < 0.075)] = lips
        return out

    return face
