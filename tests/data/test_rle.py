"""Run lengths of regions, beside those of pycocotools."""

import numpy as np
import pytest
from pycocotools import mask

from pose.data.rle import region_of, runs_of

REGIONS = {
    "noise": np.random.default_rng(0).random((7, 5)) < 0.4,
    "all": np.ones((3, 5), bool),
    "nothing": np.zeros((3, 5), bool),
    "diagonal": np.eye(40, dtype=bool),
}


@pytest.mark.parametrize("region_HW", REGIONS.values(), ids=REGIONS)
def test_run_lengths_are_those_of_pycocotools_and_give_the_region_back(region_HW):
    run_R = runs_of(region_HW)
    np.testing.assert_array_equal(region_of(run_R, *region_HW.shape), region_HW)
    size = list(region_HW.shape)
    encoded = mask.frPyObjects({"counts": run_R.tolist(), "size": size}, *size)
    np.testing.assert_array_equal(mask.decode(encoded), region_HW)
