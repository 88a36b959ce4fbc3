#!/usr/bin/env bash
# Builds llama.cpp's own server for `make bench`, to compare the local engine with: from the source that the Python package
# llama-cpp-python carries, pinned by content, with the processor's instructions that the engine was built with. Takes some
# minutes once; safe to run again.
set -euo pipefail
# shellcheck source=scripts/lib.sh
source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

REQUIREMENTS=$ROOT/scripts/llama-server.txt
SERVER=$TOOLS/bin/llama-server
# The engine has this processor's own instructions only where RUSTFLAGS ask for it (see llama-cpp-sys-2's build script).
NATIVE=OFF
case "${RUSTFLAGS-}" in *target-cpu=native*) NATIVE=ON ;; esac
STAMP="$(sed -n 's/^llama-cpp-python==\([0-9.]*\).*/\1/p' "$REQUIREMENTS") native=$NATIVE"

[ -x "$SERVER" ] && [ "$(cat "$SERVER.stamp" 2>/dev/null || true)" = "$STAMP" ] && exit 0
"$ROOT/scripts/setup.sh"

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m pip download -q --disable-pip-version-check --no-deps --no-binary llama-cpp-python --require-hashes \
  -r "$REQUIREMENTS" -d "$work" || die "the source of llama-server could not be fetched from PyPI"
tar -xzf "$work"/*.tar.gz -C "$work"
source_dir=$(dirname "$(find "$work" -path '*/vendor/llama.cpp/CMakeLists.txt' -print -quit)")
say "building llama-server, which takes some minutes"
cmake -S "$source_dir" -B "$work/build" -DCMAKE_BUILD_TYPE=Release -DBUILD_SHARED_LIBS=OFF -DGGML_NATIVE=$NATIVE \
  -DLLAMA_BUILD_TESTS=OFF -DLLAMA_BUILD_EXAMPLES=OFF -DLLAMA_BUILD_APP=OFF -DLLAMA_BUILD_UI=OFF \
  -DLLAMA_USE_PREBUILT_UI=OFF -DLLAMA_OPENSSL=OFF -DLLAMA_CURL=OFF >"$work/log" 2>&1 || { tail -n 20 "$work/log" >&2; die "cmake refuses"; }
cmake --build "$work/build" --target llama-server -j "$(nproc)" >"$work/log" 2>&1 ||
  { tail -n 20 "$work/log" >&2; die "llama-server does not build"; }
install -D "$work/build/bin/llama-server" "$SERVER"
printf '%s\n' "$STAMP" >"$SERVER.stamp"
say "installed llama-server ($STAMP)"
