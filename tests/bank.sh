#!/usr/bin/env bash
# Five coordinators in network namespaces keep a bank while they are killed, stopped and cut off.
# Needs Linux, root and iproute2.
#
#   tests/bank.sh --seconds 600 [--seed N]      default 60
set -euo pipefail
cd "$(dirname "$0")/.."
cargo test --no-run --quiet --locked --workspace --all-targets
target=$(cargo metadata --format-version 1 --no-deps | python3 -c 'import json, sys; print(json.load(sys.stdin)["target_directory"])')
exec "$target/debug/bank" "$@"
