"""Every call that changes a file fails once: its stage ends in one line and leaves no half of a file.

Then it can be run again, which leaves the files of an undisturbed run.

A few calls of some stages; all of them in `make soak`, which sets EVERY_WRITE.
"""

import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from helpers import clean_environment, empty_store, with_values, write_fast_compiler, write_params_file

from pose.params import Params

HERE = Path(__file__).parent
EVERY_WRITE = bool(os.environ.get("EVERY_WRITE"))
SOME = ("synthesize", "prepare_lsp_mpii", "prepare_coco", "build_ext", "train@hgpose", "evaluate@hgpose")
OTHERS = ("toolchain", "train@advpose-ae", "tracked train@hgpose", "evaluate@advpose-ae", "report")


def tiny(params: Params) -> dict[str, Any]:
    """Parameters of runs of a second: the fewest people, networks and steps."""
    drawn = {"lsp": {"train": 1, "test": 1}, "lspet": 3, "mpii": {"train": 2, "validation": 1}, "size": 64}
    drawn["coco"] = {"train": 4, "validation": 2}
    network = {"kind": "hourglass", "modules": 1, "stacks": 1, "features": 4, "stem": [2, 2, 2]}
    changes = {"synthetic": drawn, "multi.held_out": 1, "multi.thresholds.tune": False}
    for task in params.tasks:
        changes |= {f"tasks.{task}.network": network, f"tasks.{task}.batch": 2, f"tasks.{task}.epochs": 1}
    for task in ("advpose", "advpose-ae"):
        changes[f"tasks.{task}.adversary.network"] = network
    changes |= {"train.processes": 1, "train.val_samples": 2, "train.train_samples": 2}
    return with_values(params, changes | {"train.checkpoint_every": 1}).model_dump()


@pytest.mark.slow
@pytest.mark.timeout(4 * 3600)
def test_a_stage_whose_writes_fail_ends_in_one_line_and_can_be_run_again(params, tmp_path):
    compiler = shutil.which("cc")
    if sys.platform != "linux" or not compiler or not shutil.which("c++"):
        pytest.skip("needs Linux and a C compiler")
    library, control = tmp_path / "failing_writes.so", tmp_path / "control"
    source = HERE / "failing_writes.c"
    subprocess.run([compiler, "-O1", "-shared", "-fPIC", "-o", library, source, "-ldl"], check=True)
    control.write_bytes(bytes(8192))
    fast_compiler = write_fast_compiler(tmp_path)
    folder = tmp_path / "base"
    folder.mkdir()
    write_params_file(folder, tiny(params))
    shutil.copy(empty_store(), folder)
    environment = clean_environment() | {"CXX": str(fast_compiler), "NVCC": "", "PYTHONWARNINGS": "ignore"}
    environment |= {"LD_PRELOAD": str(library), "FAILING_WRITES": str(control)}  # no spaces in the former
    environment["PYTHONPATH"] += f":{HERE.parent}"
    which = ["all", *SOME, *OTHERS] if EVERY_WRITE else ["few", *SOME]
    words = [sys.executable, HERE / "write_failures.py", folder, *which]
    with (tmp_path / "output").open("w+") as output:
        done = subprocess.run(words, env=environment, cwd=tmp_path, stdout=output, stderr=output, check=False)
        output.seek(0)
        print(output.read())
    assert done.returncode == 0
