# Everything runs from a virtual environment of its own, .venv, made from pinned versions by the first target that needs it.
PYTHON ?= python3.11
# PyPI's Linux build of torch brings CUDA. README, "Install" says how to take another build.
TORCH ?= torch==2.13.0
# Groups of pyproject.toml's dependencies to install: a cluster's nodes need no tools of developers.
PARTS ?= runtime dev
RUN = .venv/bin/python -m
# Two at a time, the tests of a file one after the other: they share what it has started. In the order given, long files
# first: one that is left to the end keeps a processor idle.
TOGETHER = --numprocesses 2 --dist loadfile --no-loadscope-reorder

.PHONY: demo test slow cluster unit lint check bill audit clean

demo: .venv/installed  ## the whole loop on one machine: [DATA=transactions] [PORT=8000] [EXIT=1]
	$(RUN) serve.demo $(if $(DATA),--data "$(DATA)") $(if $(PORT),--port $(PORT)) $(if $(EXIT),--exit)

test: .venv/installed  ## the test suite, but for what is marked slow; services have the machine to themselves
	$(RUN) pytest $(TOGETHER) tests/learning tests/loop tests/unit
	$(RUN) pytest tests/services tests/cluster

slow: .venv/installed  ## the tests that test leaves out: many seconds, or minutes
	$(RUN) pytest $(TOGETHER) -m slow tests/learning tests/loop tests/unit
	$(RUN) pytest -m slow tests/services tests/browser

cluster: .venv/installed  ## serve/CLUSTER.md as a test: three hosts on this machine, from ray up to ray down
	$(RUN) pytest -m slow tests/cluster

unit: .venv/installed  ## the tests that start neither Ray nor another process, and take less than a second
	$(RUN) pytest $(TOGETHER) -m "not slow and not heavy" tests/unit

lint: .venv/installed  ## format, lint, types, walls
	$(RUN) ruff format --check .
	$(RUN) ruff check .
	$(RUN) mypy
	.venv/bin/lint-imports

check: lint unit  ## both

bill: .venv/installed  ## what it is made of, as a CycloneDX bill of materials
	@$(RUN) tests.bill

audit: .venv/installed  ## known vulnerabilities of what it is made of, where PyPI's advisories can be reached
	@$(RUN) tests.audit

clean:  ## forget the virtual environment; what runs have written under var/ stays
	rm -rf .venv

.venv/installed: pyproject.toml .constraints.txt
	$(PYTHON) -m venv .venv
	$(RUN) pip install --quiet --upgrade pip==26.3
	$(RUN) pip install --quiet $(PARTS:%=--group %) --constraint .constraints.txt "$(TORCH)"
	touch $@
