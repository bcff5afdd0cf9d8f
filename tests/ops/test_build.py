"""Building and loading the operator."""

import shutil
import sys
from pathlib import Path

import pytest
from helpers import ROOT, run_python, user_error

from pose.ops import build as build_ext

USE = """
import sys, torch
from pose.ops import tag_loss as ops
for _ in range(2):
    _, push_B = ops.tag_loss(torch.tensor([1.0, 3.0]).reshape(1, 1, 1, 2), torch.tensor([[[0], [1]]]))
assert abs(push_B.item() - 0.5 * 2.718281828 ** -4) < 1e-6
for folder in sys.argv[1:]:
    assert not ops.load(folder)
    ops._warn_of_fallback.__wrapped__("cpu")
"""


def test_without_a_fitting_library_the_operator_falls_back_and_warns_once(tmp_path, monkeypatch):
    for compiler in ("CXX", "NVCC"):
        monkeypatch.setenv(compiler, "")  # a complete build of nothing
    for name in ("damaged", "outdated"):
        lines = build_ext.build(tmp_path / name)
        assert not list((tmp_path / name / "operator").iterdir())
        build_ext.library_path(tmp_path / name, "cpu").write_bytes(b"no library")
    for device, line in lines.items():
        assert line == f"{device} operator: not built (no compiler), falling back to pure PyTorch"
    (tmp_path / "outdated" / "operator.json").write_text('{"sources": "others"}')
    assert build_ext.is_current(tmp_path / "damaged")
    folders = [str(tmp_path / name) for name in ("damaged", "outdated")]
    done = run_python(USE, *folders, POSE_BUILD=str(tmp_path / "missing"))
    assert done.returncode == 0, done.stderr
    warnings = done.stderr.splitlines()
    reasons = ("does not exist (`dvc repro", "cannot be loaded: ", "was built from other sources (`dvc repro")
    for warning, reason in zip(warnings, reasons, strict=True):
        assert warning.startswith("falling back to pure PyTorch on cpu: ")
        assert reason in warning


def test_cuda_code_compiles_links_loads_and_registers_on_any_machine(built, tmp_path, monkeypatch):
    folder = built
    if not build_ext.library_path(folder, "cuda").is_file():
        folder = tmp_path
        monkeypatch.setattr(build_ext, "CUDA_TARGETS", ("arch=compute_90,code=sm_90",))
        monkeypatch.setenv("CXX", "")
        lines = build_ext.build(folder)
        if not build_ext.library_path(folder, "cuda").is_file():
            pytest.skip(lines["cuda"])
    paths = [str(build_ext.library_path(built, "cpu")), str(build_ext.library_path(folder, "cuda"))]
    dump = run_python(
        f"import torch\nfor path in {paths}: torch.ops.load_library(path)\n"
        "for name in ('tag_loss', 'tag_loss_backward'): print(torch._C._dispatch_dump('pose::' + name))"
    )
    registered = [line.split(":")[0] for line in dump.stdout.splitlines()]
    assert registered.count("CPU") == registered.count("CUDA") == 2


@pytest.mark.parametrize("compiler", ["false", "no-such-compiler"])
def test_a_compiler_that_fails_is_named_in_one_line_and_leaves_no_library(compiler, tmp_path, monkeypatch):
    monkeypatch.setenv("CXX", compiler)
    with user_error(f"^[^\n]*{compiler}: (could not build|cannot be run)[^\n]*$"):
        build_ext.build(tmp_path)
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []


def test_a_compiler_may_have_a_launcher_and_flags(tmp_path, monkeypatch):
    compiler = shutil.which("c++")
    if compiler is None:
        pytest.skip("no C++ compiler")
    monkeypatch.setenv("NVCC", "")
    monkeypatch.setenv("CXX", compiler)
    plain = build_ext.toolchain()["cxx"]
    monkeypatch.setenv("CXX", f"env 'POSE_NOTE=two words' {compiler} -pipe -O1")
    assert build_ext.toolchain()["cxx"] == f"{plain} -pipe -O1"
    assert build_ext.build(tmp_path)["cpu"].endswith(f"with {plain} -pipe -O1")
    monkeypatch.setenv("CXX", "c++ 'unclosed")
    with user_error(r"^CXX: found .* expected a compiler"):
        build_ext.toolchain()


def test_another_compiler_changes_the_toolchain_and_nothing_else_does(monkeypatch):
    before = build_ext.toolchain()
    assert before == build_ext.toolchain()
    monkeypatch.setenv("NVCC", "" if before["nvcc"] != "none" else sys.executable)
    after = build_ext.toolchain()
    assert {name for name in before if before[name] != after[name]} == {"nvcc"}


@pytest.mark.parametrize(
    ("torch_cuda", "nvcc", "expected"),
    [
        (
            "'12.8'",
            "release 13.0, V13.0.48",
            "found nvcc of CUDA 13.0 and torch of 12.8: an older driver may refuse it",
        ),
        ("'13.0'", "release 12.9, V12.9.86", ""),
        ("'12.8'", "release 12.8, V12.8.1", ""),
        ("None", "release 13.0, V13.0.48", ""),
    ],
)
def test_a_compiler_newer_than_torchs_cuda_is_said(torch_cuda, nvcc, expected, tmp_path, monkeypatch):
    (tmp_path / "version.py").write_text(f"debug = False\ncuda: Optional[str] = {torch_cuda}\n")
    monkeypatch.setattr(build_ext, "_torch_folder", lambda: tmp_path)
    assert build_ext._cuda_mismatch(f"Cuda compilation tools, {nvcc}") == expected


def test_a_folder_that_has_been_built_comes_before_that_of_the_repository(tmp_path, monkeypatch):
    monkeypatch.delenv("POSE_BUILD", raising=False)
    monkeypatch.chdir(tmp_path)
    assert build_ext.build_folder() == ROOT / "build"
    (tmp_path / "build").mkdir()
    (tmp_path / "build/operator.json").write_text("{}")
    assert build_ext.build_folder() == Path("build")
    monkeypatch.setenv("POSE_BUILD", "elsewhere")
    assert build_ext.build_folder() == Path("elsewhere")
