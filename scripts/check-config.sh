#!/usr/bin/env bash
# Checks what no compiler reads: shell scripts, the bus configuration, the compose files, the alert rules. A checker that is
# not installed is named and left out.
set -euo pipefail
# shellcheck source=scripts/lib.sh
source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
cd "$ROOT"

if have shellcheck; then
  shellcheck -x scripts/*.sh fuzz/*.sh tests/compose/*.sh .ci/run
  say "shell scripts are clean"
else
  say "shellcheck is not here: shell scripts unchecked"
fi

# The bus: alone and linked, each machine as it finds its secrets. In a copy of the tree's layout, because the
# configuration includes files by their place beside it.
layout=$(mktemp -d)
trap 'rm -rf "$layout"' EXIT
cp -r docker "$layout/"
export NATS_STORE_DIR="\"$layout/store\""
check_nats() {
  local conf=$1
  (cd "$layout" && "$TOOLS/bin/nats-server" -t -c "docker/nats/$conf.conf" >check.log 2>&1) || die "docker/nats/$conf.conf: $(cat "$layout/check.log")"
}
SECRETS_DIR=$layout/secrets scripts/make-secrets.sh >/dev/null
check_nats hub
check_nats pc2
HYBRID_MACHINE='"mainpc"' check_nats local
SECRETS_DIR=$layout/secrets scripts/make-secrets.sh leaf mainpc.test 192.0.2.1 >/dev/null
check_nats hub
check_nats pc2
openssl verify -CAfile "$layout/secrets/leaf/ca/ca.crt" "$layout"/secrets/leaf/{mainpc,pc2}/machine.crt >/dev/null ||
  die "the link's certificates are not signed by its authority"
say "bus configuration is valid, alone and linked"

compose=()
docker compose version >/dev/null 2>&1 && compose+=("docker compose")
have docker-compose && compose+=("docker-compose")
[ ${#compose[@]} -gt 0 ] || say "no Compose here: compose files unchecked"
for tool in "${compose[@]}"; do
  for machine in hybrid pc2; do
    for standby in 0 1; do
      # shellcheck disable=SC2086 # two words for the plugin
      FEATURE_ENABLE_STANDBY_HUB=$standby SECRETS_DIR=$layout/secrets $tool -f "docker-compose.$machine.yml" config --quiet
    done
  done
  say "compose files are read by $($tool version --short)"
done

if have promtool; then
  promtool check rules docker/prometheus/rules.yml >/dev/null
  say "alert rules are valid"
fi
