"""Intervals by the bootstrap over images: a metric of many samples of them, drawn with replacement.

I images, B samples. A sample is how often each image was drawn, so that two files of predictions can be
compared on the same samples. Efron and Tibshirani, An Introduction to the Bootstrap, 1993.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

LEVEL = 95.0  # percent of the samples whose values an interval holds
CHUNK = 100  # samples at once: more take memory and no less time


def samples(images: int, count: int, seed: int) -> Iterator[np.ndarray]:
    """(B, I) int64 how often each image was drawn, B at most CHUNK; `count` samples in all."""
    rng, shares = np.random.default_rng(seed), np.full(images, 1 / images)
    for first in range(0, count, CHUNK):
        yield rng.multinomial(images, shares, size=min(CHUNK, count - first))


def interval(value_B: np.ndarray) -> tuple[float, float]:
    """Percentiles between which LEVEL percent of the values lie; those that are NaN do not count."""
    known = value_B[~np.isnan(value_B)]
    if not len(known):
        return np.nan, np.nan
    low, high = np.percentile(known, [50 - LEVEL / 2, 50 + LEVEL / 2])
    return float(low), float(high)
