"""Random draws of augmentation, and colours."""

import numpy as np
import pytest

from pose.data.augment import Augment, MultiAugment
from pose.params import AugmentParams, MultiAugmentParams

SINGLE = AugmentParams.model_validate(
    {
        "rotation": {"deg": 30.0, "clip": 20.0, "probability": 0.6},
        "scale": {"kind": "linear", "spread": 0.25},
        "flip": 0.5,
        "colour": 0.4,
    }
)
MULTI = MultiAugmentParams(
    rotation=30, scale=0.25, shift=0.2, flip=0.5, hue=72, saturation=0.5, brightness=0.3, contrast=0.5
)


def test_single_person_draws_stay_within_their_bounds():
    rng = np.random.default_rng(0)
    draws = [Augment.draw(rng, SINGLE) for _ in range(2000)]
    angles, widen = np.array([draw.angle for draw in draws]), np.array([draw.widen for draw in draws])
    gains = np.array([draw.gain for draw in draws])
    assert np.abs(angles).max() == 20
    assert np.mean(angles != 0) == pytest.approx(0.6, abs=0.04)
    assert (widen.min(), widen.max()) == (0.75, 1.25)
    assert np.mean([draw.flip for draw in draws]) == pytest.approx(0.5, abs=0.04)
    assert 0.6 <= gains.min() < 0.61
    assert 1.39 < gains.max() <= 1.4


def test_a_log2_scale_is_clipped_at_two_sigma():
    params = SINGLE.model_copy(update={"scale": SINGLE.scale.model_copy(update={"kind": "log2"})})
    rng = np.random.default_rng(0)
    widen = [Augment.draw(rng, params).widen for _ in range(2000)]
    assert (min(widen), max(widen)) == pytest.approx((2**-0.5, 2**0.5))


def test_multi_person_draws_are_uniform_within_their_bounds():
    rng = np.random.default_rng(0)
    draws = [MultiAugment.draw(rng, MULTI) for _ in range(3000)]
    bounds = {"angle": (-30, 30), "widen": (0.75, 1.25), "hue": (-72, 72), "brightness": (-0.3, 0.3)}
    bounds |= {"saturation": (0.5, 1.5), "contrast": (0.5, 1.5)}
    for name, (low, high) in bounds.items():
        values = np.array([getattr(draw, name) for draw in draws])
        assert low <= values.min() < values.max() <= high
        quarters, _ = np.histogram(values, bins=4, range=(low, high))
        assert quarters == pytest.approx([750] * 4, rel=0.15), name
    shifts = np.array([draw.shift for draw in draws])
    assert np.abs(shifts).max(axis=0) == pytest.approx([0.2, 0.2], rel=0.02)
    assert np.mean([draw.flip for draw in draws]) == pytest.approx(0.5, abs=0.04)


@pytest.mark.parametrize(
    ("augment", "colour", "expected"),
    [
        (MultiAugment(), (10, 130, 250), (10, 130, 250)),
        (MultiAugment(hue=120), (200, 0, 0), (0, 200, 0)),
        (MultiAugment(hue=-120), (200, 0, 0), (0, 0, 200)),
        (MultiAugment(saturation=0.5), (200, 100, 100), (200, 150, 150)),
        (MultiAugment(saturation=1.5), (200, 0, 0), (200, 0, 0)),
        (MultiAugment(brightness=0.2), (10, 100, 250), (61, 151, 255)),
        (MultiAugment(contrast=0.5), (80, 100, 120), (90, 100, 110)),
    ],
)
def test_colours_change_as_asked(augment, colour, expected):
    found = augment.recolour(np.full((2, 3, 3), colour, dtype=np.uint8))
    assert found.dtype == np.uint8
    assert np.abs(found.astype(int) - expected).max() <= 1
