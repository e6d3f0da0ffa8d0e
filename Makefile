# `make demo` and `make test` share one virtual environment, made by whichever runs first.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin

.PHONY: demo test test-long lint clean

demo: $(VENV)/.ready
	$(BIN)/python examples/demo.py

test: $(VENV)/.ready
	$(BIN)/python -m pytest -n 2 -m "not slow and not long"

# Whole trainings and other tests that take longer.
test-long: $(VENV)/.ready
	$(BIN)/python -m pytest -n 2 -m "long and not slow"

lint: $(VENV)/.ready
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

# The two targets may be started at once: the first holds the lock, the other waits.
$(VENV)/.ready: pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit("supertickets needs Python 3.11 or newer; try: make demo PYTHON=python3.12") if sys.version_info < (3, 11) else None'
	@echo "Installing into $(VENV) (PyTorch is large: a few minutes) ..."
	@$(PYTHON) -c 'import fcntl, subprocess, sys; lock = open(".venv.lock", "w"); fcntl.flock(lock, fcntl.LOCK_EX); sys.exit(subprocess.call(sys.argv[1:]))' \
		sh -c '[ -e $@ ] && [ $@ -nt pyproject.toml ] || { $(PYTHON) -m venv $(VENV) && $(BIN)/python -m pip install --quiet --disable-pip-version-check -e ".[dev]" && touch $@; }'

clean:
	rm -rf $(VENV) .venv.lock runs .pytest_cache .mypy_cache .ruff_cache .hypothesis
