"""What is behind people, and what is in front of them."""

from __future__ import annotations

import colorsys

import cv2
import numpy as np

from pose.data.synthetic.canvas import THING, Canvas
from pose.data.synthetic.paint import random_colour, skin_colour
from pose.data.synthetic.pose import pick


def draw_background(canvas: Canvas, rng: np.random.Generator, *, clutter: float = 1.0) -> None:
    """Sky and ground or wall and floor, with texture, furniture, trees, writing, and bars like limbs."""
    width, height = canvas.width, canvas.height
    image = canvas.colour
    horizon = int(height * rng.uniform(0.35, 0.9))
    for top, bottom in ((0, horizon), (horizon, height)):
        if bottom <= top:
            continue
        first = random_colour(rng) if rng.random() < 0.25 else _muted_colour(rng)
        last = np.clip(first + rng.normal(0, 35, 3), 0, 255)
        ramp = np.linspace(first, last, bottom - top).astype(np.uint8)
        image[top:bottom] = ramp[:, None]
    _add_texture(canvas, rng)
    unit = min(width, height)
    for _ in range(int(rng.poisson(9 * clutter)) + 2):
        pick(rng, _THINGS)(image, rng, unit)
    if rng.random() < 0.25:  # the background is out of focus
        image[:] = cv2.blur(image, (int(rng.integers(3, 8)),) * 2)


def _muted_colour(rng: np.random.Generator) -> np.ndarray:
    """What walls, floors, skies and lawns have."""
    return np.array(colorsys.hsv_to_rgb(rng.random(), rng.uniform(0.03, 0.5), rng.uniform(0.25, 0.95))) * 255


def _add_texture(canvas: Canvas, rng: np.random.Generator) -> None:
    cells = int(rng.integers(4, 40))
    grey = np.clip(rng.normal(128, rng.uniform(3, 20), (cells, cells, 1)), 0, 255).astype(np.uint8)
    smooth = cv2.INTER_LINEAR if rng.random() < 0.88 else cv2.INTER_NEAREST
    texture = cv2.resize(grey.repeat(3, axis=2), (canvas.width, canvas.height), interpolation=smooth)
    cv2.addWeighted(canvas.colour, 1, texture, 1, -128, dst=canvas.colour)


# --- things behind; unit: the image's shorter side ---


def _tuple(colour: np.ndarray) -> tuple[int, int, int]:
    r, g, b = colour.tolist()
    return min(255, int(r)), min(255, int(g)), min(255, int(b))


def _spot(image: np.ndarray, rng: np.random.Generator) -> tuple[int, int]:
    return int(rng.uniform(-0.05, 1.05) * image.shape[1]), int(rng.uniform(-0.05, 1.05) * image.shape[0])


def _size(rng: np.random.Generator, unit: float, low: float, high: float, least: int = 0) -> int:
    return max(least, int(unit * rng.uniform(low, high)))


def _end(x: int, y: int, length: float, angle: float) -> tuple[int, int]:
    return x + int(length * np.cos(angle)), y + int(length * np.sin(angle))


def _box(image: np.ndarray, rng: np.random.Generator, unit: int) -> None:
    """A piece of furniture, a window or a crate, with lines across."""
    x, y = _spot(image, rng)
    w, h = _size(rng, unit, 0.08, 0.5), _size(rng, unit, 0.08, 0.5)
    colour = random_colour(rng)
    cv2.rectangle(image, (x, y), (x + w, y + h), _tuple(colour), -1)
    edge = _tuple(colour * rng.uniform(0.4, 0.8))
    cv2.rectangle(image, (x, y), (x + w, y + h), edge, max(1, unit // 90))
    for k in range(1, int(rng.integers(1, 5))):
        if rng.random() < 0.5:
            ends = (x + k * w // 4, y), (x + k * w // 4, y + h)
        else:
            ends = (x, y + k * h // 4), (x + w, y + k * h // 4)
        cv2.line(image, *ends, edge, max(1, unit // 110))


def _tree(image: np.ndarray, rng: np.random.Generator, unit: int) -> None:
    x, y = _spot(image, rng)
    trunk = _tuple(np.array([92, 66, 44]) * rng.uniform(0.6, 1.3))
    root = x + int(unit * rng.normal(0, 0.04)), y + _size(rng, unit, 0.3, 0.8)
    cv2.line(image, (x, y), root, trunk, _size(rng, unit, 0.02, 0.07, least=2))
    leaf = np.array([rng.uniform(30, 120), rng.uniform(80, 160), rng.uniform(20, 70)])
    places = rng.normal(0, 0.09, 7), rng.normal(0, 0.07, 7)
    sizes, brightness = rng.uniform(0.04, 0.11, 7), rng.uniform(0.6, 1.3, 7)
    for dx, dy, size, bright in zip(*places, sizes, brightness, strict=True):
        centre = x + int(unit * dx), y + int(unit * dy)
        cv2.circle(image, centre, max(1, int(unit * size)), _tuple(leaf * bright), -1)


def _pole(image: np.ndarray, rng: np.random.Generator, unit: int) -> None:
    x, y = _spot(image, rng)
    length = unit * rng.uniform(0.4, 1.3)
    angle = (np.pi / 2 if rng.random() < 0.5 else 0) + rng.normal(0, 0.12)
    cv2.line(
        image,
        (x, y),
        _end(x, y, length, -angle),
        _tuple(random_colour(rng)),
        _size(rng, unit, 0.008, 0.04, least=1),
    )


def _bars(image: np.ndarray, rng: np.random.Generator, unit: int) -> None:
    """Two bars with a bend and round ends, of the colours of skin and cloth, as an arm or a leg might be."""
    x, y = _spot(image, rng)
    thick = _size(rng, unit, 0.03, 0.07) + 1
    angle = rng.uniform(0, 2 * np.pi)
    for colour in (random_colour(rng), skin_colour(rng) if rng.random() < 0.6 else random_colour(rng)):
        end = _end(x, y, unit * rng.uniform(0.1, 0.2), angle)
        cv2.line(image, (x, y), end, _tuple(colour), thick)
        (x, y), angle, thick = end, angle + rng.uniform(-1.8, 1.8), max(2, int(thick * 0.8))


def _ball(image: np.ndarray, rng: np.random.Generator, unit: int) -> None:
    """A ball, a lamp, a bush: something round, at times of the colour of skin."""
    x, y = _spot(image, rng)
    colour = skin_colour(rng) if rng.random() < 0.3 else random_colour(rng)
    half = _size(rng, unit, 0.02, 0.13) + 1, _size(rng, unit, 0.02, 0.13) + 1
    cv2.ellipse(image, (x, y), half, rng.uniform(0, 180), 0, 360, _tuple(colour), -1)


def _writing(image: np.ndarray, rng: np.random.Generator, unit: int) -> None:
    spot = _spot(image, rng)
    text = "".join(chr(65 + k) for k in rng.integers(0, 26, int(rng.integers(2, 8))))
    scale = float(unit * rng.uniform(0.002, 0.006))
    colour = _tuple(random_colour(rng))
    cv2.putText(image, text, spot, cv2.FONT_HERSHEY_SIMPLEX, scale, colour, max(1, unit // 80))


def _wedge(image: np.ndarray, rng: np.random.Generator, unit: int) -> None:
    corner = np.array(_spot(image, rng)) + rng.normal(0, 0.22 * unit, (int(rng.integers(3, 6)), 2))
    cv2.fillPoly(image, [cv2.convexHull(corner.astype(np.int32))], _tuple(random_colour(rng)))


_THINGS = {_box: 0.2, _tree: 0.14, _pole: 0.16, _bars: 0.16, _ball: 0.14, _writing: 0.07, _wedge: 0.13}


# --- things in front ---


def draw_cover(canvas: Canvas, rng: np.random.Generator, *, spot: np.ndarray, unit: float) -> None:
    """Something in front of everybody near `spot` (canvas px): a table, a post, a board, leaves.

    unit: a person's stature, canvas px.
    """
    mask = np.zeros((canvas.height, canvas.width), np.uint8)
    x, y = int(spot[0]), int(spot[1])
    kind = rng.random()
    if kind < 0.3:  # the edge of a table, a wall, a hedge: from one side to beyond the border
        w, h = _size(rng, unit, 0.2, 0.45), _size(rng, unit, 0.08, 0.22)
        cv2.rectangle(mask, (x - w, y), (x + w, y + h), 255, -1)
    elif kind < 0.6:  # a post
        angle = rng.normal(0, 0.15) + (np.pi / 2 if rng.random() < 0.75 else 0)
        along = unit * np.array([np.cos(angle), np.sin(angle)])
        first, last = (spot - along).astype(int).tolist(), (spot + along).astype(int).tolist()
        cv2.line(mask, first, last, 255, _size(rng, unit, 0.025, 0.07, least=2))
    elif kind < 0.8:  # leaves
        for dx, dy, size in rng.normal((0, 0, 0.045), (0.07, 0.07, 0.012), (9, 3)):
            cv2.circle(mask, (x + int(unit * dx), y + int(unit * dy)), max(1, int(unit * size)), 255, -1)
    else:  # a board or a bag
        corner = spot + unit * rng.normal(0, 0.1, (5, 2))
        cv2.fillPoly(mask, [cv2.convexHull(corner.astype(np.int32))], 255)
    left, top, w, h = cv2.boundingRect(mask)
    if not w:
        return
    box = (slice(top, top + h), slice(left, left + w))
    covered = mask[box] > 0
    colour = random_colour(rng)
    other = np.clip(colour * rng.uniform(0.6, 1.25), 0, 255)
    period = _size(rng, unit, 0.02, 0.12, least=2)
    stripe = (np.add.outer(np.arange(h) * int(rng.integers(0, 2)), np.arange(w)) // period) % 2
    canvas.colour[box][covered] = np.where(stripe[..., None] > 0, colour, other)[covered]
    canvas.depth[box][covered] = np.inf
    canvas.identity[box][covered] = THING
