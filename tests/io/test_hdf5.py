"""HDF5 files: written whole, or not at all."""

import pytest
from helpers import run_python

# A limit of this process stands for a full disk: either way the system refuses to write.
WRITE = """
import resource, sys
from pathlib import Path
import h5py, numpy as np
from pose.io.command import run_command
from pose.io.files import atomic_write
from pose.io.hdf5 import create_h5

def main():
    resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[1]),) * 2)
    with atomic_write("set.h5") as temporary, create_h5(temporary) as file:
        rows = file.create_dataset("rows", (9,), h5py.vlen_dtype(np.uint8), chunks=(4,))
        for row in range(9):
            rows[row] = np.zeros(10_000, np.uint8)

run_command(main)
"""


@pytest.mark.parametrize("room", [0, 100, 8192, 50_000])
def test_a_full_disk_is_one_line_and_leaves_nothing(tmp_path, room):
    done = run_python(WRITE, str(room), folder=tmp_path)
    assert done.stderr == "error: set.h5: cannot be written (File too large)\n"
    assert done.returncode == 1
    assert not list(tmp_path.iterdir())
