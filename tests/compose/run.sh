#!/usr/bin/env bash
# Both machines' compose files side by side on this engine, as a user starts them: they become healthy, answer over HTTP, are
# linked, have their limits, and the standby hub comes with its flag. Takes everything down again, also after a failure.
#
# Expects the images of IMAGE_PREFIX and IMAGE_TAG: `make test-compose` builds them.
set -euo pipefail
# shellcheck source=scripts/lib.sh
source "$(dirname "${BASH_SOURCE[0]}")/../../scripts/lib.sh"
cd "$ROOT"

HEALTHY_SECONDS_MAX=180
ANSWER_SECONDS_MAX=60
PROJECT=hybrid-llm-test

if docker compose version >/dev/null 2>&1; then
  compose_tool=(docker compose)
elif have docker-compose; then
  compose_tool=(docker-compose)
else
  die "neither 'docker compose' nor docker-compose is here"
fi
compose() {
  local machine=$1
  COMPOSE_IGNORE_ORPHANS=1 "${compose_tool[@]}" -p "$PROJECT" --env-file "$work/env" -f "docker-compose.$machine.yml" "${@:2}"
}
containers() { docker ps -a -q --filter "label=com.docker.compose.project=$PROJECT" "$@"; }
container_of() { containers --filter "label=com.docker.compose.service=$1"; }

work=$(mktemp -d)
finish() {
  local code=$? id machine
  if [ $code != 0 ]; then
    docker ps -a --filter "label=com.docker.compose.project=$PROJECT" --format '{{.Names}} {{.Status}}' >&2
    for id in $(containers); do
      printf -- '--- %s\n' "$(docker inspect --format '{{.Name}}' "$id")"
      docker logs --tail 30 "$id"
    done >&2 2>&1
  fi
  # PC2 first: its server is in MainPC's network too.
  for machine in pc2 hybrid; do
    compose "$machine" down -v --timeout 15 >"$work/down.log" 2>&1 || { cat "$work/down.log" >&2; code=1; }
  done
  rm -rf "$work"
  if [ $code = 0 ]; then say "passed in $SECONDS s"; else say "FAILED" >&2; fi
  exit "$code"
}
trap finish EXIT

: >"$work/env" # a developer's .env must not change what is tested
export SECRETS_DIR=$work/secrets
# PC2's server will share a network with MainPC's, where that one is called nats.
scripts/make-secrets.sh leaf nats

up() {
  compose "$1" up -d >"$work/up.log" 2>&1 || { cat "$work/up.log" >&2; die "docker-compose.$1.yml does not start"; }
}

# Every container runs, and those with a health check say that they are healthy.
wait_healthy() {
  local deadline=$((SECONDS + HEALTHY_SECONDS_MAX)) waiting
  while :; do
    waiting=$(containers | xargs docker inspect --format '{{.Name}} {{.State.Status}} {{with .State.Health}}{{.Status}}{{end}}' |
      grep -v -e ' running healthy$' -e ' running $' || true)
    [ -n "$waiting" ] || return 0
    [ $SECONDS -lt $deadline ] || die "not healthy after $HEALTHY_SECONDS_MAX s: $waiting"
    sleep 1
  done
}

# A first answer may have to wait until the executors have announced themselves.
ask() {
  local port=$1 deadline=$((SECONDS + ANSWER_SECONDS_MAX)) status answer=$work/answer.json
  while :; do
    status=$(curl -sS -o "$answer" -w '%{http_code}' --max-time 30 "http://127.0.0.1:$port/v1/chat/completions" \
      -H 'content-type: application/json' -d "$QUESTION" 2>"$work/curl.log" || true)
    if [ "$status" = 200 ]; then
      python3 -c 'import json, sys; text = json.load(sys.stdin)["choices"][0]["message"]["content"]; print(text); sys.exit("4" not in text)' <"$answer" >"$work/text" ||
        die "port $port answered $(cat "$answer"), expected a 4"
      say "port $port: 2+2 is answered with '$(tr '\n' ' ' <"$work/text")'"
      return 0
    fi
    [ $SECONDS -lt $deadline ] || die "port $port: status $status, $(cat "$work/curl.log" "$answer" 2>/dev/null)"
    sleep 1
  done
}
QUESTION='{"model": "auto", "messages": [{"role": "user", "content": "What is 2+2?"}]}'

expect() { [ "$2" = "$3" ] || die "$1: is '$2', expected '$3'"; }

up hybrid
up pc2
expect "standby without its flag" "$(container_of observability-hub-standby)$(container_of pc2-observability-hub-standby)" ""
wait_healthy
say "both machines are healthy"
ask 7070
ask 7170

adapter=$(container_of remote-api-adapter)
expect "memory limit of the adapter" "$(docker inspect --format '{{.HostConfig.Memory}}' "$adapter")" $((512 * 1024 * 1024))
expect "processor limit of the adapter" "$(docker inspect --format '{{.HostConfig.NanoCpus}}' "$adapter")" 500000000
expect "root filesystem of the adapter is read-only" "$(docker inspect --format '{{.HostConfig.ReadonlyRootfs}}' "$adapter")" true
expect "user of the adapter" "$(docker inspect --format '{{.Config.User}}' "$adapter")" 65532:65532
say "limits hold"

# The link between the machines, which here are two networks of one engine.
docker network connect "${PROJECT}_mainpc" "$(container_of pc2-nats)"
deadline=$((SECONDS + 20))
until docker logs "$(container_of nats)" 2>&1 | grep -q 'Leafnode connection created'; do
  [ $SECONDS -lt $deadline ] || die "PC2's server has not reached MainPC's"
  sleep 1
done
say "the machines are linked"

export FEATURE_ENABLE_STANDBY_HUB=1
up hybrid
up pc2
wait_healthy
for service in observability-hub-standby pc2-observability-hub-standby; do
  [ -n "$(container_of $service)" ] || die "FEATURE_ENABLE_STANDBY_HUB=1 has not started $service"
done
say "the standby hubs are healthy"
