"""A canvas with depth: solids drawn by their exact surface, and what a camera adds.

Frames. canvas: pixels of the canvas, x right, y down, z towards the viewer (pixels as well); the canvas is
larger than the image by `scene.OVERSAMPLE`, and is shrunk at the end, which smooths all edges. Pixel centres
are at whole numbers in both.
"""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np

from pose.data.synthetic.person import Part, part_reach, stack_parts

THING = 255  # identity on the canvas of things in front; 0 is the background, people are 1, 2, ...


class Canvas:
    """Colours (H, W, 3) uint8 RGB, depth (H, W) float32 and who is seen at each pixel (H, W) uint8."""

    def __init__(self, width: int, height: int) -> None:
        self.width, self.height = width, height
        self.colour = np.zeros((height, width, 3), np.uint8)
        self.depth = np.full((height, width), -np.inf, np.float32)
        self.identity = np.zeros((height, width), np.uint8)
        # Place of each pixel in the flattened canvas, and its x and y: looking them up is cheaper than
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
    """Draw solids given in statures, `zoom` canvas px each, the figure's origin at `origin` (x, y, z).

    origin, light (unit vector towards it): canvas frame. dim: brightness of the side away from the light, 0
    to 1.

    Every solid is a quadric: with q = M^-1 p for a point p = (x, y, z) relative to its centre, its surface is
    q^T D q + 2 e.q - 1 = 0, where D = 1 and e = 0 for an ellipsoid and D = diag(1, -k^2, 1), e = (0, -k, 0)
    for a tube of taper k. For a pixel this is a quadratic equation in z, A z^2 + 2 B z + C = 0, whose larger
    root is the point that is seen. The pixels of all parts are worked on together (P parts, N pixels of their
    boxes, H pixels that they cover, V of which are seen): the parts are small, and numpy's cost is one of
    calls.
    """
    turn = np.array([1.0, -1.0, 1.0])
    centre_P3, axes_P33, tube_P, taper_P = stack_parts(parts)
    centre_P3, axes_P33 = zoom * turn * centre_P3 + origin, zoom * turn[:, None] * axes_P33
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

    ends = zip(first_P2.tolist(), last_P2.tolist(), strict=True)
    boxes = [canvas.place[y0:y1, x0:x1].ravel() for (x0, y0), (x1, y1) in ends]
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
    length_V = np.sqrt(np.einsum("vj,vj->v", normal_V3, normal_V3) + 1e-12)
    facing_V = np.einsum("vj,j->v", normal_V3, light.astype(np.float32)) / length_V
    colour_V3 *= (dim + (1 - dim) * np.clip(0.35 + 0.75 * facing_V, 0, 1.08))[:, None]
    canvas.colour.reshape(-1, 3)[pixel_V] = np.minimum(colour_V3, 255)
    canvas.identity.reshape(-1)[pixel_V] = identity


def develop(canvas: Canvas, rng: np.random.Generator, *, width: int, height: int) -> np.ndarray:
    """The image (height, width, 3) uint8 RGB: shrunk, with the blur, exposure and noise of a camera."""
    image = cv2.resize(canvas.colour, (width, height), interpolation=cv2.INTER_AREA)
    kind = rng.random()
    if kind < 0.2:
        image = cv2.GaussianBlur(image, (0, 0), rng.uniform(0.4, 1.0))
    elif kind < 0.27:  # the camera moved
        kernel = np.zeros((5, 5), np.float32)
        angle = rng.uniform(0, np.pi)
        reach = (round(2 * float(np.cos(angle))), round(2 * float(np.sin(angle))))
        cv2.line(kernel, (2 - reach[0], 2 - reach[1]), (2 + reach[0], 2 + reach[1]), 1.0)
        image = cv2.filter2D(image, -1, kernel / kernel.sum())
    # Exposure, white balance and contrast as one table per channel.
    level = np.arange(256, dtype=np.float32)
    gain = rng.uniform(0.85, 1.12) * rng.normal(1, 0.04, 3)
    contrast = rng.uniform(0.85, 1.15)
    table = np.clip((level[:, None] - 120) * contrast * gain + 120 * gain, 0, 255).astype(np.uint8)
    image = cv2.LUT(image, table[None])
    sigma = rng.uniform(0, 7)
    if sigma > 1.5:  # a short table repeated: random numbers for all pixels take as long as the drawing
        grain = rng.normal(128.5, sigma, 4099).astype(np.uint8)
        noise = np.tile(grain, image.size // len(grain) + 1)[: image.size].reshape(image.shape)
        cv2.addWeighted(image, 1, noise, 1, -128, dst=image)
    return np.ascontiguousarray(image)
