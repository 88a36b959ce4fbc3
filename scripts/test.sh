#!/usr/bin/env bash
# All checks and tests in the order of their price; run by `make test`. Ends with one line that says how it went.
set -euo pipefail
# shellcheck source=scripts/lib.sh
source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
cd "$ROOT"

step=start
# shellcheck disable=SC2154 # the exit status, set by the trap itself
trap 'code=$?; if [ $code = 0 ]; then say "all checks passed in $((SECONDS / 60)) min $((SECONDS % 60)) s"; else say "FAILED at: $step" >&2; fi' EXIT
run() {
  step=$1
  say "$step"
  "${@:2}"
}

# Each service reads the whole file of each machine and knows its own keys.
services_read_their_configuration() {
  local service machine
  for service in "${SERVICES[@]}"; do
    for machine in hybrid pc2; do
      "${CARGO_TARGET_DIR:-target}/debug/$service" --config "config/$machine.toml" --dump-config >/dev/null
    done
  done
}

run "format" cargo fmt --all --check
run "configuration" scripts/check-config.sh
run "lints" cargo clippy --workspace --all-targets --locked -- -D warnings
# Tests on real processes start the services' binaries, which a test build alone would not make.
run "build" cargo build --workspace --all-targets --locked
run "services' configuration" services_read_their_configuration
if cargo nextest --version >/dev/null 2>&1; then
  run "tests" cargo nextest run --workspace --locked --no-fail-fast
  run "documentation tests" cargo test --workspace --locked --doc --quiet
else
  run "tests" cargo test --workspace --locked --no-fail-fast
fi
run "fuzzing" scripts/fuzz.sh
if have cargo-deny; then
  # Advisories need their database from the network: continuous integration looks at them.
  run "licences and sources" cargo deny --locked check licenses bans sources
fi
