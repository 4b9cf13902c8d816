# Every check and every command of the repository. `make help` lists them.
SHELL := /bin/bash
PY := .venv/bin/python
CACHE := $(or $(KEELAGE_CACHE),$(HOME)/.cache/keelage)
export PYTHONPATH := dev
export PYTHONDONTWRITEBYTECODE := 1

.PHONY: help bench soak check test simulate worlds search mutants test-sdk test-suites test-cluster demo demo-down try generate lock chaos scale

help: ## list the targets
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 16

# The packages that the lock file pins, in an environment of this checkout.
.venv/READY: lock/dev.txt pyproject.toml dev/install.sh
	@dev/install.sh lock/dev.txt
	@touch $@

generate: .venv/READY ## write what comes from the models: crds/, the chart's copies, docs/reference
	@$(PY) -m keelage_api.v1alpha1.schema write
	@$(PY) -m keelage_api.v1alpha1.reference write
	@$(PY) -m keelage_dev.chart write

lock: ## resolve the dependencies anew
	@dev/lock.sh

check: .venv/READY ## format, lint, types, import contracts, generated files, unit and property tests: under two minutes
	@.venv/bin/ruff format --check -q .
	@.venv/bin/ruff check -q .
	@.venv/bin/lint-imports --no-cache > .venv/imports.log || { cat .venv/imports.log; exit 1; }
	@.venv/bin/mypy --no-error-summary
	@.venv/bin/pytest -q -n 2 -m "not cluster and not sdk" tests

test: check worlds test-sdk test-cluster ## everything, unit to cluster; brings up what it needs, takes it down again

simulate: .venv/READY ## the money in worlds where everything goes wrong: WORLDS=1000 SEED=0 KIND=faulty|calm|node lost|rates, TO=FILE to go on from
	@$(PY) -m tests.simulation $(or $(WORLDS),1000) $(or $(SEED),0) $(if $(KIND),--kind "$(KIND)") $(if $(TO),--to "$(TO)")

worlds: .venv/READY ## 2,000 such worlds, in three minutes
	@$(PY) -m tests.simulation 2000 10000

search: .venv/READY ## every order of events in small scopes; one of your own: SCOPE="HOLDERS LIMIT FAULTS WORDS VALUED"
	@$(PY) -m tests.simulation.search $(SCOPE)

mutants: .venv/READY ## take away the guards of the money one by one: a test must fail each time
	@$(PY) -m keelage_dev.mutants

bench: .venv/READY ## keelage and its peers in one run, as ratios: ARGS="--rounds 3 --seconds 2.5 --only nginx,keelage"
	@$(PY) -m keelage_dev.bench $(ARGS)

soak: .venv/READY ## many calls through one sidecar: flat memory, exact counters: REQUESTS=200000
	@$(PY) -m keelage_dev.soak --requests $(or $(REQUESTS),200000)

test-sdk: .venv/READY ## the official SDKs of several versions, straight and through the sidecar
	@.venv/bin/pytest -q -n 2 -m sdk tests/sdk

test-suites: .venv/READY ## the SDKs' own tests, Anthropic's of streams and OpenAI's, without and through the sidecar; needs npm
	@$(PY) -m tests.sdk.suites

test-cluster: .venv/READY ## the chart on a real cluster (KEEP=1 leaves it up)
	@$(PY) -m keelage_dev.cluster up
	@$(PY) -m keelage_dev.images
	@status=0; .venv/bin/pytest -q -m cluster tests/cluster || status=$$?; \
	  [ -n "$(KEEP)" ] || $(PY) -m keelage_dev.cluster down; exit $$status

chaos: .venv/READY ## everything is killed, stopped and cut off under load: SECONDS=300 SEED=7
	@$(PY) -m keelage_dev.cluster up
	@status=0; CHAOS_S=$(or $(SECONDS),300) CHAOS_SEED=$(SEED) .venv/bin/pytest -q -s -m cluster tests/cluster/test_chaos.py \
	  || status=$$?; [ -n "$(KEEP)" ] || $(PY) -m keelage_dev.cluster down; exit $$status

scale: .venv/READY ## how many sidecars and budgets one operator serves: SIDECARS=1000 SECONDS=60
	@$(PY) -m keelage_dev.cluster up
	@status=0; $(PY) -m keelage_dev.scale --sidecars $(or $(SIDECARS),1000) --seconds $(or $(SECONDS),60) \
	  || status=$$?; [ -n "$(KEEP)" ] || $(PY) -m keelage_dev.cluster down; exit $$status

demo: .venv/READY ## the main job, on a real cluster that it brings up by itself
	@$(PY) -m keelage_dev.demo

demo-down: .venv/READY ## leave nothing of the demo behind
	@$(PY) -m keelage_dev.demo --down

try: .venv/READY ## keelage on this machine against the bundled fake provider
	@$(PY) -m keelage_dev.tryout
