#!/usr/bin/env bash
# Runs all the tests, and installs what they need (Debian, as root).
#
#   tests/run.sh          everything
#   FUZZ_SECONDS=60 …     longer fuzzing of each decoder (default 5)
#   SEARCH_SECONDS=600 …  a longer search with random scenarios (default 60)
set -euo pipefail
cd "$(dirname "$0")/.."
started=$SECONDS
skipped=()
step() { printf '\n== %s (%d s so far)\n' "$1" $((SECONDS - started)); }
skip() { printf '\n!! SKIPPED: %s\n' "$1"; skipped+=("$1"); }

step "Tools"
need=()
command -v gcc >/dev/null || need+=(gcc libc6-dev)
command -v g++ >/dev/null || need+=(g++)
command -v python3 >/dev/null || need+=(python3)
command -v ip >/dev/null || need+=(iproute2)
if ((${#need[@]})); then
  if [[ $(id -u) != 0 ]]; then
    echo "These Debian packages are missing: ${need[*]}. Install them, or run this as root." >&2
    exit 2
  fi
  apt-get update -qq
  apt-get install -y -qq --no-install-recommends "${need[@]}"
fi

step "Format and lints"
cargo fmt --all --check
cargo clippy --workspace --all-targets --locked -- -D warnings
# Simulations are a workspace of their own: one crate that the node stands on is another there.
(cd simulations && cargo fmt --all --check && cargo clippy --workspace --all-targets --locked -- -D warnings)
python3 simulations/lockfile.py

step "Starter Cargos are what their source says"
node/starter/build.sh --check

step "Tests"
log=$(mktemp)
found=$(mktemp -d)
trap 'rm -rf "$log" "$found"' EXIT
# Without documentation tests: there are none, and compiling for them takes minutes.
cargo test --workspace --all-targets --locked --no-fail-fast 2>&1 | tee "$log"

step "Simulations"
(cd simulations && cargo test --workspace --all-targets --locked --no-fail-fast) 2>&1 | tee -a "$log"

step "Random scenarios for ${SEARCH_SECONDS:=60} s"
# A failure names the seed and prints the scenario, made as short as it goes.
(cd simulations && cargo run --quiet --locked -- search --seconds "$SEARCH_SECONDS" --out "$found") ||
  { cat "$found"/*.toml; exit 1; }

if ip netns add archipelag-probe 2>/dev/null; then
  ip netns del archipelag-probe
  step "A bank under faults for 60 s"
  tests/bank.sh --seconds 60
else
  skip "network namespaces can't be made here (root, Linux): the bank under faults was not run"
fi

step "Fuzzing every decoder for ${FUZZ_SECONDS:=5} s"
protocol/fuzz/run.sh "$FUZZ_SECONDS"

if command -v cargo-deny >/dev/null; then
  step "Licences, sources and duplicate crates"
  cargo deny --workspace check bans licenses sources
else
  skip "cargo-deny is not installed: licences and sources were not checked"
fi

passed=$(awk '/^test result:/ {sum += $4} END {print sum + 0}' "$log")
failed=$(awk '/^test result:/ {sum += $6} END {print sum + 0}' "$log")
ignored=$(awk '/^test result:/ {sum += $8} END {print sum + 0}' "$log")
printf '\nAll of it took %d s.\n' $((SECONDS - started))
((${#skipped[@]})) && printf 'Skipped: %s\n' "${skipped[@]}"
echo "$passed passed, $failed failed, $((ignored + ${#skipped[@]})) skipped"
