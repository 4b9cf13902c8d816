# Every check and every command of the repository. `make help` lists them.
SHELL := /bin/bash
PY := .venv/bin/python
CACHE := $(or $(KEELAGE_CACHE),$(HOME)/.cache/keelage)
export PYTHONPATH := dev
export PYTHONDONTWRITEBYTECODE := 1

.PHONY: help check test demo demo-down lock generate

help: ## list the targets
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 16

# The packages that the lock file pins, in an environment of this checkout.
.venv/READY: lock/dev.txt pyproject.toml dev/install.sh
	@dev/install.sh lock/dev.txt
	@touch $@

lock: ## resolve the dependencies anew
	@dev/lock.sh

check: .venv/READY ## format, lint, types, import contracts, generated files, unit and property tests: under two minutes
	@.venv/bin/ruff format --check -q .
	@.venv/bin/ruff check -q .
	@.venv/bin/lint-imports --no-cache > .venv/imports.log || { cat .venv/imports.log; exit 1; }
	@.venv/bin/mypy --no-error-summary
	@.venv/bin/pytest -q -n 2 -m "not cluster and not sdk" tests
