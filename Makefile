# The two commands of a new user are `make demo` and `make test`; CONTRIBUTING.md tells when to use the others.
SHELL := bash
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
export OMP_NUM_THREADS ?= 1

.PHONY: demo test check lint quick slow browser bench docs clean

demo: $(READY)
	@$(BIN)/dropkit study digits --out runs/digits
	@echo "Open runs/digits/report.html in a browser."

test: lint quick slow browser docs

check: lint quick

lint: $(READY)
	$(BIN)/ruff check src tests benchmarks scripts docs
	$(BIN)/mypy

quick: $(READY)
	$(BIN)/pytest -q -n 2 -m "not slow and not browser"

slow: $(READY)
	$(BIN)/pytest -q -n 2 -m "slow"

browser: $(READY)
	@bash scripts/browser.sh
	$(BIN)/pytest -q -m "browser"

bench: $(READY)
	$(BIN)/python benchmarks/run.py

docs: $(READY)
	$(BIN)/python scripts/docs.py
	$(BIN)/sphinx-build -q -W -b html docs site

# Made again only when what it is made from has changed.
$(READY): pyproject.toml constraints.txt setup.py scripts/setup.sh $(wildcard src/dropkit/kernels/native/*/*)
	@bash scripts/setup.sh $(VENV)
	@touch $@

clean:
	rm -rf $(VENV) site build .mypy_cache .ruff_cache .pytest_cache .hypothesis src/*.egg-info
