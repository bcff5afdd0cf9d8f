#!/usr/bin/env bash
# All that wants a GPU, part by part: the operator's checks and times, then training at the paper's sizes.
#     bash benchmarks/gpu.sh [FOLDER [operator|training]]    results go to FOLDER (default: benchmarks/results)
# Every part has a time limit of its own, under ten minutes; one that fails does not stop the others. A part
# that has passed is not run again: FOLDER/parts/NAME is its output, NAME.passed says so, for these sources and
# this machine's GPU; remove the folder to begin anew. Where a call may last ten minutes only, BUDGET=570 (in
# seconds) begins no part that would not fit, and the same command goes on from there. Status 0: all passed.
# Needs torch 2.11 or newer, nvcc, pytest, psutil, numpy and OpenCV; for training the other libraries that
# pyproject.toml lists, but neither dvc nor mlflow. PYTHON names another interpreter.
set -uo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.." || exit
python=${PYTHON:-python3}
results=${1:-benchmarks/results}
chosen=${2:-all}
budget=${BUDGET:-0}
case $chosen in
    all | operator | training) ;;
    *) echo "error: found $chosen, expected operator or training" >&2; exit 1 ;;
esac
mkdir -p "$results/parts" || exit
export PYTHONPATH="$PWD${PYTHONPATH:+:$PYTHONPATH}" PYTHONUNBUFFERED=1
failed=() left=()

gpu=$(nvidia-smi --query-gpu=name,driver_version --format=csv,noheader 2>/dev/null || echo none)
state=$( { echo "$gpu"; "$python" -c 'import torch; print(torch.__version__)'; cat csrc/* benchmarks/*.py; find pose -name '*.py' -exec cat {} +; } | sha256sum | cut -c1-16)

part() {  # NAME SECONDS COMMAND...
    local name=$1 seconds=$2 status file
    shift 2
    file=$results/parts/$name
    if [ "$(cat "$file.passed" 2>/dev/null)" = "$state" ]; then
        echo "== $name: passed before"
        return 0
    fi
    if [ "$budget" -gt 0 ] && [ $((SECONDS + seconds)) -gt "$budget" ] && [ "$SECONDS" -gt 30 ]; then
        left+=("$name")
        return 1
    fi
    echo "== $name (at most $seconds s)"
    rm -f "$file.passed"
    timeout --kill-after=10 "$seconds" "$@" 2>&1 | tee "$file"
    status=${PIPESTATUS[0]}
    if [ "$status" -eq 0 ]; then
        echo "$state" >"$file.passed"
    else
        failed+=("$name: $([ "$status" -eq 124 ] && echo "over $seconds s" || echo "status $status")")
    fi
    return "$status"
}

echo "GPU: $gpu"
part build 300 "$python" -m stages.build_ext
if [ "$chosen" != training ]; then
    part operator-check 300 "$python" benchmarks/gpu_tag_loss.py check
    part operator-times 300 "$python" benchmarks/gpu_tag_loss.py time --to "$results"
    part operator-tests 400 "$python" -m pytest -c /dev/null --rootdir . --noconftest -p no:cacheprovider -q \
        -p tests.ops.conftest tests/ops/test_tag_loss.py
fi
if [ "$chosen" != operator ]; then
    part libraries 60 "$python" -c \
        'import cv2, faster_coco_eval, h5py, matplotlib, pandas, psutil, pycocotools, pydantic, ruamel.yaml, scipy, tqdm'
    part step-demo 200 "$python" benchmarks/gpu_training.py check --preset demo
    part step-paper 500 "$python" benchmarks/gpu_training.py check --preset paper
    part whole-run 560 "$python" benchmarks/gpu_training.py run
    for task in hgpose advpose hgpose-ae advpose-ae; do
        part "times-$task" 560 "$python" benchmarks/gpu_training.py time --task "$task" --to "$results"
    done
    data=${POSE_REAL_DATA:-../shared/data}
    if [ -d "$data/lspet" ] || [ -d "$data/LSPET" ]; then
        part real-people 560 "$python" benchmarks/gpu_training.py real --data "$data" --epochs 5 --to "$results"
    else
        echo "no LSPET in $data: no training on real people (POSE_REAL_DATA names the folder that holds it)"
    fi
fi
if [ "$chosen" != training ]; then  # last: a virtual machine may refuse them
    sanitizer=$(command -v compute-sanitizer || echo /usr/local/cuda/bin/compute-sanitizer)
    if [ -x "$sanitizer" ]; then
        # Not racecheck, which looks at shared memory alone: the kernels use none.
        for tool in memcheck initcheck synccheck; do
            # Without torch's own cache of memory every tensor has its exact bounds.
            part "$tool" 500 env PYTORCH_NO_CUDA_MEMORY_CACHING=1 "$sanitizer" --tool "$tool" --error-exitcode 1 \
                --kernel-regex kns=tag_loss "$python" benchmarks/gpu_tag_loss.py check --sizes few
        done
    else
        echo "compute-sanitizer is not here: skipped"
    fi
fi

[ ${#left[@]} -eq 0 ] || echo "left for the next call: ${left[*]}"
for one in "${failed[@]}"; do echo "FAILED $one"; done
[ $((${#failed[@]} + ${#left[@]})) -eq 0 ] && echo "all passed"
