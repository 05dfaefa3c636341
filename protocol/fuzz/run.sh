#!/usr/bin/env bash
# Fuzzes every decoder of the protocol: protocol/fuzz/run.sh [seconds per target, default 10] [target…]
#
# Works with the stable toolchain and without cargo-fuzz; libFuzzer itself is compiled from the
# libfuzzer-sys crate, so a C++ compiler (g++ or clang++) must be there. Runs as many targets at a
# time as there are cores. What they learn is kept below the target directory and is the start of the
# next run. Ends with 1 and the path of the input when one breaks a property, takes longer than five
# seconds or needs more than 512 MB.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
seconds=10
if [[ ${1:-} =~ ^[0-9]+$ ]]; then
    seconds=$1
    shift
fi
home="${CARGO_TARGET_DIR:-$here/../../target}/fuzz"
mkdir -p "$home"
home=$(cd "$home" && pwd)
if ! command -v "${CXX:-c++}" >/dev/null; then
    echo "fuzz: no C++ compiler (${CXX:-c++}): install g++" >&2
    exit 2
fi

targets=("$@")
if ((${#targets[@]} == 0)); then
    for file in "$here"/fuzz_targets/*.rs; do
        targets+=("$(basename "$file" .rs)")
    done
fi
for target in "${targets[@]}"; do
    if [[ ! -e $here/fuzz_targets/$target.rs ]]; then
        echo "fuzz: no target $target" >&2
        exit 2
    fi
done

# The flags of cargo-fuzz without a sanitizer. --target keeps them away from build scripts.
export RUSTFLAGS="-Cpasses=sancov-module -Cllvm-args=-sanitizer-coverage-level=4 \
-Cllvm-args=-sanitizer-coverage-inline-8bit-counters -Cllvm-args=-sanitizer-coverage-pc-table \
-Cllvm-args=-sanitizer-coverage-trace-compares --cfg fuzzing -Ccodegen-units=1"
host=$(rustc --version --verbose | sed -n 's/^host: //p')
cargo build --manifest-path "$here/Cargo.toml" --locked --release --bins \
    --target "$host" --target-dir "$home/build"

fuzz() {
    local target=$1 binary="$home/build/$host/release/$1" work="$home/$1"
    mkdir -p "$work"/{corpus,seeds,crashes}
    rm -f "$work"/crashes/*
    if FUZZ_SEED_DIR="$work/seeds" "$binary" -max_total_time="$seconds" -timeout=5 \
        -rss_limit_mb=512 -print_final_stats=1 -artifact_prefix="$work/crashes/" \
        "$work/corpus" "$work/seeds" >"$work/log" 2>&1; then
        local runs coverage
        runs=$(sed -n 's/^stat::number_of_executed_units: *//p' "$work/log")
        coverage=$(grep -o 'cov: [0-9]*' "$work/log" | tail -1)
        printf '%-16s %9s runs  %s\n' "$target" "$runs" "$coverage"
    else
        grep -E -m1 -A3 'panicked at|ERROR: libFuzzer|is refused' "$work/log" || tail -5 "$work/log"
        printf '%-16s FAILED, log %s\n' "$target" "$work/log"
        for input in "$work"/crashes/*; do
            [[ -e $input ]] || continue
            printf '  reproduce: %s %s\n' "$binary" "$input"
        done
        return 1
    fi
}
export -f fuzz
export home host seconds
unset RUSTFLAGS
printf '%s\0' "${targets[@]}" | xargs -0 -P "$(nproc)" -I{} bash -c 'fuzz "$1"' fuzz {} || exit 1
