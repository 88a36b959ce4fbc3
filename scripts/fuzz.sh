#!/usr/bin/env bash
# Fuzzes every decoder, FUZZ_SECONDS (60) in all, and fails with the input when one breaks. What was interesting is kept in
# target/fuzz/corpus for the next time.
#
# The same inputs each time unless FUZZ_SEED says otherwise (0 = others each time), so that a check that passed goes on passing.
#
#   scripts/fuzz.sh            all targets in turn
#   scripts/fuzz.sh NAME...    these, as `FUZZ_SECONDS=3600 scripts/fuzz.sh openai-stream`
set -euo pipefail
# shellcheck source=scripts/lib.sh
source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
cd "$ROOT"

SECONDS_IN_ALL=${FUZZ_SECONDS:-60}
SEED=${FUZZ_SEED:-1}
TARGET_DIR=${CARGO_TARGET_DIR:-target}
WORK=$TARGET_DIR/fuzz
[[ $SEED =~ ^[0-9]+$ ]] || die "FUZZ_SEED is '$SEED', expected a whole number"
[[ $SECONDS_IN_ALL =~ ^[1-9][0-9]*$ ]] || die "FUZZ_SECONDS is '$SECONDS_IN_ALL', expected whole seconds"

# `--workspace` for the tests' selection of features: what is not ours is compiled once.
RUSTC_WORKSPACE_WRAPPER=$ROOT/fuzz/instrument.sh cargo build --locked --quiet --workspace --bin fuzzer
# The next build of the tests puts another program of this name there.
mkdir -p "$WORK"
fuzzer=$WORK/fuzzer
cp "$TARGET_DIR/debug/fuzzer" "$fuzzer"

rm -rf "$WORK/seeds"
"$fuzzer" "--seeds=$WORK/seeds" 2>/dev/null
known=("$WORK"/seeds/*)
known=("${known[@]##*/}")
targets=("$@")
[ $# -gt 0 ] || targets=("${known[@]}")
each=$((SECONDS_IN_ALL / ${#targets[@]}))
[ "$each" -gt 0 ] || each=1

for target in "${targets[@]}"; do
  [ -d "$WORK/seeds/$target" ] || die "there is no target '$target', expected one of ${known[*]}"
  corpus=$WORK/corpus/$target found=$WORK/found/$target
  mkdir -p "$corpus" "$found"
  if ! "$fuzzer" "--target=$target" "-seed=$SEED" "-max_total_time=$each" -max_len=16384 -timeout=10 -rss_limit_mb=2048 \
    "-artifact_prefix=$found/" "$corpus" "$WORK/seeds/$target" >"$WORK/$target.log" 2>&1; then
    tail -n 40 "$WORK/$target.log" >&2
    die "$target broke; the input is in $found: put it into fuzz/found/$target/ and make it hold"
  fi
  # "#52000 DONE cov: 900 ft: 2300 corp: 410/28Kb ... exec/s: 8600 rss: 60Mb"
  done_line=$(grep -E '^#[0-9]+.DONE' "$WORK/$target.log" | tail -n 1)
  [[ $done_line =~ ^#([0-9]+).*cov:\ ([0-9]+) ]] || die "$target was not led by coverage: see $WORK/$target.log"
  say "$target: ${BASH_REMATCH[1]} inputs in $each s, ${BASH_REMATCH[2]} edges"
done
