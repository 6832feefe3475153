# make quickstart and make test are all that a newcomer needs; each sets up .venv first.
PYTHON ?= python3
BIN := .venv/bin
SOURCES := src tests benchmarks
SEED ?= 0
SYSTEM ?= icr
KILLS ?= 200

.PHONY: quickstart test check bench faults audit sbom format clean

quickstart: .venv/installed
	$(BIN)/polypref quickstart --system $(SYSTEM) --seed $(SEED)

test: .venv/installed-dev
	$(BIN)/python -m pytest -n 2

check: .venv/installed-dev
	$(BIN)/ruff check $(SOURCES)
	$(BIN)/ruff format --check $(SOURCES)
	$(BIN)/lint-imports
	$(BIN)/mypy
	$(MAKE) test

# About an hour on two idle cores; PARTS names some of the parts alone. The tables go into benchmarks/README.md.
bench: .venv/installed-dev
	$(BIN)/python benchmarks/run.py $(PARTS)

# Hours: every test that is marked as long, and what of the faults and of hostile input is not. The outcome is written
# into docs/reliability.md, also when something failed.
faults: export POLYPREF_TABLE := $(abspath runs/faults.jsonl)
faults: .venv/installed-dev
	mkdir -p runs
	rm -f $(POLYPREF_TABLE)
	failed=0; \
	$(BIN)/python -m pytest -m faults || failed=1; \
	$(BIN)/python -m pytest tests/faults tests/hostile || failed=1; \
	PYTHONPATH=tests $(BIN)/python -m faults.kills --kills $(KILLS) --seed $(SEED) || failed=1; \
	PYTHONPATH=tests $(BIN)/python -m faults.table $(POLYPREF_TABLE) docs/reliability.md || failed=1; \
	exit $$failed

# What is known against the locked parts, by the advisories of the package index: needs the network.
audit: .venv/audit/installed
	.venv/audit/bin/pip-audit --strict --no-deps --disable-pip -r constraints.txt

sbom: .venv/audit/installed
	mkdir -p dist
	.venv/audit/bin/cyclonedx-py requirements constraints.txt --pyproject pyproject.toml --mc-type library \
	  --output-reproducible --of JSON -o dist/sbom.cdx.json

# In an environment of their own: what they bring is no part of polypref.
.venv/audit/installed: constraints-audit.txt | .venv/bin/python
	$(BIN)/python -m venv .venv/audit
	.venv/audit/bin/python -m pip install --quiet --disable-pip-version-check -r constraints-audit.txt
	touch $@

format: .venv/installed-dev
	$(BIN)/ruff format $(SOURCES)
	$(BIN)/ruff check --fix $(SOURCES)

.venv/bin/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "polypref needs Python 3.11 or newer; name one with: make PYTHON=python3.12 $(MAKECMDGOALS)"; exit 2; }
	$(PYTHON) -m venv .venv

.venv/installed: pyproject.toml constraints.txt | .venv/bin/python
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e .
	touch $@

.venv/installed-dev: pyproject.toml constraints.txt | .venv/bin/python
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev]'
	touch $@ .venv/installed

clean:
	rm -rf .venv runs build dist .pytest_cache .mypy_cache .ruff_cache .import_linter_cache .hypothesis
