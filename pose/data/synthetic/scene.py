"""Scenes: people placed in an image, drawn from the farthest to the nearest, and the truth about each.

Frames. px: image pixels, zero-based, pixel centres at whole numbers. The canvas is OVERSAMPLE times as large.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from pose.data.synthetic.background import draw_background, draw_cover
from pose.data.synthetic.canvas import THING, Canvas, develop, draw_parts
from pose.data.synthetic.person import MPII, Figure, FigureJoints

OVERSAMPLE = 1.5  # canvas px per image px
CENTRE_MISS = 0.035  # how far, in statures, an annotator's click is off the middle of a person


@dataclass(frozen=True)
class Placement:
    """A figure in an image: where its pelvis is, px, and how many px its stature has."""

    figure: Figure
    pelvis_xy: np.ndarray
    stature: float


@dataclass(frozen=True)
class Joints:
    """Joints in px. hidden: behind the person's own body, another person or a thing. inside: in the image."""

    xy_K2: np.ndarray
    hidden_K: np.ndarray
    inside_K: np.ndarray

    @property
    def seen_K(self) -> np.ndarray:
        """(K,) bool: in the image and not hidden."""
        return self.inside_K & ~self.hidden_K


@dataclass(frozen=True)
class PersonTruth:
    """The truth about a person of a scene, px.

    mpii, coco: joints of each skeleton. head_box: x1 y1 x2 y2. centre_xy: about the middle of the person.
    """

    mpii: Joints
    coco: Joints
    head_box: np.ndarray
    centre_xy: np.ndarray
    stature: float


@dataclass(frozen=True)
class Scene:
    """An image (H, W, 3) uint8 RGB and its people, from the farthest to the nearest.

    identity_hw: what is seen at each px of the canvas: 0 nobody, 1 + index of the person, THING in front.
    """

    image_HW3: np.ndarray
    people: tuple[PersonTruth, ...]
    identity_hw: np.ndarray


def fit(figure: Figure, *, longer_side: float, margin: float) -> tuple[float, np.ndarray, np.ndarray]:
    """How to fill an image with a figure: px per stature, pelvis_xy, image size (w, h).

    The image's longer side has `longer_side` px, of which the share `margin` stays free at each end.
    """
    low, high = figure.extent()
    span = high - low
    stature = longer_side * (1 - 2 * margin) / float(span.max())
    free = margin * longer_side
    pelvis_xy = np.array([free - low[0] * stature, free + high[1] * stature])
    return stature, pelvis_xy, span * stature + 2 * free


def draw_scene(
    rng: np.random.Generator,
    *,
    width: int,
    height: int,
    placements: Sequence[Placement],
    covers: Sequence[tuple[np.ndarray, float]] = (),
    clutter: float = 1.0,
) -> Scene:
    """Draw an image of `width` x `height` px.

    placements: from the farthest to the nearest. covers: things in front of everybody, (spot in px, size in
    px of a stature). clutter: how much stands in the background, 1 being usual.
    """
    assert len(placements) < THING  # identities on the canvas are bytes
    canvas = Canvas(round(width * OVERSAMPLE), round(height * OVERSAMPLE))
    zoom_xy = np.array([canvas.width / width, canvas.height / height])
    draw_background(canvas, rng, clutter=clutter)
    light = np.array([rng.normal(0, 0.6), -rng.uniform(0.3, 1.0), rng.uniform(0.5, 1.2)])
    light /= np.linalg.norm(light)
    dim = rng.uniform(0.35, 0.7)
    origins = []
    depth = 0.0
    for k, placed in enumerate(placements):
        zoom = placed.stature * OVERSAMPLE
        depth += 3 * zoom  # nobody stands within another one's depth
        origin = np.append((np.asarray(placed.pelvis_xy) + 0.5) * zoom_xy - 0.5, depth)
        parts = placed.figure.parts
        draw_parts(canvas, parts, origin=origin, zoom=zoom, identity=k + 1, light=light, dim=dim)
        origins.append(origin)
    for spot, size in covers:
        draw_cover(canvas, rng, spot=(np.asarray(spot) + 0.5) * zoom_xy - 0.5, unit=size * OVERSAMPLE)
    image = develop(canvas, rng, width=width, height=height)
    miss_P2 = rng.normal(0, CENTRE_MISS, (len(placements), 2))
    people = tuple(
        _truth(canvas, placed, origin, (width, height), miss)
        for placed, origin, miss in zip(placements, origins, miss_P2, strict=True)
    )
    return Scene(image, people, canvas.identity)


def _truth(
    canvas: Canvas, placed: Placement, origin: np.ndarray, size: tuple[int, int], miss: np.ndarray
) -> PersonTruth:
    figure, zoom = placed.figure, placed.stature * OVERSAMPLE
    zoom_xy = np.array([canvas.width / size[0], canvas.height / size[1]])

    def look(joints: FigureJoints) -> Joints:
        xyz_K3 = joints.xyz_K3 * (zoom, -zoom, zoom) + origin
        column_K, row_K = np.rint(xyz_K3[:, 0]).astype(int), np.rint(xyz_K3[:, 1]).astype(int)
        on_canvas_K = (column_K >= 0) & (column_K < canvas.width) & (row_K >= 0) & (row_K < canvas.height)
        nearest_K = canvas.depth[np.clip(row_K, 0, canvas.height - 1), np.clip(column_K, 0, canvas.width - 1)]
        hidden_K = on_canvas_K & (nearest_K > xyz_K3[:, 2] + joints.tolerance_K * zoom)
        xy_K2 = (xyz_K3[:, :2] + 0.5) / zoom_xy - 0.5
        return Joints(xy_K2, hidden_K, ((xy_K2 >= 0) & (xy_K2 <= np.array(size) - 1)).all(axis=1))

    mpii = look(figure.mpii)
    low, high = mpii.xy_K2.min(axis=0), mpii.xy_K2.max(axis=0)
    # MPII's box runs from the upper neck to the top of the head: the head's own box and the neck's upper end.
    head = np.asarray(placed.pelvis_xy) + placed.stature * figure.head_3[:2] * (1, -1)
    reach = placed.stature * np.sqrt((figure.head_axes_33**2).sum(axis=1))[:2] * 1.08
    neck = mpii.xy_K2[MPII.index("upper_neck")]
    return PersonTruth(
        mpii=mpii,
        coco=look(figure.coco),
        head_box=np.concatenate([np.minimum(head - reach, neck), np.maximum(head + reach, neck)]),
        centre_xy=(low + high) / 2 + miss * placed.stature,
        stature=placed.stature,
    )


def bystander(rng: np.random.Generator, pelvis: np.ndarray, stature: float) -> Placement:
    """Somebody farther away, beside the person whose pelvis is given."""
    aside = (1 if rng.random() < 0.5 else -1) * rng.uniform(0.3, 0.8)
    figure = Figure(rng)
    place = pelvis + stature * np.array([aside, rng.normal(-0.03, 0.08)])
    return Placement(figure, place, stature * rng.uniform(0.55, 0.95))


_COVERED = [MPII.index(joint) for joint in MPII.joints if joint not in ("thorax", "upper_neck", "head_top")]


def cover_for(rng: np.random.Generator, placed: Placement) -> tuple[np.ndarray, float]:
    """A place for a thing that hides some of a person, near a joint below the head, and its size in px."""
    joint = placed.figure.mpii.xyz_K3[_COVERED[int(rng.integers(len(_COVERED)))]]
    spot = placed.pelvis_xy + placed.stature * (joint[:2] * (1, -1) + rng.normal(0, 0.06, 2))
    return spot, placed.stature


def corners(placed: Placement) -> tuple[np.ndarray, np.ndarray]:
    """Smallest and largest x, y of a placed figure, px."""
    low, high = placed.figure.extent()
    return (
        placed.pelvis_xy + placed.stature * np.array([low[0], -high[1]]),
        placed.pelvis_xy + placed.stature * np.array([high[0], -low[1]]),
    )
