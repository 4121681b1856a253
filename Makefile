# Everything runs from a virtual environment of its own, .venv, made from pinned versions by the first target that needs it.
PYTHON ?= python3.11
# PyPI's Linux build of torch brings CUDA. README, "Install" says how to take another build.
TORCH ?= torch==2.13.0
RUN = .venv/bin/python -m
# Two at a time, the tests of a file one after the other: they share what it has started.
TOGETHER = --numprocesses 2 --dist loadfile

.PHONY: demo test unit check clean

demo: .venv/installed  ## the whole loop on one machine: [DATA=transactions] [PORT=8000] [EXIT=1]
	$(RUN) serve.demo $(if $(DATA),--data "$(DATA)") $(if $(PORT),--port $(PORT)) $(if $(EXIT),--exit)

test: .venv/installed  ## the test suite, but for what is marked slow; services have the machine to themselves
	$(RUN) pytest $(TOGETHER) tests/unit tests/learning
	$(RUN) pytest tests/cluster tests/loop

unit: .venv/installed  ## the tests that need neither Ray nor another process
	$(RUN) pytest $(TOGETHER) -m "not slow and not heavy" tests/unit

check: .venv/installed  ## format, lint, types, walls; then `unit`
	$(RUN) ruff format --check .
	$(RUN) ruff check .
	$(RUN) mypy
	.venv/bin/lint-imports
	$(MAKE) --no-print-directory unit

clean:  ## forget the virtual environment; what runs have written under var/ stays
	rm -rf .venv

.venv/installed: pyproject.toml .constraints.txt
	$(PYTHON) -m venv .venv
	$(RUN) pip install --quiet --upgrade pip==26.3
	$(RUN) pip install --quiet --group runtime --group dev --constraint .constraints.txt "$(TORCH)"
	touch $@
