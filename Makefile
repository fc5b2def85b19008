# The two commands of the README. Everything else is plain cargo.
SHELL := /bin/bash
.PHONY: demo test test-as-plain-user

# Extracts a small image as a plain user and shows the result; leaves nothing behind.
demo:
	cargo build --workspace --bins
	tests/demo.sh

# Every test. As root on a machine with podman a lab is set up and taken down again; otherwise the tests that need it
# say that they skip. Root runs the unit tests a second time as a plain user, see tests/plain.sh.
test:
	cargo build --workspace --bins
	tests/lab.sh run cargo test --workspace --no-fail-fast
	if [ "$$(id -u)" = 0 ]; then $(MAKE) test-as-plain-user; fi

# Skipped: with few descriptors the kernel lets only root have so many in flight (ETOOMANYREFS, net/unix/scm.c).
test-as-plain-user:
	cargo test -p cstor-proto -p cstor-helper -p cstor-client --lib --bins --no-fail-fast \
	  --config 'target."cfg(unix)".runner = "$(CURDIR)/tests/plain.sh"' \
	  -- --skip descriptors_that_do_not_fit_are_asked_for_again
