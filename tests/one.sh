#!/usr/bin/env bash
# one.sh NAME (make t T=NAME): runs the tests whose name contains NAME, or all of the file NAME.rs, and builds only what
# they need. Those that need the lab use the one that `make lab` set up, and skip where there is none.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
name=${1:-}
[[ $name =~ ^[a-z0-9_]+$ ]] || { echo "usage: make t T=NAME, a part of a test's name or the name of a file of tests" >&2 && exit 2; }

mapfile -t files < <({
  find tests/tests tests/src cstor-*/src -name "$name.rs" -exec grep -l '#\[test\]' {} +
  grep -rlE --include='*.rs' "^ *(pub\(crate\) )?fn [a-z0-9_]*${name}[a-z0-9_]*\(\)" tests/tests tests/src cstor-*/src
} | sort -u)
declare -A targets=()
for file in "${files[@]}"; do
  grep -q '#\[test\]' "$file" || continue
  case $file in
    tests/tests/*) group=${file#tests/tests/} && targets["--workspace --test ${group%%/*}"]=1 ;;
    tests/src/*) targets["-p cstor-tests --lib"]=1 ;;
    */src/bin/*) targets["-p ${file%%/*} --bins"]=1 ;;
    *) targets["-p ${file%%/*} --lib"]=1 ;;
  esac
done
[ ${#targets[@]} != 0 ] || { echo "one.sh: no test is called $name" >&2 && exit 1; }

if [[ ${!targets[*]} = *--test* ]]; then
  # The programs under test; cargo builds those of the lab itself with the test.
  cargo build -q --locked --workspace --bin cstor --bin cstor-helper --bin tar-diff
  if tests/lab.sh env >/dev/null 2>&1; then
    set -a
    # shellcheck source=/dev/null
    . <(tests/lab.sh env)
    set +a
  fi
fi
for target in "${!targets[@]}"; do
  # shellcheck disable=SC2086 # several words
  cargo test -q --locked $target -- "$name"
done
