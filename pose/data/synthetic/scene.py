"""Scenes: people placed in a picture, drawn from the farthest to the nearest, and the truth about what is seen of them.

Frames. px: picture pixels, zero-based, pixel centres at whole numbers. The canvas is OVERSAMPLE times as
large.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from pose.data.synthetic.draw import THING, Canvas, develop, draw_background, draw_cover, draw_parts
from pose.data.synthetic.person import Figure, draw_figure
from pose.keypoints.skeleton import MPII

OVERSAMPLE = 1.5  # canvas px per picture px
CENTRE_MISS = 0.035  # how far, in statures, an annotator's click is off the middle of a person
MOST_PEOPLE = THING - 1  # identities on the canvas are bytes


@dataclass(frozen=True)
class Placement:
    """A figure in a picture.

    Where its pelvis is (px) and how many px its stature has. Those named later are nearer.
    """

    figure: Figure
    pelvis_xy: np.ndarray
    stature: float


@dataclass(frozen=True)
class Drawn:
    """The truth about one person of a scene, in px.

    mpii_16x2, coco_17x2: joints. *_hidden: behind the person's own body, another person or a thing. *_inside:
    within the picture. head_box: x1 y1 x2 y2 around the head. joint_box: around the 16 joints. centre_2:
    about the middle of the person. stature: px.
    """

    kind: str
    from_behind: bool
    mpii_16x2: np.ndarray
    mpii_hidden_16: np.ndarray
    mpii_inside_16: np.ndarray
    coco_17x2: np.ndarray
    coco_hidden_17: np.ndarray
    coco_inside_17: np.ndarray
    head_box: np.ndarray
    joint_box: np.ndarray
    centre_2: np.ndarray
    stature: float


@dataclass(frozen=True)
class Scene:
    """A picture (H, W, 3) uint8 RGB, its people from the farthest to the nearest, and on the canvas (OVERSAMPLE times as large)
    who is seen where: 0 nobody, 1 + index of the person, 255 a thing in front."""

    image_HW3: np.ndarray
    people: tuple[Drawn, ...]
    identity_hw: np.ndarray


def fit(figure: Figure, *, longer_side: float, margin: float) -> tuple[float, np.ndarray, np.ndarray]:
    """How to fill a picture with a figure.

    (px per stature, pelvis_xy, picture size (w, h)) so that the picture's longer side has `longer_side` px,
    of which the share `margin` stays free at each end.
    """
    low, high = figure.extent()
    span = high - low
    stature = longer_side * (1 - 2 * margin) / float(span.max())
    free = margin * longer_side
    size = span * stature + 2 * free
    return stature, np.array([free - low[0] * stature, free + high[1] * stature]), size


def draw_scene(
    rng: np.random.Generator,
    *,
    width: int,
    height: int,
    placements: Sequence[Placement],
    covers: Sequence[tuple[np.ndarray, float]] = (),
    clutter: float = 1.0,
) -> Scene:
    """Draw a picture of `width` x `height` px.

    placements: from the farthest to the nearest. covers: things in front of everybody, (spot in px, size in
    px of a stature). clutter: how much stands in the background, 1 being usual.
    """
    assert len(placements) <= MOST_PEOPLE
    canvas = Canvas(round(width * OVERSAMPLE), round(height * OVERSAMPLE))
    zoom_xy = np.array([canvas.width / width, canvas.height / height])
    draw_background(canvas, rng, clutter=clutter)
    light = np.array([rng.normal(0, 0.6), -rng.uniform(0.3, 1.0), rng.uniform(0.5, 1.2)])
    light /= np.linalg.norm(light)
    dim = float(rng.uniform(0.35, 0.7))
    origins = []
    depth = 0.0
    for k, placed in enumerate(placements):
        zoom = placed.stature * OVERSAMPLE
        depth += 3 * zoom  # nobody stands within another one's depth
        origin = np.append((np.asarray(placed.pelvis_xy) + 0.5) * zoom_xy - 0.5, depth)
        draw_parts(
            canvas, placed.figure.parts, origin=origin, zoom=zoom, identity=k + 1, light=light, dim=dim
        )
        origins.append(origin)
    for spot, size in covers:
        draw_cover(canvas, rng, spot=(np.asarray(spot) + 0.5) * zoom_xy - 0.5, unit=size * OVERSAMPLE)
    image = develop(canvas, rng, width=width, height=height)
    miss_P2 = rng.normal(0, CENTRE_MISS, (len(placements), 2))
    people = tuple(
        _truth(canvas, placed, origin, zoom_xy, (width, height), miss)
        for placed, origin, miss in zip(placements, origins, miss_P2, strict=True)
    )
    return Scene(image, people, canvas.identity)


def _truth(
    canvas: Canvas,
    placed: Placement,
    origin: np.ndarray,
    zoom_xy: np.ndarray,
    size: tuple[int, int],
    miss: np.ndarray,
) -> Drawn:
    figure, zoom = placed.figure, placed.stature * OVERSAMPLE

    def look(joint_K3: np.ndarray, tolerance_K: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        xyz_K3 = joint_K3 * (zoom, -zoom, zoom) + origin
        column_K, row_K = np.rint(xyz_K3[:, 0]).astype(int), np.rint(xyz_K3[:, 1]).astype(int)
        on_canvas_K = (column_K >= 0) & (column_K < canvas.width) & (row_K >= 0) & (row_K < canvas.height)
        nearest_K = canvas.depth[np.clip(row_K, 0, canvas.height - 1), np.clip(column_K, 0, canvas.width - 1)]
        hidden_K = on_canvas_K & (nearest_K > xyz_K3[:, 2] + tolerance_K * zoom)
        joint_K2 = (xyz_K3[:, :2] + 0.5) / zoom_xy - 0.5
        inside_K = ((joint_K2 >= 0) & (joint_K2 <= np.array(size) - 1)).all(axis=1)
        return joint_K2, hidden_K, inside_K

    mpii, mpii_hidden, mpii_inside = look(figure.mpii_16x3, figure.mpii_tolerance_16)
    coco, coco_hidden, coco_inside = look(figure.coco_17x3, figure.coco_tolerance_17)
    pelvis = np.asarray(placed.pelvis_xy)
    head = pelvis + placed.stature * figure.head_3[:2] * (1, -1)
    # MPII's box runs from the upper neck to the top of the head: the head's own box, and the neck's upper
    # end.
    reach = placed.stature * np.sqrt((figure.head_axes_33**2).sum(axis=1))[:2] * 1.08
    neck = mpii[8]
    head_box = np.concatenate([np.minimum(head - reach, neck), np.maximum(head + reach, neck)])
    joint_box = np.concatenate([mpii.min(axis=0), mpii.max(axis=0)])
    return Drawn(
        kind=figure.kind,
        from_behind=figure.from_behind,
        mpii_16x2=mpii,
        mpii_hidden_16=mpii_hidden,
        mpii_inside_16=mpii_inside,
        coco_17x2=coco,
        coco_hidden_17=coco_hidden,
        coco_inside_17=coco_inside,
        head_box=head_box,
        joint_box=joint_box,
        centre_2=(joint_box[:2] + joint_box[2:]) / 2 + miss * placed.stature,
        stature=placed.stature,
    )


def bystander(rng: np.random.Generator, pelvis: np.ndarray, stature: float) -> Placement:
    """Somebody farther away, beside the person whose pelvis is given."""
    aside = (1 if rng.random() < 0.5 else -1) * rng.uniform(0.3, 0.8)
    return Placement(
        draw_figure(rng),
        pelvis + stature * np.array([aside, rng.normal(-0.03, 0.08)]),
        stature * float(rng.uniform(0.55, 0.95)),
    )


_COVERED = [MPII.index(joint) for joint in MPII.joints if joint not in ("thorax", "upper_neck", "head_top")]


def cover_for(rng: np.random.Generator, placed: Placement) -> tuple[np.ndarray, float]:
    """A place for a thing that hides some of a person.

    Near one of the joints other than those of the head.
    """
    joint = placed.figure.mpii_16x3[_COVERED[int(rng.integers(len(_COVERED)))]]
    spot = placed.pelvis_xy + placed.stature * (joint[:2] * (1, -1) + rng.normal(0, 0.06, 2))
    return spot, placed.stature


def corners(placed: Placement) -> tuple[np.ndarray, np.ndarray]:
    """Smallest and largest x, y of a placed figure, px."""
    low, high = placed.figure.extent()
    return (
        placed.pelvis_xy + placed.stature * np.array([low[0], -high[1]]),
        placed.pelvis_xy + placed.stature * np.array([high[0], -low[1]]),
    )
