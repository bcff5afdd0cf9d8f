"""A canvas with depth: solids drawn by their exact surface, backgrounds, things in front, and what the camera adds.

Frames. canvas: pixels of the canvas, x right, y down, z towards the viewer (pixels as well); the canvas is
larger than the picture by `oversample`, and is shrunk at the end, which smooths all edges. Pixel centres are
at whole numbers in both.
"""

from __future__ import annotations

import colorsys
from collections.abc import Sequence

import cv2
import numpy as np

from pose.data.synthetic.clothes import random_colour, skin_colour
from pose.data.synthetic.person import Part, part_reach

NOTHING, THING = 0, 255  # identities on the canvas: background, and things in front; people are 1, 2, ...


class Canvas:
    """Colours (H, W, 3) uint8 RGB, depth (H, W) float32 and who is seen at each pixel (H, W) uint8."""

    def __init__(self, width: int, height: int) -> None:
        self.width, self.height = width, height
        self.colour = np.zeros((height, width, 3), np.uint8)
        self.depth = np.full((height, width), -np.inf, np.float32)
        self.identity = np.zeros((height, width), np.uint8)
        # Where each pixel is in the flattened canvas, and its x and y there: looking these up is cheaper than
        # computing them.
        self.place = np.arange(height * width, dtype=np.int32).reshape(height, width)
        self.x_flat = np.tile(np.arange(width, dtype=np.float32), height)
        self.y_flat = np.repeat(np.arange(height, dtype=np.float32), width)


def draw_parts(
    canvas: Canvas,
    parts: Sequence[Part],
    *,
    origin: np.ndarray,
    zoom: float,
    identity: int,
    light: np.ndarray,
    dim: float,
) -> None:
    """Draw solids given in statures, `zoom` canvas px each, with the figure's origin at `origin` (x, y, z), canvas frame.

    light: unit vector towards the light, canvas frame. dim: brightness of the side away from it, 0 to 1.

    Every solid is a quadric: with q = M^-1 p for a point p = (x, y, z) relative to its centre, its surface is
    q^T D q + 2 e.q - 1 = 0, where D = 1 and e = 0 for an ellipsoid and D = diag(1, -k^2, 1), e = (0, -k, 0)
    for a tube of taper k. For a pixel this is a quadratic equation in z, A z^2 + 2 B z + C = 0, whose larger
    root is the point that is seen. The pixels of all parts are worked on together (P parts, N pixels of their
    boxes, H pixels that they cover, V of which are seen): the parts are small, and numpy's cost is one of
    calls.
    """
    turn = np.array([1.0, -1.0, 1.0])
    axes_P33 = zoom * turn[:, None] * np.stack([part.axes_33 for part in parts])
    centre_P3 = zoom * turn * np.stack([part.centre_3 for part in parts]) + origin
    taper_P = np.array([part.taper for part in parts])
    tube_P = np.array([part.tube for part in parts])
    inverse_P33 = np.linalg.inv(axes_P33)
    metric_P3 = np.ones((len(parts), 3))
    metric_P3[tube_P, 1] = -(taper_P[tube_P] ** 2)
    form = np.einsum("pji,pj,pjk->pik", inverse_P33, metric_P3, inverse_P33)
    linear = -(taper_P * tube_P)[:, None] * inverse_P33[:, 1]
    square_P = form[:, 2, 2]
    reach_P2 = part_reach(axes_P33, tube_P, taper_P)[:, :2]
    first_P2 = np.maximum(np.ceil(centre_P3[:, :2] - reach_P2), 0).astype(int)
    last_P2 = np.minimum(np.floor(centre_P3[:, :2] + reach_P2) + 1, [canvas.width, canvas.height]).astype(int)
    last_P2[square_P <= 1e-12] = 0  # a tube seen from its end: the solids at its ends cover it

    boxes = [
        canvas.place[y0:y1, x0:x1].ravel()
        for (x0, y0), (x1, y1) in zip(first_P2.tolist(), last_P2.tolist(), strict=True)
    ]
    count_P = np.array([len(box) for box in boxes])
    pixel_N = np.concatenate(boxes)

    def spread(value_P: np.ndarray) -> np.ndarray:
        return value_P.astype(np.float32).repeat(count_P)

    # B^2 - A C is a quadratic in the pixel's dx and dy; where it is positive the part covers the pixel.
    dx_N = canvas.x_flat[pixel_N] - spread(centre_P3[:, 0])
    dy_N = canvas.y_flat[pixel_N] - spread(centre_P3[:, 1])
    inside_N = spread(form[:, 0, 2] ** 2 - square_P * form[:, 0, 0]) * dx_N
    inside_N += spread(2 * (form[:, 0, 2] * form[:, 1, 2] - square_P * form[:, 0, 1])) * dy_N
    inside_N += spread(2 * (form[:, 0, 2] * linear[:, 2] - square_P * linear[:, 0]))
    inside_N *= dx_N
    along_y_N = spread(form[:, 1, 2] ** 2 - square_P * form[:, 1, 1]) * dy_N
    along_y_N += spread(2 * (form[:, 1, 2] * linear[:, 2] - square_P * linear[:, 1]))
    along_y_N *= dy_N
    inside_N += along_y_N
    inside_N += spread(linear[:, 2] ** 2 + square_P)
    hit_H = np.flatnonzero(inside_N > 0)
    part_H = np.arange(len(parts), dtype=np.int32).repeat(count_P)[hit_H]
    pixel_H, dx_H, dy_H = pixel_N[hit_H], dx_N[hit_H], dy_N[hit_H]
    # B's coefficients, A, the y row of M^-1, and the centre's depth.
    row_P8 = np.column_stack(
        [form[:, 0, 2], form[:, 1, 2], linear[:, 2], square_P, inverse_P33[:, 1], centre_P3[:, 2]]
    ).astype(np.float32)
    bx, by, b, a, qx, qy, qz, cz = np.ascontiguousarray(row_P8.T)[:, part_H]
    z_H = (np.sqrt(inside_N[hit_H]) - (bx * dx_H + by * dy_H + b)) / a
    exists_H = (np.abs(qx * dx_H + qy * dy_H + qz * z_H) <= 1) | ~tube_P[part_H]
    inverse_P33 = inverse_P33.astype(np.float32)
    edge_P = np.searchsorted(part_H, np.arange(len(parts) + 1)).tolist()
    for p, part in enumerate(parts):
        if part.keep is not None and edge_P[p] < edge_P[p + 1]:
            here = slice(edge_P[p], edge_P[p + 1])
            exists_H[here] &= part.keep(inverse_P33[p] @ np.stack([dx_H[here], dy_H[here], z_H[here]]))
    depth_H = np.where(exists_H, z_H + cz, -np.inf).astype(np.float32)
    depth_flat = canvas.depth.reshape(-1)
    nearer_H = depth_H > depth_flat[pixel_H]
    np.maximum.at(depth_flat, pixel_H, depth_H)
    seen_V = np.flatnonzero(nearer_H & (depth_H == depth_flat[pixel_H]))

    part_V, pixel_V = part_H[seen_V], pixel_H[seen_V]
    q_V3 = np.einsum("vij,jv->vi", inverse_P33[part_V], np.stack([dx_H[seen_V], dy_H[seen_V], z_H[seen_V]]))
    q_3V = np.ascontiguousarray(q_V3.T)
    colour_V3 = np.empty((len(pixel_V), 3), np.float32)
    edge_P = np.searchsorted(part_V, np.arange(len(parts) + 1)).tolist()
    for part, start, end in zip(parts, edge_P[:-1], edge_P[1:], strict=True):
        if start < end:
            colour_V3[start:end] = part.paint(q_3V[:, start:end])
    # The normal is M^-T (D q + e); what is needed of it is its length and its share towards the light.
    taper_V = (taper_P * tube_P).astype(np.float32)[part_V]
    slope_V3 = q_V3
    slope_V3[:, 1] = np.where(tube_P[part_V], -taper_V * (1 + taper_V * q_V3[:, 1]), q_V3[:, 1])
    normal_V3 = np.einsum("vij,vi->vj", inverse_P33[part_V], slope_V3)
    facing_V = np.einsum("vj,j->v", normal_V3, light.astype(np.float32)) / np.sqrt(
        np.einsum("vj,vj->v", normal_V3, normal_V3) + 1e-12
    )
    colour_V3 *= (dim + (1 - dim) * np.clip(0.35 + 0.75 * facing_V, 0, 1.08))[:, None]
    canvas.colour.reshape(-1, 3)[pixel_V] = np.minimum(colour_V3, 255)
    canvas.identity.reshape(-1)[pixel_V] = identity


# --- what is behind and in front
# ------------------------------------------------------------------------------------


def draw_background(canvas: Canvas, rng: np.random.Generator, *, clutter: float = 1.0) -> None:
    """Sky and ground or wall and floor, with texture, furniture, trees, poles, writing and bars that look like limbs."""
    width, height = canvas.width, canvas.height
    picture = canvas.colour
    horizon = int(height * rng.uniform(0.35, 0.9))
    for top, bottom in ((0, horizon), (horizon, height)):
        if bottom <= top:
            continue
        first = random_colour(rng) if rng.random() < 0.25 else _muted_colour(rng)
        last = np.clip(first + rng.normal(0, 35, 3), 0, 255)
        ramp = np.linspace(first, last, bottom - top).astype(np.uint8)
        picture[top:bottom] = ramp[:, None]
    _add_texture(canvas, rng)
    unit = min(width, height)
    for _ in range(int(rng.poisson(9 * clutter)) + 2):
        _THINGS[int(np.searchsorted(_THING_SHARE, rng.random()))](picture, rng, unit)
    if rng.random() < 0.25:  # the background is out of focus
        picture[:] = cv2.blur(picture, (int(rng.integers(3, 8)),) * 2)


def _muted_colour(rng: np.random.Generator) -> np.ndarray:
    """What walls, floors, skies and lawns have."""
    return np.array(colorsys.hsv_to_rgb(rng.random(), rng.uniform(0.03, 0.5), rng.uniform(0.25, 0.95))) * 255


def _add_texture(canvas: Canvas, rng: np.random.Generator) -> None:
    cells = int(rng.integers(4, 40))
    coarse = (
        np.clip(rng.normal(128, rng.uniform(3, 20), (cells, cells, 1)), 0, 255)
        .astype(np.uint8)
        .repeat(3, axis=2)
    )
    smooth = cv2.INTER_LINEAR if rng.random() < 0.88 else cv2.INTER_NEAREST
    texture = cv2.resize(coarse, (canvas.width, canvas.height), interpolation=smooth)
    cv2.addWeighted(canvas.colour, 1, texture, 1, -128, dst=canvas.colour)


def _tuple(colour: np.ndarray) -> tuple[int, int, int]:
    r, g, b = colour.tolist()
    return min(255, int(r)), min(255, int(g)), min(255, int(b))


def _spot(picture: np.ndarray, rng: np.random.Generator) -> tuple[int, int]:
    return int(rng.uniform(-0.05, 1.05) * picture.shape[1]), int(rng.uniform(-0.05, 1.05) * picture.shape[0])


def _box(picture: np.ndarray, rng: np.random.Generator, unit: int) -> None:
    """A piece of furniture, a window or a crate, with lines across."""
    x, y = _spot(picture, rng)
    w, h = int(unit * rng.uniform(0.08, 0.5)), int(unit * rng.uniform(0.08, 0.5))
    colour = random_colour(rng)
    cv2.rectangle(picture, (x, y), (x + w, y + h), _tuple(colour), -1)
    edge = _tuple(colour * rng.uniform(0.4, 0.8))
    cv2.rectangle(picture, (x, y), (x + w, y + h), edge, max(1, unit // 90))
    for k in range(1, int(rng.integers(1, 5))):
        if rng.random() < 0.5:
            cv2.line(picture, (x + k * w // 4, y), (x + k * w // 4, y + h), edge, max(1, unit // 110))
        else:
            cv2.line(picture, (x, y + k * h // 4), (x + w, y + k * h // 4), edge, max(1, unit // 110))


def _tree(picture: np.ndarray, rng: np.random.Generator, unit: int) -> None:
    x, y = _spot(picture, rng)
    trunk = np.array([92, 66, 44]) * rng.uniform(0.6, 1.3)
    cv2.line(
        picture,
        (x, y),
        (x + int(unit * rng.normal(0, 0.04)), y + int(unit * rng.uniform(0.3, 0.8))),
        _tuple(trunk),
        max(2, int(unit * rng.uniform(0.02, 0.07))),
    )
    leaf = np.array([rng.uniform(30, 120), rng.uniform(80, 160), rng.uniform(20, 70)])
    for dx, dy, size, bright in zip(
        rng.normal(0, 0.09, 7),
        rng.normal(0, 0.07, 7),
        rng.uniform(0.04, 0.11, 7),
        rng.uniform(0.6, 1.3, 7),
        strict=True,
    ):
        cv2.circle(
            picture,
            (x + int(unit * dx), y + int(unit * dy)),
            max(1, int(unit * size)),
            _tuple(leaf * bright),
            -1,
        )


def _pole(picture: np.ndarray, rng: np.random.Generator, unit: int) -> None:
    x, y = _spot(picture, rng)
    length, angle = (
        unit * rng.uniform(0.4, 1.3),
        (np.pi / 2 if rng.random() < 0.5 else 0) + rng.normal(0, 0.12),
    )
    end = (x + int(length * np.cos(angle)), y - int(length * np.sin(angle)))
    cv2.line(picture, (x, y), end, _tuple(random_colour(rng)), max(1, int(unit * rng.uniform(0.008, 0.04))))


def _bars(picture: np.ndarray, rng: np.random.Generator, unit: int) -> None:
    """Two bars with a bend and round ends, of the colours of skin and cloth.

    What an arm or a leg might be.
    """
    x, y = _spot(picture, rng)
    thick = int(unit * rng.uniform(0.03, 0.07)) + 1
    angle = rng.uniform(0, 2 * np.pi)
    for colour in (random_colour(rng), skin_colour(rng) if rng.random() < 0.6 else random_colour(rng)):
        length = unit * rng.uniform(0.1, 0.2)
        end = (x + int(length * np.cos(angle)), y + int(length * np.sin(angle)))
        cv2.line(picture, (x, y), end, _tuple(colour), thick)
        (x, y), angle, thick = end, angle + rng.uniform(-1.8, 1.8), max(2, int(thick * 0.8))


def _ball(picture: np.ndarray, rng: np.random.Generator, unit: int) -> None:
    """A ball, a lamp, a bush: something round, at times of the colour of skin."""
    x, y = _spot(picture, rng)
    colour = skin_colour(rng) if rng.random() < 0.3 else random_colour(rng)
    half = (int(unit * rng.uniform(0.02, 0.13)) + 1, int(unit * rng.uniform(0.02, 0.13)) + 1)
    cv2.ellipse(picture, (x, y), half, float(rng.uniform(0, 180)), 0, 360, _tuple(colour), -1)


def _writing(picture: np.ndarray, rng: np.random.Generator, unit: int) -> None:
    x, y = _spot(picture, rng)
    text = "".join(chr(65 + k) for k in rng.integers(0, 26, int(rng.integers(2, 8))))
    cv2.putText(
        picture,
        text,
        (x, y),
        cv2.FONT_HERSHEY_SIMPLEX,
        float(unit * rng.uniform(0.002, 0.006)),
        _tuple(random_colour(rng)),
        max(1, unit // 80),
    )


def _wedge(picture: np.ndarray, rng: np.random.Generator, unit: int) -> None:
    x, y = _spot(picture, rng)
    corner = np.array([x, y]) + rng.normal(0, 0.22 * unit, (int(rng.integers(3, 6)), 2))
    cv2.fillPoly(picture, [cv2.convexHull(corner.astype(np.int32))], _tuple(random_colour(rng)))


_THINGS = (_box, _tree, _pole, _bars, _ball, _writing, _wedge)
_THING_SHARE = np.cumsum((0.2, 0.14, 0.16, 0.16, 0.14, 0.07, 0.13))[:-1]


def draw_cover(canvas: Canvas, rng: np.random.Generator, *, spot: np.ndarray, unit: float) -> None:
    """Something in front of everybody near `spot` (canvas px).

    A table, a post, a board, leaves. unit: a person's stature, canvas px.
    """
    mask = np.zeros((canvas.height, canvas.width), np.uint8)
    x, y = int(spot[0]), int(spot[1])
    kind = rng.random()
    if kind < 0.3:  # the edge of a table, a wall, a hedge: from one side to beyond the border
        w, h = int(unit * rng.uniform(0.2, 0.45)), int(unit * rng.uniform(0.08, 0.22))
        cv2.rectangle(mask, (x - w, y), (x + w, y + h), 255, -1)
    elif kind < 0.6:  # a post
        angle = rng.normal(0, 0.15) + (np.pi / 2 if rng.random() < 0.75 else 0)
        along = unit * np.array([np.cos(angle), np.sin(angle)])
        first, last = (spot - along).astype(int).tolist(), (spot + along).astype(int).tolist()
        cv2.line(mask, first, last, 255, max(2, int(unit * rng.uniform(0.025, 0.07))))
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
    first = random_colour(rng)
    second = np.clip(first * rng.uniform(0.6, 1.25), 0, 255)
    period = max(2, int(unit * rng.uniform(0.02, 0.12)))
    stripe = (np.add.outer(np.arange(h) * int(rng.integers(0, 2)), np.arange(w)) // period) % 2
    canvas.colour[box][covered] = np.where(stripe[..., None] > 0, first, second)[covered]
    canvas.depth[box][covered] = np.inf
    canvas.identity[box][covered] = THING


def develop(canvas: Canvas, rng: np.random.Generator, *, width: int, height: int) -> np.ndarray:
    """The picture (height, width, 3) uint8 RGB.

    Shrunk, with the blur, the exposure and the noise of a camera.
    """
    picture = cv2.resize(canvas.colour, (width, height), interpolation=cv2.INTER_AREA)
    kind = rng.random()
    if kind < 0.2:
        picture = cv2.GaussianBlur(picture, (0, 0), float(rng.uniform(0.4, 1.0)))
    elif kind < 0.27:  # the camera moved
        kernel = np.zeros((5, 5), np.float32)
        angle = rng.uniform(0, np.pi)
        reach = (round(2 * float(np.cos(angle))), round(2 * float(np.sin(angle))))
        cv2.line(kernel, (2 - reach[0], 2 - reach[1]), (2 + reach[0], 2 + reach[1]), 1.0)
        picture = cv2.filter2D(picture, -1, kernel / kernel.sum())
    # Exposure, white balance and contrast as one table per channel.
    level = np.arange(256, dtype=np.float32)
    gain = rng.uniform(0.85, 1.12) * rng.normal(1, 0.04, 3)
    contrast = rng.uniform(0.85, 1.15)
    table = np.clip((level[:, None] - 120) * contrast * gain + 120 * gain, 0, 255).astype(np.uint8)
    picture = cv2.LUT(picture, table[None])
    sigma = float(rng.uniform(0, 7))
    if (
        sigma > 1.5
    ):  # repeated from a short table: a random number for each pixel would take as long as the drawing
        grain = rng.normal(128.5, sigma, 4099).astype(np.uint8)
        noise = np.tile(grain, picture.size // len(grain) + 1)[: picture.size].reshape(picture.shape)
        cv2.addWeighted(picture, 1, noise, 1, -128, dst=picture)
    return np.ascontiguousarray(picture)
