#!/usr/bin/env python3
"""deny.py: the crates of Cargo.lock against .deny.toml: licences, sources, wildcards.

What `cargo deny check bans licenses sources` checks, for machines where building cargo-deny would take longer than all
other checks. It knows the keys that .deny.toml uses and refuses others. Advisories need a database from GitHub:
`make interop` has cargo-deny check them.
"""

import json
import re
import subprocess
import sys
import tomllib
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
CRATES_IO = "registry+https://github.com/rust-lang/crates.io-index"
KNOWN = {
    "graph": {"targets", "all-features"},
    "advisories": {"yanked"},
    "licenses": {"confidence-threshold", "allow"},
    "bans": {"multiple-versions", "wildcards", "allow-wildcard-paths"},
    "sources": {"unknown-registry", "unknown-git"},
}


def cargo(*arguments):
    return subprocess.run(
        ["cargo", *arguments, "--locked"], cwd=ROOT, check=True, stdout=subprocess.PIPE, text=True
    ).stdout


def allowed(expression, allow):
    """Whether an SPDX expression can be met by the allowed licences alone. A licence with an exception is another one."""
    words = re.findall(r"[()]|[^\s()/]+", expression.replace("/", " OR "))

    def one():
        word = words.pop(0)
        if word == "(":
            value = either()
            words.pop(0)
            return value
        if words[:1] == ["WITH"]:
            word = " ".join([word, words.pop(0), words.pop(0)])
        return word in allow

    def both():
        value = one()
        while words[:1] == ["AND"]:
            words.pop(0)
            value = one() and value
        return value

    def either():
        value = both()
        while words[:1] == ["OR"]:
            words.pop(0)
            value = both() or value
        return value

    return either()


def main():
    rules = tomllib.loads((ROOT / ".deny.toml").read_text())
    wrong = [f".deny.toml: {table}.{key}: deny.py does not know it"
             for table in rules for key in rules[table] if key not in KNOWN.get(table, ())]
    targets = [f"--filter-platform={target}" for target in rules["graph"]["targets"]]
    allow, used = set(rules["licenses"]["allow"]), {}
    for target in targets:
        found = json.loads(cargo("metadata", "--format-version=1", "--all-features", target))
        members = set(found["workspace_members"])
        reached = {node["id"] for node in found["resolve"]["nodes"]}
        for package in found["packages"]:
            if package["id"] not in reached:
                continue
            name = f"{package['name']} {package['version']}"
            used[name] = package["name"]
            if not allowed(package["license"] or "none", allow):
                wrong.append(f"{name}: licence {package['license']}")
            if package["id"] in members:
                wrong += [f"{name}: {needed['name']}: wildcard" for needed in package["dependencies"]
                          if needed["req"] == "*" and not needed.get("path")]
            elif package["source"] != CRATES_IO:
                wrong.append(f"{name}: from {package['source']}")
    for line in sorted(set(wrong)):
        print(f"deny.py: {line}", file=sys.stderr)
    twice = {name for name in used.values() if list(used.values()).count(name) > 1}
    print(f"deny.py: {len(used)} crates, {len(set(wrong))} wrong; in several versions: {', '.join(sorted(twice))}")
    sys.exit(bool(wrong))


assert allowed("MIT OR Apache-2.0", {"MIT"}) and not allowed("MIT AND (GPL-2.0 OR Zlib)", {"MIT"})
assert allowed("Unlicense/MIT", {"MIT"}) and not allowed("Apache-2.0 WITH LLVM-exception", {"Apache-2.0"})
main()
