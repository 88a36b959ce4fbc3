# Sourced by the other scripts: one place for the repository's root, messages and privileges.
# shellcheck shell=bash disable=SC2034

ROOT=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
TOOLS=$ROOT/.tools
# The services, as they are named in `crates/`, in images and in the compose files.
SERVICES=(request-coordinator model-manager-suite remote-api-adapter local-model-pool vram-optimizer observability-hub metrics-forwarder)

say() { printf '%s: %s\n' "$(basename "$0" .sh)" "$*"; }
die() {
  say "$*" >&2
  exit 1
}
have() { command -v "$1" >/dev/null 2>&1; }
# True when dotted version $1 is at least $2.
version_at_least() { [ "$(printf '%s\n%s\n' "$2" "$1" | sort -V | head -n 1)" = "$2" ]; }

# Runs a command as root where that is possible without asking a question.
as_root() {
  if [ "$(id -u)" = 0 ]; then
    "$@"
  else
    sudo -n "$@"
  fi
}
can_be_root() { [ "$(id -u)" = 0 ] || { have sudo && sudo -n true 2>/dev/null; }; }
