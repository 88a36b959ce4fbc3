#!/usr/bin/env bash
# Creates the files under secrets/ (SECRETS_DIR) that are missing; overwrites nothing. See secrets/README.md.
#
#   scripts/make-secrets.sh                      empty keys, the bus's users, and no link between the machines
#   scripts/make-secrets.sh leaf HOST [HOST...]  certificates and nkey for the link; HOST: names or addresses of MainPC
set -euo pipefail
# shellcheck source=scripts/lib.sh
source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

SECRETS=${SECRETS_DIR:-$ROOT/secrets}
LEAF=$SECRETS/leaf
BUS=$SECRETS/bus
DAYS=3650 # two machines of one owner and nobody who would renew; revoked by making a new authority
LEAF_PORT=7422

placeholders() {
  local key machine
  for key in openai_api_key bedrock_key; do
    [ -e "$SECRETS/$key" ] || { : >"$SECRETS/$key" && say "created an empty $key"; }
  done
  for machine in mainpc pc2; do
    mkdir -p "$LEAF/$machine"
    [ -e "$LEAF/$machine/leaf.conf" ] || printf '# This machine is alone: see secrets/README.md.\n' >"$LEAF/$machine/leaf.conf"
  done
}

new_key() { openssl genpkey -algorithm EC -pkeyopt ec_paramgen_curve:P-256 -out "$1" 2>/dev/null; }

# Signs a certificate for one machine: folder, common name, extended key usage, subject alternative names.
certificate() {
  local folder=$1 name=$2 usage=$3 names=$4 request
  request=$(mktemp)
  new_key "$folder/machine.key"
  openssl req -new -key "$folder/machine.key" -subj "/CN=$name" -out "$request"
  openssl x509 -req -in "$request" -CA "$LEAF/ca/ca.crt" -CAkey "$LEAF/ca/ca.key" -CAcreateserial -days "$DAYS" \
    -out "$folder/machine.crt" -extfile <(printf 'basicConstraints=CA:FALSE\nextendedKeyUsage=%s\nsubjectAltName=%s\n' "$usage" "$names") 2>/dev/null
  rm "$request"
  cp "$LEAF/ca/ca.crt" "$folder/ca.crt"
}

# Prints "SEED PUBLIC" of a new user nkey. An nkey is an Ed25519 key: prefix, key, CRC-16/XMODEM little-endian, in base32
# (https://docs.nats.io/reference/reference-protocols/nats-protocol/nats-client-dev#nkeys).
new_nkey() {
  local key
  key=$(mktemp)
  openssl genpkey -algorithm ed25519 -outform DER -out "$key"
  python3 - "$key" <(openssl pkey -inform DER -in "$key" -pubout -outform DER) <<'PY'
import base64, binascii, sys
SEED, USER = 18 << 3, 20 << 3
encode = lambda raw: base64.b32encode(raw + binascii.crc_hqx(raw, 0).to_bytes(2, "little")).decode().rstrip("=")
private, public = (open(path, "rb").read()[-32:] for path in sys.argv[1:])  # both DER forms end in the key itself
print(encode(bytes([SEED | USER >> 5, (USER & 31) << 3]) + private), encode(bytes([USER]) + public))
PY
  rm "$key"
}

# Prints the public key of an nkey seed: an Ed25519 private key in DER is a fixed head and the key.
public_of() {
  python3 - "$1" <<'PY' | openssl pkey -inform DER -pubout -outform DER | python3 -c '
import base64, binascii, sys
raw = bytes([20 << 3]) + sys.stdin.buffer.read()[-32:]
print(base64.b32encode(raw + binascii.crc_hqx(raw, 0).to_bytes(2, "little")).decode().rstrip("="))'
import base64, sys
text = open(sys.argv[1]).read().strip()
raw = base64.b32decode(text + "=" * (-len(text) % 8))
sys.stdout.buffer.write(bytes.fromhex("302e020100300506032b657004220420") + raw[2:34])
PY
}

# A seed for each user of each machine's bus, and the public keys for its server. The users are those of the server's accounts.
bus() {
  local machine folder variable user seed _
  for machine in mainpc pc2; do
    folder=$BUS/$machine
    [ -e "$ROOT/docker/nats/accounts-$machine.conf" ] || die "docker/nats/accounts-$machine.conf is missing"
    mkdir -p "$folder"
    chmod 700 "$folder"
    for variable in $(grep -o 'NKEY_[A-Z0-9_]*' "$ROOT/docker/nats/accounts-$machine.conf"); do
      user=$(tr 'A-Z_' 'a-z-' <<<"${variable#NKEY_}")
      if [ ! -s "$folder/$user.seed" ]; then
        read -r seed _ < <(new_nkey)
        printf '%s\n' "$seed" >"$folder/$user.seed"
      fi
      printf '%s: "%s"\n' "$variable" "$(public_of "$folder/$user.seed")"
    done >"$folder/nkeys.new"
    mv "$folder/nkeys.new" "$folder/nkeys.conf"
  done
}

leaf() {
  local host names='DNS:localhost,IP:127.0.0.1' seed public
  [ $# -gt 0 ] || die "leaf needs a name or an address by which PC2 reaches MainPC"
  for host in "$@"; do
    [[ $host =~ ^[A-Za-z0-9.:-]+$ ]] || die "'$host' is neither a host name nor an address"
    if [[ $host =~ ^[0-9.]+$ || $host == *:* ]]; then names+=",IP:$host"; else names+=",DNS:$host"; fi
  done
  if [ -e "$LEAF/ca/ca.key" ]; then
    say "the link's keys are there already; remove $LEAF to make new ones"
    return 0
  fi
  mkdir -p "$LEAF/ca"
  chmod 700 "$LEAF/ca"
  new_key "$LEAF/ca/ca.key"
  openssl req -x509 -new -key "$LEAF/ca/ca.key" -subj "/CN=Hybrid LLM leaf link" -days "$DAYS" -out "$LEAF/ca/ca.crt" \
    -addext 'basicConstraints=critical,CA:TRUE,pathlen:0' -addext 'keyUsage=critical,keyCertSign,cRLSign'
  certificate "$LEAF/mainpc" mainpc serverAuth "$names"
  certificate "$LEAF/pc2" pc2 clientAuth DNS:pc2

  read -r seed public < <(new_nkey)
  printf 'nkey: "%s"\n' "$public" >"$LEAF/mainpc/nkey.conf"
  host=$1
  [[ $host != *:* ]] || host="[$host]"
  printf 'url: "tls://%s:%s"\nnkey: "%s"\n' "$host" "$LEAF_PORT" "$seed" >"$LEAF/pc2/remote.conf"
  # Last, because these two switch the link on.
  printf 'include ../../../docker/nats/leaf-hub.conf\n' >"$LEAF/mainpc/leaf.conf"
  printf 'include ../../../docker/nats/leaf-pc2.conf\n' >"$LEAF/pc2/leaf.conf"
  chmod 644 "$LEAF"/{mainpc,pc2}/*
  say "created the link's certificates and nkey; copy $LEAF/pc2 to secrets/leaf/ on PC2"
}

umask 022
for tool in openssl python3; do have "$tool" || die "$tool is needed: run scripts/setup.sh"; done
mkdir -p "$SECRETS"
chmod 700 "$SECRETS"
placeholders
bus
case "${1-}" in
  "") ;;
  leaf) leaf "${@:2}" ;;
  *) die "unknown argument '$1', expected leaf HOST... or none" ;;
esac
