#!/usr/bin/env bash
# run.sh [SECONDS [TARGET...]]: each fuzz target (all) for so long (15 s), two at a time, with coverage and checked
# arithmetic, from its corpus in this folder. `run.sh seeds` writes the corpus anew.
# Needs no cargo-fuzz and no nightly Rust; for a search with sanitizers: cargo fuzz run --fuzz-dir tests/fuzz TARGET.
# FUZZ_SEED=N makes a run repeatable: CI judges a commit, longer runs search.
# Nothing is written into the corpus: inputs that reach something new are kept in target/corpus, where the next run
# goes on, and an input that fails in target/artifacts, and its path is printed.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")"
triple=$(rustc -vV | sed -n 's/^host: //p')
# As cargo-fuzz sets them; with --target they do not reach build scripts.
export RUSTFLAGS="--cfg fuzzing -Cdebug-assertions -Coverflow-checks -Cpasses=sancov-module
  -Cllvm-args=-sanitizer-coverage-level=4 -Cllvm-args=-sanitizer-coverage-inline-8bit-counters
  -Cllvm-args=-sanitizer-coverage-pc-table -Cllvm-args=-sanitizer-coverage-trace-compares"
RUSTFLAGS=$(tr -s '\n ' ' ' <<<"$RUSTFLAGS" | sed 's/ $//')
build() {
  cargo build --release --locked --target "$triple" "${@/#/--bin=}"
}
if [ "${1-}" = seeds ]; then
  build seeds
  exec "target/$triple/release/seeds"
fi
seconds=${1:-15}
targets=("${@:2}")
if [ ${#targets[@]} = 0 ]; then
  # The slow ones beside quick ones.
  targets=(
    merge tar_header extract tar_split names splitfd frame_helper chunked frame_client store_json storage_conf reference
    jsonrpc
  )
fi
build "${targets[@]}"

memory=/dev/shm
[ -d $memory ] || memory=${TMPDIR:-/tmp}
TMPDIR=$(mktemp -d "$memory/cstor-fuzz-XXXXXX")
export TMPDIR
trap 'chmod -R u+rwx "$TMPDIR" && rm -rf "$TMPDIR"' EXIT

fuzz() {
  mkdir -p "target/corpus/$1" target/artifacts target/logs
  # 512 MiB are more than any of them needs; an input of 10 seconds hangs. libFuzzer sees what is asked for at once only
  # with a sanitizer (-malloc_limit_mb), so addresses have a limit too. The first folder takes new inputs, the second is
  # read.
  ulimit -v 1572864
  "target/$triple/release/$1" -max_total_time="$seconds" -max_len=16384 -len_control=10 -timeout=10 -rss_limit_mb=512 \
    -malloc_limit_mb=256 -print_final_stats=1 -print_funcs=0 -verbosity=0 -seed="${FUZZ_SEED:-0}" \
    -artifact_prefix="target/artifacts/$1-" "target/corpus/$1" "corpus/$1" >"target/logs/$1" 2>&1
}

# Two at a time: a runner has two processors, and some targets wait for the kernel.
failed=0
running=() # the process and the target, turn by turn
finish_one() {
  local code=0
  wait "${running[0]}" || code=$?
  if [ $code = 70 ]; then
    # Ten seconds by the clock: of a machine that stood still meanwhile, unless the input takes as long again.
    local input
    input=$(grep -ao 'target/artifacts/.*-timeout-[0-9a-f]*' "target/logs/${running[1]}" | tail -n 1)
    code=0
    "target/$triple/release/${running[1]}" -timeout=10 "$input" >>"target/logs/${running[1]}" 2>&1 || code=$?
  fi
  echo "== ${running[1]}: exit code $code"
  # Without its recommended dictionary.
  grep -av '^"\|^######' "target/logs/${running[1]}" || true
  [ $code = 0 ] || failed=1
  running=("${running[@]:2}")
}
for target in "${targets[@]}"; do
  [ ${#running[@]} -lt 4 ] || finish_one
  fuzz "$target" &
  running+=($! "$target")
done
while [ ${#running[@]} -gt 0 ]; do
  finish_one
done
exit $failed
