"""People drawn on their image.

Legend: P people, K joints, H W image px. Images are (H, W, 3) uint8 RGB. Colours are those of Okabe and Ito,
which people of any colour vision can tell apart. Left and right differ in two ways: left limbs are light with
a pale rim, right limbs deep with a dark one. One person alone has a colour for each side; of several people
each has a hue, in a light and a deep shade.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import hypot
from typing import NamedTuple, Self

import cv2
import numpy as np

from pose.keypoints.people import People
from pose.keypoints.skeleton import LEFT, MIDDLE, RIGHT, Skeleton, side_and_part

Colour = tuple[int, int, int]

PALE, DARK, GREY = (255, 255, 255), (20, 20, 20), (235, 235, 235)
ALONE: dict[str, Colour] = {LEFT: (86, 180, 233), RIGHT: (213, 94, 0), MIDDLE: (240, 228, 66)}
# Without the two whose light or deep shade is another's: blue and vermillion.
HUES: tuple[Colour, ...] = ((230, 159, 0), (86, 180, 233), (0, 158, 115), (204, 121, 167), (240, 228, 66))
SURE = 0.05  # joints below this confidence are drawn dashed

FONT = cv2.FONT_HERSHEY_SIMPLEX, 0.45  # and its size: letters are 10 px high

_SHIFT = 4  # cv2 draws at fractions of a pixel if it is given integers of 1/16 px
_FAR = 1e6  # coordinates beyond this are drawn as if here: they would overflow cv2's integers


class _Pen(NamedTuple):
    colour: Colour
    rim: Colour
    thickness: float
    opacity: float
    dashed: bool


def draw_people(
    image_HW3: np.ndarray,
    people: People,
    skeleton: Skeleton,
    *,
    truth: People | None = None,
    zoom: float = 1.0,
    names: bool = False,
    ids: Sequence[int] | None = None,
) -> np.ndarray:
    """A copy of the image, enlarged `zoom` times, with the people drawn on it.

    The more confident a limb (the lesser of its two joints), the more opaque; below SURE it is dashed. Joints
    that are NaN are left out with their limbs. Lines grow with the image, and are finer on smaller people.
    truth: thin white lines below, and small dots on top, coloured by side (so that a prediction with left and
    right exchanged shows). Joints are in px of the image as given, whatever the zoom. names: of the joints,
    beside them where there is room. ids: of the people, written above them; each has its colour.
    """
    canvas = _enlarged(image_HW3, zoom)
    true_PK2 = [] if truth is None else [_zoomed(joint_K2, skeleton, zoom) for joint_K2 in truth.joint_PK2]
    for joint_K2 in true_PK2:
        _draw_true_limbs(canvas, joint_K2, skeleton)
    for number in range(len(people)):
        joint_K2 = _zoomed(people.joint_PK2[number], skeleton, zoom)
        score_K = np.nan_to_num(np.asarray(people.score_PK[number], dtype=np.float64))
        hue = HUES[(number if ids is None else ids[number]) % len(HUES)]
        colours = ALONE if len(people) == 1 and ids is None else shades(hue)
        thickness = _thickness(joint_K2, canvas)
        for limb in skeleton.limbs:
            _draw_limb(canvas, joint_K2[list(limb)], _pen(limb, skeleton, score_K, colours, thickness))
        for joint in range(len(skeleton)):
            _draw_joint(canvas, joint_K2[joint], _pen((joint,), skeleton, score_K, colours, thickness))
        if ids is not None and np.isfinite(joint_K2).any():
            _draw_id(canvas, joint_K2, ids[number], hue)
    for joint_K2 in true_PK2:
        _draw_true_joints(canvas, joint_K2, skeleton)
    if names:
        _draw_names(canvas, [_zoomed(joint_K2, skeleton, zoom) for joint_K2 in people.joint_PK2], skeleton)
    return canvas


def shades(hue: Colour) -> dict[str, Colour]:
    """The colours by side of one person among several."""

    def mix(towards: int, share: float) -> Colour:
        red, green, blue = (round(channel + (towards - channel) * share) for channel in hue)
        return red, green, blue

    return {LEFT: mix(255, 0.45), RIGHT: mix(0, 0.35), MIDDLE: hue}


def _enlarged(image: np.ndarray, zoom: float) -> np.ndarray:
    if image.ndim != 3 or image.shape[2] != 3 or image.dtype != np.uint8:
        found = f"{image.dtype} of shape {image.shape}"
        raise ValueError(f"image: found {found}, expected uint8 RGB of shape (height, width, 3)")
    if not zoom > 0:
        raise ValueError(f"zoom: found {zoom}, expected a number above 0")
    if zoom == 1:
        return np.array(image)  # contiguous and ours to draw on
    height, width = (max(1, round(side * zoom)) for side in image.shape[:2])
    return cv2.resize(image, (width, height), interpolation=cv2.INTER_CUBIC if zoom > 1 else cv2.INTER_AREA)


def _zoomed(joint_K2: np.ndarray, skeleton: Skeleton, zoom: float) -> np.ndarray:
    joint = np.asarray(joint_K2, dtype=np.float64)
    if joint.shape != (len(skeleton), 2):
        expected = f"{(len(skeleton), 2)} of skeleton {skeleton.name}"
        raise ValueError(f"joints: found shape {joint.shape} a person, expected {expected}")
    joint = np.where(np.isfinite(joint).all(axis=1, keepdims=True), joint, np.nan)
    return np.clip((joint + 0.5) * zoom - 0.5, -_FAR, _FAR)


def _side(names: Sequence[str]) -> str:
    """The side of joints of one side, or of one side and the middle; MIDDLE for others."""
    sides = {side_and_part(name)[0] for name in names} - {MIDDLE}
    return sides.pop() if len(sides) == 1 else MIDDLE


def _pen(
    joints: Sequence[int],
    skeleton: Skeleton,
    score_K: np.ndarray,
    colours: dict[str, Colour],
    thickness: float,
) -> _Pen:
    side = _side([skeleton.joints[joint] for joint in joints])
    score = float(min(score_K[joint] for joint in joints))
    opacity = 0.3 + 0.7 * min(max(score, 0.0), 1.0)
    return _Pen(colours[side], PALE if side == LEFT else DARK, thickness, opacity, dashed=score < SURE)


def _thickness(joint_K2: np.ndarray, canvas: np.ndarray) -> float:
    found = joint_K2[~np.isnan(joint_K2).any(axis=1)]
    extent = float(np.ptp(found, axis=0).max()) if len(found) else 0.0
    return min(max(1.0, 0.018 * extent), max(1.0, 0.012 * max(canvas.shape[:2])))


def _draw_limb(canvas: np.ndarray, end_22: np.ndarray, pen: _Pen) -> None:
    if np.isnan(end_22).any():
        return
    pieces = _dashes(end_22, 4 * pen.thickness, canvas.shape) if pen.dashed else [end_22]
    rim = pen.thickness + 2 * _rim(pen.thickness)
    with _Patch(canvas, end_22, rim, pen.opacity) as patch:
        for colour, thickness in ((pen.rim, rim), (pen.colour, pen.thickness)):
            for piece in pieces:
                patch.line(piece, colour, thickness)


def _draw_joint(canvas: np.ndarray, joint_2: np.ndarray, pen: _Pen) -> None:
    if np.isnan(joint_2).any():
        return
    radius = 1.1 * pen.thickness
    with _Patch(canvas, joint_2[None], 2 * radius + 4, pen.opacity) as patch:
        patch.dot(joint_2, pen.rim, radius + _rim(pen.thickness))
        patch.dot(joint_2, pen.colour, radius)


def _draw_true_limbs(canvas: np.ndarray, joint_K2: np.ndarray, skeleton: Skeleton) -> None:
    thickness = max(1.0, 0.3 * _thickness(joint_K2, canvas))
    for limb in skeleton.limbs:
        _draw_limb(canvas, joint_K2[list(limb)], _Pen(PALE, DARK, thickness, 1.0, dashed=False))


def _draw_true_joints(canvas: np.ndarray, joint_K2: np.ndarray, skeleton: Skeleton) -> None:
    thickness = 1.5 * max(1.0, 0.3 * _thickness(joint_K2, canvas))
    for joint_2, name in zip(joint_K2, skeleton.joints, strict=True):
        _draw_joint(canvas, joint_2, _Pen(ALONE[_side([name])], PALE, thickness, 1.0, dashed=False))


def _draw_names(canvas: np.ndarray, joint_PK2: Sequence[np.ndarray], skeleton: Skeleton) -> None:
    """Right or left of a joint, unless an earlier name is there or the image ends."""
    is_free_HW = np.ones(canvas.shape[:2], dtype=bool)
    joints = [
        (skeleton.joints[k], *joint_K2[k], 4 + 2 * _thickness(joint_K2, canvas))
        for joint_K2 in joint_PK2
        for k in skeleton.order
    ]
    for name, x, y, away in joints:
        (width, height), below = cv2.getTextSize(name, *FONT, 1)
        tall = height + below
        for left in (x + away, x - away - width):
            if not (left >= 0 and y >= height):  # nor where they are NaN
                continue
            box = np.s_[int(y) - height // 2 :, int(left) :]
            room_hw = is_free_HW[box][:tall, :width]
            if room_hw.size == tall * width and room_hw.all():
                room_hw[:] = False
                canvas[box][:tall, :width] //= 3  # darker, for white letters
                place = int(left), int(y) - height // 2 + height
                cv2.putText(canvas, name, place, *FONT, PALE, 1, cv2.LINE_AA)
                break


def _draw_id(canvas: np.ndarray, joint_K2: np.ndarray, number: int, hue: Colour) -> None:
    """Above the person's highest joint, or at the image's edge."""
    (width, height), _ = cv2.getTextSize(str(number), *FONT, 2)
    x, y = joint_K2[np.nanargmin(joint_K2[:, 1])] - [width / 2, height]
    room_y, room_x = canvas.shape[:2]
    place = int(np.clip(x, 0, max(0, room_x - width))), int(np.clip(y, height, max(height, room_y - 1)))
    for colour, thickness in ((DARK, 4), (hue, 2)):
        cv2.putText(canvas, str(number), place, *FONT, colour, thickness, cv2.LINE_AA)


def _rim(thickness: float) -> float:
    return max(0.75, 0.3 * thickness)


def _dashes(end_22: np.ndarray, dash: float, shape: tuple[int, ...]) -> list[np.ndarray]:
    """Pieces of a line, as long as the gaps between them."""
    length = hypot(*(end_22[1] - end_22[0]))
    # A line that ends far outside would be cut into millions: no more pieces than the image could show.
    count = int(min(max(2, length / (2 * dash)), max(shape)))
    share_N2 = np.linspace(0, 1, 2 * count).reshape(count, 2)  # start and end of each piece along the line
    return [end_22[0] + share_2[:, None] * (end_22[1] - end_22[0]) for share_2 in share_N2]


class _Patch:
    """The part of a canvas around some points: drawn on in a copy, which is then blended in."""

    def __init__(self, canvas: np.ndarray, point_N2: np.ndarray, margin: float, opacity: float):
        height, width = canvas.shape[:2]
        low = np.clip(np.floor(point_N2.min(axis=0) - margin - 2), 0, [width, height]).astype(int)
        high = np.clip(np.ceil(point_N2.max(axis=0) + margin + 3), 0, [width, height]).astype(int)
        self.part = canvas[low[1] : high[1], low[0] : high[0]]
        self.opacity, self.origin = opacity, low

    def __enter__(self) -> Self:
        self.drawn = np.array(self.part)
        return self

    def __exit__(self, *_: object) -> None:
        if self.drawn.size and self.opacity < 1:
            self.drawn = cv2.addWeighted(self.drawn, self.opacity, self.part, 1 - self.opacity, 0)
        self.part[:] = self.drawn

    def line(self, end_22: np.ndarray, colour: Colour, thickness: float) -> None:
        if self.drawn.size:
            start, end = self._fixed(end_22)
            cv2.line(self.drawn, start, end, colour, max(1, round(thickness)), cv2.LINE_AA, _SHIFT)

    def dot(self, centre_2: np.ndarray, colour: Colour, radius: float) -> None:
        if self.drawn.size:
            [centre] = self._fixed(centre_2[None])
            fixed_radius = max(1, round(radius * 2**_SHIFT))
            cv2.circle(self.drawn, centre, fixed_radius, colour, cv2.FILLED, cv2.LINE_AA, _SHIFT)

    def _fixed(self, point_N2: np.ndarray) -> list[tuple[int, int]]:
        return [(int(x), int(y)) for x, y in np.round((point_N2 - self.origin) * 2**_SHIFT)]
