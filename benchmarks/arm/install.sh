#!/usr/bin/env bash
# Prints the path of a folder in which ARM programs run by QEMU; makes it where it is not there yet.
#   usr/ etc/           Debian 12 for arm64 with Python 3.11
#   site/               aarch64 wheels of the runtimes, as constraints.txt pins them
#   executorch_runner   the C++ scorer, built against ExecuTorch's wheel
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd -P)
pins=$here/../../constraints.txt
PYTHON=${EDGEFIQA_PYTHON:-$here/../../.venv/bin/python}
MIRROR=${EDGEFIQA_DEBIAN_MIRROR:-http://deb.debian.org/debian}
cache=${EDGEFIQA_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/edgefiqa}
wheels=(numpy pillow ai-edge-litert onnxruntime)

say() { echo "$@" >&2; }

pinned() { grep -iE "^$1==" "$pins" | cut -d ' ' -f 1; }

install_tools() {
    local packages=() sudo=
    command -v qemu-aarch64-static >/dev/null || packages+=(qemu-user-static)
    command -v debootstrap >/dev/null || packages+=(debootstrap)
    command -v aarch64-linux-gnu-g++ >/dev/null || packages+=(g++-aarch64-linux-gnu)
    [ ${#packages[@]} -eq 0 ] && return
    if ! command -v apt-get >/dev/null; then
        say "error: no apt-get here. Next: install ${packages[*]} by hand"
        exit 1
    fi
    [ "$(id -u)" = 0 ] || sudo=sudo
    say "installing ${packages[*]}"
    $sudo apt-get update -qq >&2
    DEBIAN_FRONTEND=noninteractive $sudo apt-get install -y -qq --no-install-recommends "${packages[@]}" >/dev/null
}

unpack_debian() {  # debootstrap only resolves and downloads: unpacked, unconfigured packages suffice
    local sudo=
    [ "$(id -u)" = 0 ] || sudo=sudo
    $sudo debootstrap --download-only --arch=arm64 --variant=minbase \
        --include=python3.11-minimal,libpython3.11-stdlib,libstdc++6,libgomp1 bookworm "$1/debian" "$MIRROR" \
        >"$1/debootstrap.log" 2>&1 || { tail -5 "$1/debootstrap.log" >&2; exit 1; }
    mkdir -p "$1/usr/lib"
    ln -s usr/lib "$1/lib"  # as Debian has it; packages put the same libraries under either name
    local package
    for package in "$1"/debian/var/cache/apt/archives/*.deb; do
        dpkg-deb --fsys-tarfile "$package" | tar -x --no-same-owner --keep-directory-symlink -C "$1"
    done
    $sudo rm -rf "$1/debian"
}

install_wheels() {
    local pip=("$PYTHON" -m pip install --quiet --disable-pip-version-check --root-user-action=ignore
        --target "$1/site" --only-binary=:all: --python-version 3.11 --implementation cp)
    local minor
    for minor in 36 35 34 31 28 27 26 24 17; do pip+=(--platform "manylinux_2_${minor}_aarch64"); done
    "${pip[@]}" --platform manylinux2014_aarch64 -c "$pins" "${wheels[@]}" >&2
    "${pip[@]}" --no-deps "$(pinned executorch)" >&2  # its Python part would need torch
}

build_runner() {
    local package=$1/site/executorch
    aarch64-linux-gnu-g++ -std=c++17 -O1 -Wno-deprecated-declarations \
        -DC10_USING_CUSTOM_GENERATED_MACROS -DET_EVENT_TRACER_ENABLED \
        -isystem "$package/include" -isystem "$package/include/executorch/runtime/core/portable_type/c10" \
        "$here/executorch_runner.cpp" -o "$1/executorch_runner" -L"$package/lib" \
        -Wl,--no-as-needed -Wl,--allow-shlib-undefined -Wl,-rpath,'$ORIGIN/site/executorch/lib' \
        -lexecutorch -lexecutorch_kernels_optimized -lexecutorch_kernels_quantized \
        -lexecutorch_backend_xnnpack -lexecutorch_threadpool
}

install_tools
hash=$(
    {
        cat "$here/install.sh" "$here/executorch_runner.cpp"
        for name in "${wheels[@]}" executorch; do pinned "$name"; done
    } | sha256sum | cut -c 1-16
)
root=$cache/arm64-root-$hash
if [ ! -d "$root" ]; then
    say "making $root (1 GB, some minutes)"
    mkdir -p "$cache"
    partial=$(mktemp -d "$cache/partial-XXXXXX")
    trap 'rm -rf "$partial"' EXIT
    unpack_debian "$partial"
    install_wheels "$partial"
    build_runner "$partial"
    mv "$partial" "$root"
    trap - EXIT
fi
echo "$root"
