"""Random draws of augmentation as values, and an image's pixels as a network's input under them.

Values can be printed, tested and replayed. H W image px.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from pose.data.formats.person_table import PERSON_HEIGHT
from pose.io.images import shrink
from pose.keypoints.geometry import compose, crop_affine, invert
from pose.params import AugmentParams, MultiAugmentParams, ScaleParams, SingleInferenceParams

# A warp alone skips pixels. So large images are first shrunk, by averaging, to OVERSAMPLING times the size
# that the warp gives them, unless more than SHRINKS_BELOW of their sides would be left: that gains little.
OVERSAMPLING, SHRINKS_BELOW = 1.25, 0.8


@dataclass(frozen=True)
class Augment:
    """Augmentation of one single-person sample.

    angle: degrees, counter-clockwise as seen. widen: factor of the crop's side. gain: of the RGB channels.
    """

    angle: float = 0.0
    widen: float = 1.0
    flip: bool = False
    gain: tuple[float, float, float] = (1.0, 1.0, 1.0)

    @staticmethod
    def draw(rng: np.random.Generator, params: AugmentParams) -> Augment:
        """Draw from the distributions of the published codes; `params` says which."""
        rotation, colour = params.rotation, params.colour
        # Few calls of the generator, and Python's arithmetic: numpy's is ten times slower on single numbers.
        turn, widen = rng.standard_normal(2).tolist()
        turned, flip, *gain = rng.random(5).tolist()
        red, green, blue = (1 - colour + 2 * colour * share for share in gain)
        return Augment(
            angle=_clip(rotation.deg * turn, rotation.clip) if turned < rotation.probability else 0.0,
            widen=_widen(widen, params.scale),
            flip=flip < params.flip,
            gain=(red, green, blue),
        )


@dataclass(frozen=True)
class MultiAugment:
    """Augmentation of one image of several people.

    angle: degrees, counter-clockwise as seen. widen: factor of the square's side. shift: of the square's
    middle, as shares of its widened side. hue: degrees. saturation, contrast: factors. brightness: share of
    white.
    """

    angle: float = 0.0
    widen: float = 1.0
    shift: tuple[float, float] = (0.0, 0.0)
    flip: bool = False
    hue: float = 0.0
    saturation: float = 1.0
    brightness: float = 0.0
    contrast: float = 1.0

    @staticmethod
    def draw(rng: np.random.Generator, params: MultiAugmentParams) -> MultiAugment:
        """Draw from the distributions of the published recipe (arXiv 1611.05424 and its code)."""

        def about(middle: float, spread: float) -> float:
            return float(rng.uniform(middle - spread, middle + spread))

        return MultiAugment(
            angle=about(0, params.rotation),
            widen=about(1, params.scale),
            shift=(about(0, params.shift), about(0, params.shift)),
            flip=bool(rng.random() < params.flip),
            hue=about(0, params.hue),
            saturation=about(1, params.saturation),
            brightness=about(0, params.brightness),
            contrast=about(1, params.contrast),
        )

    def recolour(self, image_HW3: np.ndarray) -> np.ndarray:
        """The uint8 RGB image with hue, saturation, brightness and contrast (about its mean) changed."""
        if self.hue or self.saturation != 1:
            hsv_HW3 = cv2.cvtColor(image_HW3, cv2.COLOR_RGB2HSV)
            level = np.arange(256)
            hue = np.rint(level + self.hue / 2) % 180  # OpenCV counts hue in steps of two degrees
            saturation = np.clip(np.rint(level * self.saturation), 0, 255)
            table = np.stack([hue, saturation, level], axis=1).astype(np.uint8)
            image_HW3 = cv2.cvtColor(cv2.LUT(hsv_HW3, table[None]), cv2.COLOR_HSV2RGB)
        if self.brightness or self.contrast != 1:
            mean = float(np.mean(cv2.mean(image_HW3)[:3]))
            changed = (np.arange(256) - mean) * self.contrast + mean + 255 * self.brightness
            image_HW3 = cv2.LUT(image_HW3, np.clip(np.rint(changed), 0, 255).astype(np.uint8))
        return image_HW3


UPRIGHT, UNCHANGED = Augment(), MultiAugment()


def person_affine(
    centre_xy: np.ndarray, scale: float, *, params: SingleInferenceParams, augment: Augment = UPRIGHT
) -> np.ndarray:
    """Affine from image px to input px for a person around `centre_xy` (image px), `scale` * 200 px tall."""
    side = PERSON_HEIGHT * scale * params.crop * augment.widen
    return crop_affine(centre_xy, side, params.input_size, angle=augment.angle, flip=augment.flip)


def crop(
    image_HW3: np.ndarray, affine_23: np.ndarray, size: int, *, out: np.ndarray | None = None
) -> np.ndarray:
    """The square of `size` px that `affine_23` (image px -> crop px) shows, black outside the image.

    out: an array to put it in.
    """
    return cv2.warpAffine(image_HW3, affine_23, (size, size), dst=out)


def image_affine(size_wh: np.ndarray, size: int, augment: MultiAugment = UNCHANGED) -> np.ndarray:
    """Affine from image px to the px of a square of `size` px that shows the image, or its augmentation.

    size_wh: width and height of the image, px.
    """
    wh = np.asarray(size_wh, dtype=np.float64)
    side = wh.max() * augment.widen
    centre_xy = (wh - 1) / 2 + np.array(augment.shift) * side
    return crop_affine(centre_xy, side, size, angle=augment.angle, flip=augment.flip)


def warp(
    image_HW3: np.ndarray,
    affine: np.ndarray,
    size: int,
    augment: MultiAugment = UNCHANGED,
    *,
    out: np.ndarray | None = None,
) -> np.ndarray:
    """The square of `size` px that `affine` (image px -> input px) shows, in the colours of `augment`.

    Where it becomes much smaller, pixels are averaged first. out: an array to put it in.
    """
    zoom = np.sqrt(abs(np.linalg.det(affine[:, :2])))
    small = OVERSAMPLING * zoom
    small_HW3, small_affine = shrink(image_HW3, small if small < SHRINKS_BELOW else 1.0)
    # Before the crop adds black around the image, which keeps its colour.
    small_HW3 = augment.recolour(small_HW3)
    return crop(small_HW3, compose(affine, invert(small_affine)), size, out=out)


def _clip(value: float, limit: float) -> float:
    return min(max(value, -limit), limit)


def _widen(normal: float, params: ScaleParams) -> float:
    if params.kind == "linear":  # the original project's PyTorch code
        return 1 + _clip(normal * params.spread, params.spread)
    return float(2 ** _clip(normal * params.spread, 2 * params.spread))  # the papers' Lua code
