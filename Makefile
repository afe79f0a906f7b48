# Two commands to know: `make demo` plays the tour, `make test` runs the tests.
# Both make .venv themselves and need Python 3.11+ (with venv) and OpenSSH's client.

PYTHON ?= python3
VENV   ?= .venv
BIN    := $(VENV)/bin
STAMP  := $(VENV)/.installed

.PHONY: help venv demo test test-long check lock clean

help:
	@echo "make demo       play the tour: a database, an issuer and a gateway, on this machine"
	@echo "make test       all tests, at most 15 minutes"
	@echo "make test-long  the unbounded share of the fuzz and kill loops"
	@echo "make check      ruff, mypy --strict, import-linter"
	@echo "make venv       only install; make lock renews requirements.lock; make clean removes .venv"

venv: $(STAMP)

$(STAMP): requirements.lock pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements.lock
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e .
	@touch $@

demo: venv
	$(BIN)/tollhouse demo --tour

test: venv check
	$(BIN)/python -m pytest -m "not long"

test-long: venv
	$(BIN)/python -m pytest -m long

check: venv
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

# The extras name the package itself, which a lock must not hold; it names no index either.
lock: $(STAMP)
	$(BIN)/pip-compile --quiet --generate-hashes --strip-extras --unsafe-package tollhouse \
	    --no-emit-index-url --no-emit-find-links --no-emit-trusted-host --no-header \
	    --extra dev -o requirements.lock pyproject.toml
	@sed -i '/^# WARNING: The following/,$$d' requirements.lock

clean:
	rm -rf $(VENV)
