#!/usr/bin/env bash
# Builds the starter Cargos from guests/ with Debian's Rust for WebAssembly.
#
#   build.sh                    builds and replaces <slug>/module.wasm and TOOLCHAIN
#   build.sh --check [--out D]  builds afresh, leaves the modules in D (a new
#                               temporary directory if not given) and compares
#
# --check demands the same bytes when the installed toolchain is the one that
# TOOLCHAIN records. With another toolchain it says so and demands only that the
# build succeeds: run the behaviour cases on the modules in D then.
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd -P)
packages=(rustc-web cargo-web rust-web-src libstd-rust-web-dev lld-19
          libclang-rt-19-dev-wasm32 wasi-libc)

die() { echo "build.sh: $*" >&2; exit 1; }

check=no out=
while (($#)); do
    case $1 in
        --check) check=yes ;;
        --out) out=${2:?--out needs a directory}; shift ;;
        *) die "unknown argument $1 (see the head of this file)" ;;
    esac
    shift
done
[[ -z $out || $check == yes ]] || die "--out goes with --check"

installed_version() { dpkg-query -W -f '${Status} ${Version}\n' "$1" 2>/dev/null |
    sed -n 's/^install ok installed //p'; }

install_packages() {
    command -v dpkg-query >/dev/null || die "needs Debian, for ${packages[*]}"
    local missing=() package
    for package in "${packages[@]}"; do
        [[ -n $(installed_version "$package") ]] || missing+=("$package")
    done
    ((${#missing[@]})) || return 0
    ((EUID == 0)) || die "install these first: apt-get install ${missing[*]}"
    DEBIAN_FRONTEND=noninteractive apt-get update -qq
    DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "${missing[@]}"
}

toolchain() {
    local package
    for package in "${packages[@]}"; do
        echo "$package $(installed_version "$package")"
    done
}

# compile TARGET_DIR: leaves TARGET_DIR/wasm32-wasip1/release/<slug>.wasm
compile() {
    local library cargo_home flags folder
    library=$(dpkg -L rust-web-src | sed -n 's|\(^/usr/src/rustc-[^/]*/library\)/std/Cargo.toml$|\1|p')
    [[ -n $library ]] || die "rust-web-src holds no library sources"
    cargo_home=${CARGO_HOME:-$HOME/.cargo}
    (
        cd "$here/guests"
        # What the caller builds other things with stays out.
        unset RUSTC_WRAPPER RUSTC_WORKSPACE_WRAPPER RUSTFLAGS CARGO_BUILD_RUSTFLAGS
        export CARGO_TARGET_DIR=$1
        # Debian ships the sources of std, not a std for WASI: build-std, which
        # a stable compiler allows when bootstrapping.
        export RUSTC=/usr/bin/rustc RUSTC_BOOTSTRAP=1 __CARGO_TESTS_ONLY_SRC_ROOT=$library
        # Paths would otherwise reach the module through panic messages. The
        # registry's folder is named after its index, which may be a mirror.
        /usr/bin/cargo fetch --locked --quiet
        flags=(-Clinker=/usr/bin/wasm-ld-19 -Clinker-flavor=wasm-ld -Clink-self-contained=no
            -L/usr/lib/wasm32-wasi -Clink-arg=/usr/lib/wasm32-wasi/crt1-command.o
            "--remap-path-prefix=$here/guests=guests" "--remap-path-prefix=$library=library")
        for folder in "$cargo_home"/registry/src/*; do
            flags+=("--remap-path-prefix=$folder=registry")
        done
        # Unlike RUSTFLAGS, this allows spaces in paths.
        CARGO_ENCODED_RUSTFLAGS=$(IFS=$'\x1f'; echo "${flags[*]}")
        export CARGO_ENCODED_RUSTFLAGS
        /usr/bin/cargo build --release --locked --bins --target wasm32-wasip1 \
            -Zbuild-std=std,panic_abort
    )
}

slugs() { (cd "$here/guests/src/bin" && for name in *; do echo "${name%.rs}"; done); }

install_packages
if [[ $check == no ]]; then
    target=${XDG_CACHE_HOME:-$HOME/.cache}/archipelag/guests
    compile "$target"
    for slug in $(slugs); do
        mkdir -p "$here/$slug"
        install -m 644 "$target/wasm32-wasip1/release/$slug.wasm" "$here/$slug/module.wasm"
        printf '%8d  %s\n' "$(stat -c %s "$here/$slug/module.wasm")" "$slug"
    done
    toolchain >"$here/TOOLCHAIN"
    exit 0
fi

out=${out:-$(mktemp -d)}
target=$(mktemp -d)
trap 'rm -rf "$target"' EXIT
compile "$target"
different=()
for slug in $(slugs); do
    mkdir -p "$out/$slug"
    install -m 644 "$target/wasm32-wasip1/release/$slug.wasm" "$out/$slug/module.wasm"
    cmp -s "$out/$slug/module.wasm" "$here/$slug/module.wasm" || different+=("$slug")
done
echo "rebuilt modules: $out"
if diff "$here/TOOLCHAIN" <(toolchain); then
    ((${#different[@]} == 0)) ||
        die "same toolchain, other bytes: ${different[*]}; run build.sh and commit the modules"
    echo "all modules are what their sources say"
else
    echo "WARNING: this toolchain is not the one in TOOLCHAIN (difference above), so the bytes" >&2
    echo "WARNING: were not required to agree (${different[*]:-none} differ); run the cases on $out" >&2
fi
