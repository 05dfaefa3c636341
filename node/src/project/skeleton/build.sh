#!/bin/sh
# Builds module.wasm. Needs the target once: rustup target add wasm32-wasip1
set -eu
cd "$(dirname "$0")/guest"
cargo build --release --target wasm32-wasip1 --target-dir target
cp "target/wasm32-wasip1/release/@SLUG@.wasm" ../module.wasm
echo "built module.wasm; next: archipelag cargo check ."
