"""The operator's tests once more, on its CUDA source: emulated, in the place of the CPU's library."""

import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from helpers import ROOT, run_python

Compile = Callable[..., None]
SANITIZERS = {
    "address": ["-fsanitize=address,undefined", "-fno-sanitize-recover"],
    "thread": ["-fsanitize=thread"],
}
SIZES = {"address": ["9", "3"], "thread": ["2", "1"]}  # every thread's stack is made anew for the latter
FAILED = {
    "address": "ERROR: AddressSanitizer",
    "thread": "WARNING: ThreadSanitizer",
    "emulator": "emulated CUDA: block",
}


@pytest.mark.slow
@pytest.mark.parametrize("order", ["forward", "7"])
def test_the_cuda_source_passes_the_operators_tests_whatever_the_threads_order(emulated, order):
    # gradcheck, opcheck and compilation try what is around the kernels, with very many calls of them.
    others = "not gradcheck and not opcheck and not compiled"
    chosen = ["-k", others if order == "forward" else "drawn or share_a_cell"]
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *chosen]
    environment = {"POSE_BUILD": str(emulated), "POSE_TEST_DEVICES": "emulated", "POSE_EMULATED_ORDER": order}
    settings = {"cwd": ROOT, "env": os.environ | environment, "capture_output": True, "text": True}
    done = subprocess.run([*command, "tests/ops/test_tag_loss.py"], **settings)
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-1000:]
    assert int(re.search(r"(\d+) passed", done.stdout)[1]) >= (40 if order == "forward" else 15)


REFUSED = """
import torch
from pose.ops import tag_loss as ops
assert "cpu" in ops.load()
for _ in range(2):
    _, push_B = ops.tag_loss(torch.tensor([1.0, 3.0]).reshape(1, 1, 1, 2), torch.tensor([[[0], [1]]]))
assert abs(push_B.item() - 0.5 * 2.718281828 ** -4) < 1e-6
assert "cpu" not in ops.load() and not ops.is_usable("cpu")
"""


@pytest.mark.slow
def test_kernels_that_the_device_refuses_are_replaced_by_the_formula_in_one_line(emulated):
    done = run_python(REFUSED, POSE_BUILD=str(emulated), POSE_EMULATED_REFUSED="1")
    assert done.returncode == 0, done.stderr
    [line] = done.stderr.splitlines()
    assert line.startswith("falling back to pure PyTorch on cpu: its kernels do not run here: ")
    assert line.endswith("tag_loss: no kernel image is available for execution on the device")


def run_sanitized(sanitizer: str, compile_kernels: Compile, folder: Path, *mistake: str) -> str:
    """All output of the kernels for a few sizes, under a sanitizer; skipped where it cannot be."""
    flags, program = SANITIZERS[sanitizer], folder / "sanitized"
    probe = folder / "probe.cpp"
    probe.write_text("int main() {}")
    # The thread sanitizer wants addresses where it expects them.
    still = ["setarch", "-R"] if sanitizer == "thread" else []
    try:
        subprocess.run(["g++", *flags, str(probe), "-o", str(program)], capture_output=True, check=True)
        subprocess.run([*still, str(program)], capture_output=True, check=True)
    except (OSError, subprocess.CalledProcessError) as error:
        pytest.skip(f"no {sanitizer} sanitizer here: {error}")
    compile_kernels(folder, program, *mistake, flags=flags)
    command = [*still, str(program), *SIZES[sanitizer]]
    environment = {**os.environ, "TSAN_OPTIONS": "halt_on_error=1"}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    return f"status {done.returncode}: {done.stdout}{done.stderr[:6000]}"


@pytest.mark.slow
@pytest.mark.parametrize("sanitizer", SANITIZERS)
def test_the_kernels_read_and_write_only_what_is_theirs(sanitizer, compile_kernels, tmp_path):
    # Behind it only the address sanitizer's note that it does not know all of ucontext.
    assert run_sanitized(sanitizer, compile_kernels, tmp_path).startswith("status 0: no mistake found\n")


# What is replaced in the sources, by what, and who finds it.
MISTAKES = {
    "no barrier after the means": ("thread", "team.sync();\n\n  int present", "int present"),
    "no barrier after the forces": ("thread", "team.sync();\n\n  if (team.first()", "if (team.first()"),
    "no barrier after the zeros": ("thread", "__syncthreads();\n\n  const ImageGrads", "const ImageGrads"),
    "everybody in a cell writes": ("thread", "if (owner == p) grad_hw", "grad_hw"),
    "one cell too many": ("address", "|| cell >= end)", "|| cell > end)"),
    "a barrier after an early return": (
        "emulator",
        "fill_with_zero(grad_hw + begin, end - begin);",
        "if (threadIdx.x >= people) return;\n  fill_with_zero(grad_hw + begin, end - begin);",
    ),
    "a lane skips a shuffle": (
        "emulator",
        "for (int other = 16;",
        "if (threadIdx.x == 3) return number;\n    for (int other = 16;",
    ),
}


@pytest.mark.slow
@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_planted_mistake_is_found(mistake, compile_kernels, tmp_path):
    finder, found, replaced = MISTAKES[mistake]
    sanitizer = "thread" if finder == "thread" else "address"
    report = run_sanitized(sanitizer, compile_kernels, tmp_path, found, replaced)
    assert FAILED[finder] in report
    assert not report.startswith("status 0")
