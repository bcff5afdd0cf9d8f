"""A build of the operator for the tests; its CUDA source executed on a CPU (`emulated/cuda_runtime.h`)."""

import json
import os
import re
import shutil
import subprocess
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
import torch

from pose.ops import build as build_ext
from pose.ops import tag_loss as ops

EMULATOR = Path(__file__).with_name("emulated")
LAUNCH = re.compile(r"(\w+<\w+>)<<<(.+?)>>>\(", re.DOTALL)


@pytest.fixture(scope="session")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A build folder made from these sources and loaded: `build/` if it is up to date, else a new one."""
    needed = {"cpu", "cuda"} if torch.cuda.is_available() else {"cpu"}
    if ops.load() >= needed:
        return build_ext.build_folder()
    folder = tmp_path_factory.mktemp("build")
    with pytest.MonkeyPatch.context() as patch:
        if needed == {"cpu"}:
            patch.setenv("NVCC", "")
        lines = build_ext.build(folder)
    if not ops.load(folder) >= needed:
        pytest.skip("; ".join(lines.values()))
    # Processes that later tests start compute with it too: the last bits differ from those of the formula.
    os.environ["POSE_BUILD"] = str(folder)
    return folder


def compile_emulated(source: Path, target: Path, *flags: str) -> None:
    """Compile C++ that uses the emulator, with what the operator's own build uses besides."""
    compiler = shutil.which("g++")
    if compiler is None:
        pytest.skip("no g++")
    torch_folder = Path(torch.__file__).parent
    include = ["-idirafter", str(build_ext.SOURCES), "-I", str(EMULATOR)]
    include += ["-isystem", f"{torch_folder}/include"]
    target_version = next(flag for flag in build_ext.FLAGS if flag.startswith("-DTORCH_TARGET_VERSION"))
    command = [compiler, "-O1", "-g", "-std=c++17", "-Wall", target_version, *include, str(source)]
    done = subprocess.run([*command, "-o", str(target), *flags], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def emulated_launches(cuda: str) -> str:
    """A CUDA source whose launches call the emulator, all else as it is."""
    text, launches = LAUNCH.subn(r"emulated::launch(\1, \2, ", cuda)
    assert launches == cuda.count("<<<") == 2
    return text


@pytest.fixture(scope="session")
def emulated(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A build folder whose library in the CPU's place is the whole CUDA source, host code and kernels."""
    folder = tmp_path_factory.mktemp("emulated")
    cuda = emulated_launches((build_ext.SOURCES / "tag_loss_cuda.cu").read_text())
    cpu = (build_ext.SOURCES / "tag_loss_cpu.cpp").read_text()
    for found, replaced in (
        ("STABLE_TORCH_LIBRARY_IMPL(pose, CUDA, m)", "STABLE_TORCH_LIBRARY_IMPL(pose, CPU, m)"),
        ("torch::stable::accelerator::DeviceGuard", "emulated::NoGuard"),
    ):
        assert cuda.count(found) in (1, 2)
        cuda = cuda.replace(found, replaced)
    stream = (
        "int32_t aoti_torch_get_current_cuda_stream(int32_t, void** stream) { return *stream = nullptr, 0; }"
    )
    schema = re.search(r"^STABLE_TORCH_LIBRARY\(pose, m\) \{.*?^\}", cpu, re.MULTILINE | re.DOTALL)
    source, library = folder / "emulated.cpp", build_ext.library_path(folder, "cpu")
    source.write_text("\n".join([cuda, f'extern "C" {stream}', schema[0], ""]))
    library.parent.mkdir()
    torch_libraries = Path(torch.__file__).parent / "lib"
    compile_emulated(source, library, "-fPIC", "-shared", f"-L{torch_libraries}", "-ltorch_cpu")
    (folder / "operator.json").write_text(json.dumps({"sources": build_ext._sources_digest()}))
    return folder


@pytest.fixture(scope="session")
def compile_kernels() -> Callable[..., None]:
    """Compiles `emulated/sanitized.cpp`: folder for its sources, program, what to replace in them by what."""

    def compile_program(folder: Path, program: Path, *mistake: str, flags: Sequence[str]) -> None:
        texts = [(build_ext.SOURCES / name).read_text() for name in ("tag_loss.h", "tag_loss_cuda.cu")]
        if mistake:
            assert sum(text.count(mistake[0]) for text in texts) == 1
            texts = [text.replace(*mistake) for text in texts]
        header, cuda = texts
        host = (build_ext.SOURCES / "tag_loss_tensors.h").read_text()
        loss_type = re.search(r"^template <class T>\nusing LossOf = .*?;$", host, re.MULTILINE)
        kernels = cuda[cuda.index("namespace pose {") : cuda.index("cudaStream_t current_stream")]
        (folder / "tag_loss.h").write_text(header)
        lines = ['#include "cuda_runtime.h"', '#include "tag_loss.h"']
        lines += [f"namespace pose {{\n{loss_type[0]}\n}}", kernels, "}}"]
        (folder / "kernels.h").write_text("\n".join(lines))
        compile_emulated(EMULATOR / "sanitized.cpp", program, "-I", str(folder), *flags)

    return compile_program
