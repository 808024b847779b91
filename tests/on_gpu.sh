#!/usr/bin/env bash
# Builds for this machine's GPU, tests (under compute-sanitizer too) and measures, in less than eight
# minutes and without network: it uses the machine's own python3, nvcc, cmake, ninja, pybind11,
# scikit-build-core and CuPy. Prints what it skips and why; fails if anything that ran failed.
set -uo pipefail
cd "$(dirname "$0")/.."
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
skipped=()
failed=()
export PYTHONDONTWRITEBYTECODE=1 NUMBA_CACHE_DIR=$work/numba CUPY_CACHE_DIR=$work/cupy MPLBACKEND=Agg

step() { printf '\n=== %s (%d s so far)\n' "$*" "$SECONDS"; }
skip() { printf 'SKIPPED: %s\n' "$*"; skipped+=("$*"); }
report() {
    step "Done"
    for line in "${skipped[@]}"; do printf 'Skipped: %s\n' "$line"; done
    for line in "${failed[@]}"; do printf 'FAILED: %s\n' "$line"; done
    [ ${#failed[@]} -eq 0 ]
    exit
}
# attempt SECONDS NAME 'COMMANDS': within the time that is left of the eight minutes.
attempt() {
    local limit=$1 name=$2 left=$((460 - SECONDS)) code
    if [ "$left" -lt 10 ]; then skip "$name: no time left"; return 1; fi
    if [ "$limit" -gt "$left" ]; then limit=$left; fi
    step "$name"
    timeout "$limit" bash -c "$3"
    code=$?
    if [ $code -eq 124 ]; then failed+=("$name: not done after $limit s")
    elif [ $code -ne 0 ]; then failed+=("$name: exit $code"); fi
    return $code
}
has_module() { python3 -c "import $1" 2>/dev/null; }

step "Machine"
for tool in python3 nvcc cmake ninja; do
    if ! command -v $tool >/dev/null; then skip "everything: no $tool"; report; fi
done
for module in pip pybind11 scikit_build_core numpy pytest; do
    if ! has_module $module; then skip "everything: python3 has no $module"; report; fi
done
python3 --version
nvcc --version | tail -n 2
if ! capability=$(nvidia-smi --query-gpu=compute_cap --format=csv,noheader 2>/dev/null | head -n 1); then capability=""; fi
if [ -n "$capability" ]; then
    nvidia-smi --query-gpu=name,driver_version,memory.total --format=csv,noheader
    architecture="${capability/./}"
else
    skip "tests and benchmarks on a device: nvidia-smi finds none"
    architecture=90
fi

export architecture work
attempt 240 "Build for $architecture" 'python3 -m pip install -q --no-build-isolation --no-deps --no-index \
    --target "$work/site" -C cmake.define.HOTLOOPS_CUDA=ON \
    -C cmake.define.HOTLOOPS_CUDA_ARCHITECTURES="$architecture" .' || report
export PYTHONPATH=$work/site:$PWD
for module in scipy numba threadpoolctl tqdm; do
    if ! has_module $module; then skip "what needs $module: it is not installed"; fi
done
python3 -c "import hotloops, hotloops._cuda as c; print(c.driver_state()); hotloops.show_runtime()"

pytest() { python3 -m pytest -q -p no:cacheprovider "$@"; }
sanitize() { "$sanitizer" --tool "$1" --error-exitcode 9 python3 -m pytest -q -p no:cacheprovider tests/cuda/test_gpu.py -k "$2"; }
export -f pytest sanitize

if [ -z "$capability" ]; then
    attempt 300 "Without a device: grid code in the CPU shim, PTX" 'pytest tests/cuda -m "not gpu"'
    report
fi
if ! has_module cupy; then skip "tests on the device: python3 has no cupy"; report; fi

attempt 170 "Tests on the device" 'pytest tests/cuda/test_gpu.py tests/runtime/test_arrays_gpu.py'
attempt 90 "Throughput" 'python3 -m tests.cuda.speed'

sanitizer=$(command -v compute-sanitizer || ls /usr/local/cuda*/bin/compute-sanitizer 2>/dev/null | head -n 1)
export sanitizer
if [ -n "$sanitizer" ]; then
    attempt 120 "compute-sanitizer memcheck" 'sanitize memcheck test_small'
    attempt 40 "compute-sanitizer racecheck" 'sanitize racecheck "test_small_runs and quadratic_full and float32"'
    attempt 30 "compute-sanitizer synccheck" \
        'sanitize synccheck "(test_small_runs and 17 and float32) or (test_small_statistics and 7)"'
else
    skip "compute-sanitizer: not installed"
fi

attempt 120 "Grid code in the CPU shim, PTX" 'pytest tests/cuda -m "not gpu"'
report
