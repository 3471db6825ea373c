# Everything runs in a virtual environment of its own; the first target sets it up.
#   make demo PYTHON=python3.12      another Python, 3.11 or newer
#   make test ARGS="-k config -x"    arguments for pytest
PYTHON ?= python3
VENV ?= .venv
RUN ?= runs/demo
ARGS ?=

IN := $(VENV)/bin/python
READY := $(VENV)/.ready

.DEFAULT_GOAL := help
.PHONY: help demo test test-slow lint clean

help:
	@echo "make demo       train a small VL-BERT on a made world and show what it learned"
	@echo "make test       all tests but the slow ones"
	@echo "make test-slow  the slow tests"
	@echo "make lint       format and lint, changing nothing"
	@echo "make clean      remove the virtual environment and caches; runs/ stays"

$(READY): pyproject.toml requirements.txt
	@$(PYTHON) -c 'import sys; v = sys.version_info; sys.exit(0 if v >= (3, 11) else "Python 3.11 or newer is needed, $(PYTHON) is %d.%d: make PYTHON=python3.12" % (v[0], v[1]))'
	@echo "setting up $(VENV) with $$($(PYTHON) --version) (once, about 1 GB)"
	@$(PYTHON) -m venv --clear $(VENV)
	@$(IN) -m pip install --quiet --editable '.[dev]'
	@touch $@

demo: $(READY)
	$(IN) -m vlbert_jax.main --config=configs/demo.py --workdir=$(RUN)
	$(IN) -m vlbert_jax.report.demo $(RUN)

test: $(READY)
	$(IN) -m pytest -n 2 $(ARGS)

test-slow: $(READY)
	$(IN) -m pytest -m slow $(ARGS)

lint: $(READY)
	$(IN) -m ruff format --check
	$(IN) -m ruff check

clean:
	rm -rf $(VENV) *.egg-info build .pytest_cache .ruff_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
