# Everything runs from a virtual environment of its own, .venv, made from pinned versions by the first target that needs it.
PYTHON ?= python3.11
# PyPI's Linux build of torch brings CUDA. README, "Install" says how to take another build.
TORCH ?= torch==2.13.0
RUN = .venv/bin/python -m

.PHONY: demo test check clean

demo: .venv/installed  ## the whole loop on one machine: [DATA=transactions] [PORT=8000] [EXIT=1]
	$(RUN) serve.demo $(if $(DATA),--data "$(DATA)") $(if $(PORT),--port $(PORT)) $(if $(EXIT),--exit)

test: .venv/installed  ## the test suite
	$(RUN) pytest

check: .venv/installed  ## format, lint, types, import contracts
	$(RUN) ruff format --check .
	$(RUN) ruff check .
	$(RUN) mypy
	.venv/bin/lint-imports

clean:  ## forget the virtual environment; what runs have written under var/ stays
	rm -rf .venv

.venv/installed: pyproject.toml .constraints.txt
	$(PYTHON) -m venv .venv
	$(RUN) pip install --quiet --upgrade pip==26.3
	$(RUN) pip install --quiet --group runtime --group dev --constraint .constraints.txt "$(TORCH)"
	touch $@
