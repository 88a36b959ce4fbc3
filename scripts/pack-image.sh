#!/usr/bin/env bash
# Packs a binary of this host into an image, with the loader and the libraries it needs. Reaches no registry.
#
#   scripts/pack-image.sh BINARY IMAGE [DOCKERFILE] [FOLDER...]
#
# BASE=scratch          base image of the Dockerfile (default docker/packed.Dockerfile)
# FOLDER                folders of the repository that the image carries under the same name, for example models
set -euo pipefail
# shellcheck source=scripts/lib.sh
source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

[ $# -ge 2 ] || die "expected BINARY IMAGE [DOCKERFILE] [FOLDER...]"
binary=$1 image=$2 dockerfile=${3:-$ROOT/docker/packed.Dockerfile}
[ -x "$binary" ] || die "$binary is not an executable"

context=$(mktemp -d)
trap 'rm -rf "$context"' EXIT
chmod 755 "$context"
rootfs=$context/rootfs
mkdir -p "$rootfs/usr/local/bin" "$rootfs/etc/ssl/certs" "$context/data"
mkdir -m 1777 "$rootfs/tmp"

# The process keeps its own name in `ps`; /service is what Dockerfiles and compose files can rely on.
name=$(basename "$binary")
cp -L "$binary" "$rootfs/usr/local/bin/$name"
have strip && strip --strip-debug "$rootfs/usr/local/bin/$name"
ln -s "usr/local/bin/$name" "$rootfs/service"

# "libc.so.6 => /lib/.../libc.so.6 (0x...)" and "/lib64/ld-linux-x86-64.so.2 (0x...)"; a static binary has none.
libraries=$(ldd "$binary" 2>/dev/null || true)
if grep -q 'not found' <<<"$libraries"; then
  die "$binary lacks libraries on this host: $(grep 'not found' <<<"$libraries" | tr -s '\t\n' ' ')"
fi
while read -r library; do
  mkdir -p "$rootfs$(dirname "$library")"
  cp -L "$library" "$rootfs$library"
done < <(grep -o '/[^ ]*' <<<"$libraries" || true)

printf 'root:x:0:0:root:/:/none\nservice:x:65532:65532:service:/data:/none\n' >"$rootfs/etc/passwd"
printf 'root:x:0:\nservice:x:65532:\n' >"$rootfs/etc/group"
printf 'hosts: files dns\n' >"$rootfs/etc/nsswitch.conf"
cp -L /etc/ssl/certs/ca-certificates.crt "$rootfs/etc/ssl/certs/"

for folder in "${@:4}"; do
  mkdir -p "$rootfs/$(dirname "$folder")"
  cp -rL "$ROOT/$folder" "$rootfs/$folder"
done
chmod -R u+rwX,go+rX,go-w "$rootfs"
chmod 1777 "$rootfs/tmp"

output=$(docker build --quiet --force-rm --build-arg "BASE=${BASE:-scratch}" -f "$dockerfile" -t "$image" "$context" 2>&1) ||
  die "image $image could not be built: $output"
say "$image $(docker image inspect --format '{{.Size}}' "$image" | awk '{printf "%.0f MB", $1 / 1e6}')"
