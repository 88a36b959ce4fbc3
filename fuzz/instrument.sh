#!/bin/sh
# rustc for the crates of this workspace, with the coverage that libFuzzer is led by: LLVM's SanitizerCoverage is a pass like
# any other, and stable rustc takes it. What other crates compile generically into ours is seen too; the rest of theirs is
# taken as the tests have built it. Optimised, because speed finds things; overflows and debug assertions still panic.
exec "$@" -Cpasses=sancov-module -Cllvm-args=-sanitizer-coverage-level=4 \
  -Cllvm-args=-sanitizer-coverage-inline-8bit-counters -Cllvm-args=-sanitizer-coverage-pc-table \
  -Cllvm-args=-sanitizer-coverage-trace-compares -Copt-level=2 -Cdebug-assertions=on -Coverflow-checks=on
