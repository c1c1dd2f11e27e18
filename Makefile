# One command a question, the same here and in CI. Needs Python 3.10 to 3.13, make and a C++17 compiler.
PYTHON ?= python3
JOBS ?= 2
CASES ?= 10000
BIN := .venv/bin
export PATH := $(CURDIR)/$(BIN):$(PATH)
SOURCES := $(shell find targets codegen CMakeLists.txt -name '*.cc' -o -name '*.h' -o -name 'CMakeLists.txt')

.PHONY: demo test test-all lint docs format fuzz sanitize coverage cross clean

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

fuzz: .venv/installed  ## damage CASES packages and run them under sanitizers
	$(BIN)/python -m tests.runtime.fuzz $(CASES)

sanitize: .venv/installed  ## tests of simulators and runtime under sanitizers: memory, undefined behaviour, data races
	$(BIN)/python -m tests.sanitize memory -n $(JOBS)
	$(BIN)/python -m tests.sanitize threads -n $(JOBS)

coverage: .venv/installed  ## lines of Python and C++ that the default suite runs, in percent
	$(BIN)/python -m pip install --quiet --editable '.[coverage]'
	$(BIN)/python -m pip install --quiet --no-deps --upgrade --target build/coverage \
		-C build-dir=build/coverage-objects -C cmake.define.TILEWRIGHT_COVERAGE=ON .
	find build/coverage-objects -name '*.gcda' -delete
	PYTHONPATH=python:build/coverage $(BIN)/python -m coverage run -m pytest -n $(JOBS) -m "not slow"
	$(BIN)/python -m coverage combine --quiet
	$(BIN)/python -m coverage report --skip-covered --sort=cover --fail-under=90
	$(BIN)/python -m gcovr --root . --merge-lines --fail-under-line 90 --gcov-ignore-errors no_working_dir_found --filter targets --filter codegen build/coverage-objects

cross: .venv/installed  ## what boards need, built for both Arms, and TVM's libraries for aarch64 (downloaded)
	$(BIN)/python -m tilewright.runtime.cross build aarch64
	$(BIN)/python -m tilewright.runtime.cross build armv7
	$(BIN)/python -m tilewright.runtime.cross fetch aarch64

.venv/installed: pyproject.toml $(SOURCES)
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet --editable '.[dev]'
	touch $@

clean:
	rm -rf .venv build dist
