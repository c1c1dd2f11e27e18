# One command a question, the same here and in CI. Needs Python 3.10 to 3.13, make and a C++17 compiler.
PYTHON ?= python3
JOBS ?= 2
BIN := .venv/bin
SOURCES := $(shell find targets codegen CMakeLists.txt -name '*.cc' -o -name '*.h' -o -name 'CMakeLists.txt')

.PHONY: demo test test-all lint docs format clean

demo: .venv/installed  ## compile the demo network and run its images on the simulated accelerator
	$(BIN)/python tutorials/01_first_network.py

test: .venv/installed  ## the default suite
	$(BIN)/python -m pytest -n $(JOBS) -m "not slow"

test-all: .venv/installed  ## whole networks and long searches, after `make test`
	$(BIN)/python -m pytest -n $(JOBS) -m slow

lint: .venv/installed  ## style and types
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

docs: .venv/installed  ## the site in build/docs, tutorials executed
	$(BIN)/python -m pip install --quiet --editable '.[docs]'
	$(BIN)/python -m tilewright.docs build/docs

format: .venv/installed
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

.venv/installed: pyproject.toml $(SOURCES)
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet --editable '.[dev]'
	touch $@

clean:
	rm -rf .venv build dist
