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


def interval(value_B: np.ndarray, images: int) -> tuple[float, float]:
    """Percentiles between which LEVEL percent of the values lie; NaN do not count, and are given without any.

    Plain percentiles are too narrow for few images, as a normal interval is where Student's is right; so they
    are taken a little further out (the expanded percentile interval of Hesterberg, arXiv 1411.5279).
    """
    from scipy import stats  # here, since training must not need it

    known = value_B[~np.isnan(value_B)]
    if not len(known) or images < 2:
        return np.nan, np.nan
    deviations = np.sqrt(images / (images - 1)) * stats.t.ppf(0.5 + LEVEL / 200, images - 1)
    outside = 100 * stats.norm.cdf(-deviations)
    low, high = np.percentile(known, [outside, 100 - outside], method="weibull")
    return float(low), float(high)
