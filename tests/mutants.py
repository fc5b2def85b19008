#!/usr/bin/env python3
"""mutants.py OPTION... -- TEST...: whether these tests notice what cargo-mutants changes.

`cargo mutants` runs the tests of a crate, and the whole of `make test` for each mutant would take days. This builds the
changed programs in a copy of the tree, target/mutants, and has tests that are built already run them, one after the
other until one fails.

OPTION is what chooses mutants in `cargo mutants --list`, such as `-f cstor-proto/src/ids.rs` or `--re Staging`. TEST is
a file in tests/tests/*/. Before: cargo test --workspace --no-run; tests/lab.sh up. A test has TIMEOUT seconds (300).

    tests/mutants.py -f 'cstor-helper/**' -- protocol confinement claims helper_death
"""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
BUILT = Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target"))
COPY = BUILT / "mutants"
TIMEOUT = int(os.environ.get("TIMEOUT", "300"))


def output(*command, **options):
    return subprocess.run(command, cwd=ROOT, check=True, stdout=subprocess.PIPE, text=True, **options).stdout


def executable(test):
    """What cargo built last of the group that the test belongs to, and the names of its functions."""
    files = list((ROOT / "tests/tests").glob(f"*/{test}.rs"))
    if len(files) != 1:
        sys.exit(f"{test}: no such file in tests/tests/*/")
    group = files[0].parent.name
    name = re.compile(rf"{group}-[0-9a-f]{{16}}")
    built = [path for path in (BUILT / "debug/deps").glob(f"{group}-*") if name.fullmatch(path.name)]
    if not built:
        sys.exit(f"{group}: not built: cargo test --workspace --no-run")
    return [max(built, key=lambda path: path.stat().st_mtime), f"{test}::"]


def verdict(tests, environment):
    for test, program in tests:
        try:
            ended = subprocess.run(
                [*program, "--quiet"], cwd=ROOT / "tests", env=environment, timeout=TIMEOUT,
                stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
            )
        except subprocess.TimeoutExpired:
            return f"killed by {test}, which waited"
        if ended.returncode:
            return f"killed by {test}"
    return "SURVIVED"


def main():
    if "--" not in sys.argv:
        sys.exit(__doc__)
    split = sys.argv.index("--")
    mutants = json.loads(output("cargo", "mutants", "--list", "--json", "--diff", *sys.argv[1:split]))
    tests = [(test, executable(test)) for test in sys.argv[split + 1:]]
    COPY.mkdir(parents=True, exist_ok=True)
    output("sh", "-c", f"git ls-files -z | xargs -0 cp --parents -t '{COPY}'")
    plain = {"CARGO_PROFILE_DEV_OPT_LEVEL": "0", "CARGO_PROFILE_DEV_DEBUG": "0"}
    build = dict(os.environ, CARGO_TARGET_DIR=str(COPY / "target"), **plain)
    lab = dict(line.split("=", 1) for line in output(ROOT / "tests/lab.sh", "env").splitlines())
    where = {"CSTOR_BIN_DIR": str(COPY / "target/debug"), "CARGO_MANIFEST_DIR": str(ROOT / "tests")}
    environment = dict(os.environ, CSTOR_REQUIRE_ALL="1", **where, **lab)

    def built():
        command = ["cargo", "build", "-q", "--workspace", "--bins"]
        return subprocess.run(command, cwd=COPY, env=build, capture_output=True).returncode == 0

    if not built() or verdict(tests, environment) != "SURVIVED":
        sys.exit("the tree as it is does not pass these tests")
    survived = 0
    for mutant in mutants:
        changed = COPY / mutant["file"]
        before = changed.read_bytes()
        subprocess.run(["patch", "-sp0"], cwd=COPY, input=mutant["diff"], check=True, text=True)
        became = verdict(tests, environment) if built() else "does not compile"
        changed.write_bytes(before)
        survived += became == "SURVIVED"
        print(f"{became}: {mutant['name']}", flush=True)
    print(f"{survived} of {len(mutants)} survived")


main()
