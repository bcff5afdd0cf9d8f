#!/usr/bin/env bash
# All that wants a GPU, in one go, on a machine with torch >= 2.11 and nvcc (neither dvc nor mlflow is needed):
#     bash benchmarks/gpu.sh [FOLDER]        results go to FOLDER (default: benchmarks/results)
# PYTHON names another interpreter. The first failure stops it.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
python=${PYTHON:-python3}
results=${1:-benchmarks/results}
mkdir -p "$results"
export PYTHONPATH=. PYTHONUNBUFFERED=1

echo "== machine"
nvidia-smi --query-gpu=name,driver_version --format=csv,noheader
"$python" -c 'import torch; print("torch", torch.__version__)'

echo "== build"
"$python" -m stages.build_ext

echo "== tests of the operator, on the CPU and on the GPU"
"$python" -m pytest -c /dev/null --rootdir . --noconftest -p no:cacheprovider -q tests/test_ops.py

echo "== CUDA operator against the CPU's; bit-equal runs; launches"
"$python" benchmarks/gpu_tag_loss.py check

echo "== compute-sanitizer"
sanitizer=$(command -v compute-sanitizer || echo /usr/local/cuda/bin/compute-sanitizer)
if [ -x "$sanitizer" ]; then
    # Without torch's own cache of memory every tensor has its exact bounds.
    for tool in memcheck racecheck synccheck; do
        PYTORCH_NO_CUDA_MEMORY_CACHING=1 "$sanitizer" --tool "$tool" --error-exitcode 1 "$python" benchmarks/gpu_tag_loss.py check --sizes few
    done
else
    echo "compute-sanitizer is not here: skipped"
fi

echo "== times"
"$python" benchmarks/gpu_tag_loss.py time --to "$results"
