# Two commands do everything, set-up included: `make quickstart` and `make test`.
# .venv is made from the first of PYTHONS that is 3.11, 3.12 or 3.13; `make PYTHON=/path/to/python …` names one.
PYTHON ?=
PYTHONS := $(or $(PYTHON),python3 python3.13 python3.12 python3.11)
SUPPORTED := import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))
# `make UV= …` installs by pip where uv is on the path, too.
UV := $(shell command -v uv)
VENV := .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed
# Their warnings are no concern of whoever calls `make`: of the user root, of a newer pip.
INSTALL := $(if $(UV),$(UV) pip install --quiet --python $(BIN)/python,$(BIN)/pip install --quiet --quiet)
SIZE := 6 GB, most of it torch's CUDA build, which runs on a CPU, too
# pytest's workers: one a core, of at most eight, since each trains the fixtures that its tests need; and so
# torch has one thread in each: more of them wait for each other. A file's tests stay together, or each worker
# would train what they share, and start NNI for it.
SIDE_BY_SIDE := -n logical --maxprocesses 8 --dist loadfile

.PHONY: quickstart test test-slow test-elsewhere lint benchmarks clean python

quickstart: $(INSTALLED)
	@$(BIN)/detnas quickstart $(if $(PORT),--port $(PORT)) $(if $(THREADS),--threads $(THREADS))

test: lint
	OMP_NUM_THREADS=1 $(BIN)/pytest -m "not slow" $(SIDE_BY_SIDE)

test-slow: lint
	$(BIN)/pytest -m slow

# Hours on two cores: as other processors, other seeds and a busy machine would run the tests.
test-elsewhere: lint
	$(BIN)/python -m tests.elsewhere $(SIDE_BY_SIDE)

lint: $(INSTALLED)
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/lint-imports --no-logo
	$(BIN)/deptry .
	$(BIN)/python -m search_spaces --check
	$(BIN)/python -m docs.generate --check
	$(BIN)/python -m benchmarks.evidence page --check

# Half an hour on two cores that do nothing else; `$(BIN)/python -m benchmarks --only ap` runs one.
benchmarks: $(INSTALLED)
	$(BIN)/python -m benchmarks

$(INSTALLED): requirements.txt pyproject.toml
	@python=$$($(MAKE) --no-print-directory --silent python) && \
	echo "Installing what requirements.txt names into $(CURDIR)/$(VENV), for $$($$python --version), by" \
		"$(if $(UV),uv,pip): $(SIZE)" && \
	$$python -m venv $(VENV)
	@$(INSTALL) -r requirements.txt
	@$(INSTALL) --no-deps -e .
	@$(BIN)/detnas doctor --close-nni
	@touch $@

# Prints the interpreter that .venv is made from.
python:
	@for python in $(PYTHONS); do \
		if "$$python" -c '$(SUPPORTED)' 2>/dev/null; then command -v "$$python"; exit; fi; \
	done; \
	echo "Python 3.11, 3.12 or 3.13 is needed, and none of these is one: $(PYTHONS). 3.14 cannot run NNI 3.0, whose" \
		"typeguard below 4.1.3 imports ast.Str, which 3.14 has no more. Install another, or name one:" \
		"make PYTHON=/path/to/python3.13 …" >&2; \
	exit 1

clean:
	rm -rf $(VENV) runs .pytest_cache .ruff_cache .import_linter_cache *.egg-info
