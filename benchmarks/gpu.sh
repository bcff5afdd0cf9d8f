#!/usr/bin/env bash
# All that wants a GPU, in one go: the operator's checks and times, then training at the paper's sizes.
#     bash benchmarks/gpu.sh [FOLDER [operator|training]]    results go to FOLDER (default: benchmarks/results); one part only
# Needs torch 2.11 or newer, nvcc, pytest, psutil, numpy and OpenCV; for training the other libraries that pyproject.toml lists, but neither
# dvc nor mlflow.
# PYTHON names another interpreter. The first failure stops it.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
python=${PYTHON:-python3}
results=${1:-benchmarks/results}
part=${2:-all}
case $part in all | operator | training) ;; *) echo "error: found $part, expected operator or training" >&2; exit 1 ;; esac
mkdir -p "$results"
export PYTHONPATH="$PWD${PYTHONPATH:+:$PYTHONPATH}" PYTHONUNBUFFERED=1

echo "== machine"
nvidia-smi --query-gpu=name,driver_version --format=csv,noheader
"$python" -c 'import torch; print("torch", torch.__version__)'
if [ "$part" != operator ]; then  # now, not after minutes
    "$python" -c 'import cv2, h5py, matplotlib, pandas, psutil, pycocotools, pydantic, ruamel.yaml, scipy, tqdm'
fi

echo "== build"
"$python" -m stages.build_ext

if [ "$part" != training ]; then
    echo "== tests of the operator, on the CPU and on the GPU"
    "$python" -m pytest -c /dev/null --rootdir . --noconftest -p no:cacheprovider -q tests/ops/test_tag_loss.py

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

    echo "== the operator's times"
    "$python" benchmarks/gpu_tag_loss.py time --to "$results"
fi

if [ "$part" != operator ]; then
    echo "== a step on the GPU against the CPU's"
    for preset in demo paper; do
        "$python" benchmarks/gpu_training.py check --preset "$preset"
    done

    echo "== all tasks, from synthetic images to metrics"
    "$python" benchmarks/gpu_training.py run

    data=${POSE_REAL_DATA:-../shared/data}
    if [ -d "$data/lspet" ] || [ -d "$data/LSPET" ]; then
        echo "== hgpose and advpose on real people"
        "$python" benchmarks/gpu_training.py real --data "$data" --to "$results"
    else
        echo "no LSPET in $data: no training on real people"
    fi

    echo "== times of training steps"
    "$python" benchmarks/gpu_training.py time --to "$results"
fi
