# The two commands of the README: make quickstart, make test. PY chooses another Python (>= 3.11).
PY ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
SMALL := -c constraints.txt

.PHONY: install quickstart real test test-slow test-all lint clean

$(VENV)/installed: pyproject.toml constraints.txt
	$(PY) -c 'import sys; sys.exit("Fitra needs Python 3.11 or newer; try make PY=python3.12" if sys.version_info < (3, 11) else 0)'
	$(PY) -m venv $(VENV)
	$(BIN)/python -m pip install -q --disable-pip-version-check $(SMALL) torch
	$(BIN)/python -m pip install -q --disable-pip-version-check $(SMALL) -e '.[train,serve,web,crawl,hub,ray,dev]'
	touch $@

install: $(VENV)/installed

quickstart: $(VENV)/installed
	$(BIN)/fitra run recipes/quickstart.yaml

real: $(VENV)/installed
	@test -n "$(FITRA_DATA)" || { echo "error: set FITRA_DATA to the folder of the data: make real FITRA_DATA=..."; exit 1; }
	FITRA_DATA="$(FITRA_DATA)" $(BIN)/fitra run recipes/real-sample.yaml

lint: $(VENV)/installed
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

test: lint
	$(BIN)/python -m pytest -n 2 -m "not slow" --durations=8

test-slow: $(VENV)/installed
	$(BIN)/python -m pytest -m slow --durations=10

test-all: test test-slow

clean:
	rm -rf $(VENV) build dist *.egg-info
