# make demo           the trained network and its index in the browser; PORT=… for another port
# make test           every gate: ruff, mypy, import-linter, pytest
# make bench          the benchmarks, each against its peers; the report is benchmarks.md
# make install        .venv with everything

PYTHON ?= $(shell for p in python3.13 python3.12 python3.11 python3; do \
	$$p -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo $$p && break; done)
VENV := .venv
BIN := $(VENV)/bin
PORT ?= 8000
DATA_DIR ?= .demo
PIP := $(BIN)/python -m pip --disable-pip-version-check
DESCRIPTION := pyproject.toml constraints.txt

.PHONY: install demo test lint types imports browser postgres pytest lowest bench wheel clean

install: $(VENV)/installed-test

demo: $(VENV)/installed-demo
	$(BIN)/deconvnet demo --data-dir $(DATA_DIR) --port $(PORT)

test: lint types imports browser postgres pytest lowest

lint: $(VENV)/installed-test
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(VENV)/installed-test
	$(BIN)/mypy

imports: $(VENV)/installed-test
	$(BIN)/lint-imports

browser: $(VENV)/installed-test
	$(BIN)/python -m tests.support.chromium

postgres: $(VENV)/installed-test
	$(BIN)/python -m tests.support.postgres

# Two at a time, a core each; those that start servers, clusters or browsers have both cores.
pytest: $(VENV)/installed-test
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 --dist worksteal -m 'not slow and not alone'
	$(BIN)/python -m pytest -m 'alone and not slow'

lowest: $(VENV)/installed-test
	$(BIN)/python -m tests.support.lowest

bench: $(VENV)/installed-test
	$(BIN)/python -m benchmarks

wheel: $(VENV)/installed-test
	$(BIN)/python -m build --wheel --no-isolation --outdir dist

clean:
	rm -rf dist build .mypy_cache .pytest_cache .ruff_cache .import_linter_cache .hypothesis

$(BIN)/python:
	@test -n "$(PYTHON)" || { echo "deconvnet needs Python 3.11 or newer; give PYTHON=…" >&2; exit 2; }
	$(PYTHON) -m venv $(VENV)

$(VENV)/installed-demo: $(DESCRIPTION) | $(BIN)/python
	$(PIP) install -q -c constraints.txt -e '.[demo]'
	@touch $@

$(VENV)/installed-test: $(DESCRIPTION) | $(BIN)/python
	$(PIP) install -q -c constraints.txt -e '.[demo,test]'
	@touch $(VENV)/installed-demo $@
