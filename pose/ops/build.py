"""Building the operator of `csrc/`: for the CPU where there is a C++ compiler, for CUDA where there is nvcc.

The compilers are called directly: the sources use torch's stable ABI alone (torch 2.11 and later), and
`torch.utils.cpp_extension` refuses CUDA sources where torch itself has no CUDA. torch is located without
importing it, which would take seconds.

`CXX` and `NVCC` in the environment name other compilers, with flags if need be, in words as a shell splits
them; if empty, that library is not built. `POSE_BUILD` names another build folder.
"""

from __future__ import annotations

import hashlib
import importlib.util
import json
import os
import platform
import re
import shlex
import shutil
import subprocess
from pathlib import Path

from pose.io.errors import UserError
from pose.io.files import atomic_write, remove_stale_temp_files, write_json, writing
from pose.io.paths import INSTALLED, PROJECT

SOURCES = PROJECT / "csrc"
# By type of device: the variable that names its compiler, and what is looked for otherwise.
COMPILERS = {"cpu": ("CXX", "c++", "g++", "clang++"), "cuda": ("NVCC", "nvcc", "/usr/local/cuda/bin/nvcc")}
# GPUs from Turing on; those newer than Hopper compile the PTX when it is first used.
CUDA_TARGETS = (
    "arch=compute_75,code=sm_75",
    "arch=compute_80,code=sm_80",
    "arch=compute_90,code=[sm_90,compute_90]",
)
# Only what torch 2.11 had: the library then loads in every later torch.
FLAGS = ("-O3", "-std=c++17", "-shared", "-DTORCH_TARGET_VERSION=0x020b000000000000ULL")


def build_folder() -> Path:
    """Where the libraries are: `build/` of the repository, or the folder that POSE_BUILD names.

    For an installed package `build/` of the current folder, where `pose init` has laid out a project; also
    for a package in a repository, if that folder has been built.
    """
    root = Path() if PROJECT == INSTALLED or Path("build/operator.json").is_file() else PROJECT
    return Path(os.environ.get("POSE_BUILD") or root / "build")


def library_path(folder: Path, device: str) -> Path:
    """The library for a type of device (`cpu`, `cuda`) inside a build folder."""
    return folder / "operator" / f"{device}.so"


def is_current(folder: Path) -> bool:
    """Whether a build folder was built from these sources."""
    try:
        return bool(json.loads((folder / "operator.json").read_text())["sources"] == _sources_digest())
    except (OSError, ValueError, KeyError):
        return False


def toolchain() -> dict[str, str]:
    """What a library depends on besides its sources: a changed value means that it must be built again.

    Versions of platform, torch and compilers, without paths, which may differ where nothing else does.
    """
    return {
        "platform": " ".join([platform.system(), platform.machine(), *platform.libc_ver()]),
        "torch": hashlib.sha256((_torch_folder() / "version.py").read_bytes()).hexdigest()[:16],
        "cxx": _version(_compiler("cpu")),
        "nvcc": _version(_compiler("cuda")),
    }


def build(folder: Path) -> dict[str, str]:
    """Build into `folder`, replacing what is there; returns a line per device: what was built, or why not.

    Writes `operator/cpu.so`, `operator/cuda.so` and `operator.json` (hash of the sources). A missing compiler
    is no error; UserError if a compiler fails.
    """
    remove_stale_temp_files(folder, folder / "operator")
    # Removed first and written last, so that an interrupted build is never taken for a complete one.
    with writing(folder):
        (folder / "operator").mkdir(parents=True, exist_ok=True)
        (folder / "operator.json").unlink(missing_ok=True)
    lines = {}
    for device, command in (("cpu", _cpu_command), ("cuda", _cuda_command)):
        library, compiler = library_path(folder, device), _compiler(device)
        if compiler is None:
            with writing(library):
                library.unlink(missing_ok=True)
            lines[device] = f"{device} operator: not built (no compiler), falling back to pure PyTorch"
            continue
        with atomic_write(library.absolute()) as part:  # absolute: the compilers run in another folder
            _run([*compiler, *command(_torch_folder()), "-o", str(part)])
        lines[device] = f"{device} operator: built {library} with {_version(compiler)}"
        if device == "cuda" and (mismatch := _cuda_mismatch(_version(compiler))):
            lines[device] += f"; {mismatch}"
    write_json(folder / "operator.json", {"sources": _sources_digest()})
    return lines


def _sources_digest() -> str:
    hashed = hashlib.sha256()
    for path in sorted(path for path in SOURCES.iterdir() if path.suffix in (".h", ".cpp", ".cu")):
        hashed.update(path.name.encode() + b"\0" + path.read_bytes() + b"\0")
    return hashed.hexdigest()


def _cpu_command(torch: Path) -> list[str]:
    # The gradient's zeros are written by vector stores: memset is slower on pages that are touched first.
    flags = [*FLAGS, "-Wall", "-fPIC", "-fno-tree-loop-distribute-patterns"]
    return [*flags, "-isystem", f"{torch}/include", "tag_loss_cpu.cpp", f"-L{torch}/lib", "-ltorch_cpu"]


def _cuda_command(torch: Path) -> list[str]:
    # The random seed and -s: the same file from the same sources and tools. Without -ltorch the symbols of a
    # CUDA torch are not found; --no-as-needed keeps it although nothing refers to it by name.
    flags = [*FLAGS, "-Xcompiler", "-fPIC", "--threads", "0", "-frandom-seed", "pose"]
    flags += [word for target in CUDA_TARGETS for word in ("-gencode", target)]
    link = [f"-L{torch}/lib", "-Xlinker", "-s", "-Xlinker", "--no-as-needed", "-ltorch", "-ltorch_cpu"]
    return [*flags, "-isystem", f"{torch}/include", "tag_loss_cuda.cu", *link]


def _cuda_mismatch(nvcc: str) -> str:
    """A warning if nvcc is newer than the CUDA of torch, whose driver may then refuse what it compiled."""
    text = (_torch_folder() / "version.py").read_text()
    of_torch, own = (
        re.search(r"^cuda\b.*'(\d+)\.(\d+)", text, re.MULTILINE),
        re.search(r"release (\d+)\.(\d+)", nvcc),
    )
    if not of_torch or not own or tuple(map(int, own.groups())) <= tuple(map(int, of_torch.groups())):
        return ""
    versions = [".".join(found.groups()) for found in (own, of_torch)]
    return f"found nvcc of CUDA {versions[0]} and torch of {versions[1]}: an older driver may refuse it"


def _torch_folder() -> Path:
    found = importlib.util.find_spec("torch")
    if found is None or found.origin is None:
        raise UserError("the operator cannot be built: torch is not installed")
    return Path(found.origin).parent


def _compiler(device: str) -> list[str] | None:
    """The words of its command, such as `ccache g++ -pipe`."""
    variable, *names = COMPILERS[device]
    named = os.environ.get(variable)
    if named is None:
        return next(([path] for name in names if (path := shutil.which(name))), None)
    try:
        words = shlex.split(named)
    except ValueError as error:
        raise UserError(f"{variable}: found {named!r} ({error}), expected a compiler") from None
    return (
        [shutil.which(words[0]) or words[0], *words[1:]] if words else None
    )  # if missing, running it says so


def _version(compiler: list[str] | None) -> str:
    if compiler is None:
        return "none"
    lines = _run([*compiler, "--version"]).splitlines()
    version = next((line for line in lines if "release" in line), lines[0] if lines else "unknown").strip()
    return " ".join([version, *(word for word in compiler if word.startswith("-"))])


def _run(command: list[str]) -> str:
    try:
        # In the folder of the sources, so that error messages name `tag_loss_cpu.cpp:27` without a path.
        done = subprocess.run(command, cwd=SOURCES, capture_output=True, text=True, check=False)
    except OSError as error:
        raise UserError(f"{command[0]}: cannot be run ({error.strerror})") from None
    if done.returncode != 0:
        lines = (done.stderr + done.stdout).strip().splitlines() or [f"exit status {done.returncode}"]
        first = next((line for line in lines if "error" in line), lines[-1]).strip()
        hint = "an empty CXX or NVCC in the environment skips it"
        raise UserError(f"{command[0]}: could not build the operator ({hint}): {first}")
    return done.stdout
