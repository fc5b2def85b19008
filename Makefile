# What people type. Everything else is plain cargo; docs/contributing.md says more.
SHELL := /bin/bash
.PHONY: demo test lab lab-down t interop

# Extracts a small image as a plain user and shows the result; leaves nothing behind.
demo:
	cargo build --locked --workspace --bins
	tests/demo.sh

# Every test. As root it installs the packages that are missing, and sets up a lab and takes it down again; otherwise the
# tests that need it skip. The last line says whether all passed and how many skipped.
test:
	tests/all.sh

# A lab for the commands below, which stands until `make lab-down`. Root only.
lab:
	tests/packages.sh
	cargo build --locked --workspace --bins
	tests/lab.sh up

lab-down:
	tests/lab.sh down

# One test by its name, a part of it, or the name of its file: make t T=a_file_of_another_id
t:
	@tests/one.sh "$(T)"

# What takes hours or needs other programs: other podmans, long fuzzing, mutants. Before an issue is resolved.
interop:
	tests/interop.sh
