# The two commands of the README. Everything else is plain cargo.
SHELL := /bin/bash
.PHONY: demo test

# Extracts a small image as a plain user and shows the result; leaves nothing behind.
demo:
	cargo build --workspace --bins
	tests/demo.sh

# Every test. As root on a machine with podman a lab is set up and taken down again; otherwise the tests that need it
# say that they skip.
test:
	cargo build --workspace --bins
	tests/lab.sh run cargo test --workspace --no-fail-fast
