#!/usr/bin/env bash
# run.sh [SECONDS]: each fuzz target for so long (25 s), with coverage and checked arithmetic, from its corpus in this folder.
# Needs no cargo-fuzz and no nightly Rust; for a long search with sanitizers: cargo fuzz run --fuzz-dir tests/fuzz TARGET.
# Nothing is written into the corpus; an input that fails is kept in target/artifacts and its path is printed.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")"
seconds=${1:-25}
triple=$(rustc -vV | sed -n 's/^host: //p')
# As cargo-fuzz sets them; with --target they do not reach build scripts.
export RUSTFLAGS="--cfg fuzzing -Cdebug-assertions -Coverflow-checks -Cpasses=sancov-module
  -Cllvm-args=-sanitizer-coverage-level=4 -Cllvm-args=-sanitizer-coverage-inline-8bit-counters
  -Cllvm-args=-sanitizer-coverage-pc-table -Cllvm-args=-sanitizer-coverage-trace-compares"
RUSTFLAGS=$(tr -s '\n ' ' ' <<<"$RUSTFLAGS" | sed 's/ $//')
cargo build --release --locked --target "$triple" --bin frame_helper --bin frame_client
for target in frame_helper frame_client; do
  scratch=$(mktemp -d)
  mkdir -p target/artifacts
  # The first folder takes new inputs, the second is read.
  "target/$triple/release/$target" -max_total_time="$seconds" -max_len=16384 -timeout=10 -print_final_stats=1 \
    -verbosity=0 -artifact_prefix="target/artifacts/$target-" "$scratch" "corpus/$target" 2>&1 |
    { grep -v '^"\|^######' || true; } # its recommended dictionary
  rm -rf "$scratch"
done
