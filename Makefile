# The Python to build on, where to put its virtual environment, and the port of `make run`.
PYTHON = python3
VENV = .venv
PORT = 8000

BIN = $(VENV)/bin
VERSION := $(shell $(PYTHON) -c 'import platform; print(platform.python_version())' 2>/dev/null)
# One empty file for each set of extras that is installed: renewed when setup.cfg changes.
EXAMPLE = $(VENV)/.installed-$(VERSION)-example
TEST = $(VENV)/.installed-$(VERSION)-test
# The example with a tool server, for which alone the MCP Python SDK is needed.
TOOLS = $(VENV)/.installed-$(VERSION)-example,example-mcp
BROWSER = $(VENV)/.installed-$(VERSION)-test,browser,example-mcp
QUEUE = $(VENV)/.installed-$(VERSION)-test,queue
DATABASES = $(VENV)/.installed-$(VERSION)-test,databases
BENCH = $(VENV)/.installed-$(VERSION)-test,bench
DEV = $(VENV)/.installed-$(VERSION)-test,dev
DOCS = $(VENV)/.installed-$(VERSION)-docs
RELEASE = $(VENV)/.installed-$(VERSION)-release

export PIP_DISABLE_PIP_VERSION_CHECK = 1
# Tests start dozens of processes, each of which would compile everything for itself.
unexport PYTHONDONTWRITEBYTECODE

help: ## this list
	@echo "make TARGET, where TARGET is one of"
	@sed -n 's/^\([a-z-]*\):.*## /  \1	/p' Makefile | expand -t 18
	@echo "Times are for two idle cores, without the installation, which takes a minute or two."
	@echo "PYTHON=python3.12 chooses another Python, PORT=8001 another port for make run."

demo: $(EXAMPLE) ## three ways to get a client, at a real server on this machine; 30 s
	@$(BIN)/python example_project/demo.py

demo-mcp: $(TOOLS) ## from an MCP server's address to a tool call, against real servers on this machine; 15 s
	@$(BIN)/python example_project/demo_mcp.py

run: $(TOOLS) ## the example site, to click through in a browser
	@$(BIN)/python example_project/manage.py run --port $(PORT)

test: $(TEST) ## the tests, with 100 % branch coverage required; 4 min
	@$(BIN)/python -m pytest -n auto --cov --cov-report=term

# Test files whose tables are shortened in `make test`.
TABLES = tests/test_admin_addresses.py tests/test_async.py tests/test_forbidden_addresses.py \
  tests/test_hostile_servers.py tests/test_leaks.py tests/test_services_management.py \
  tests/test_services_registration.py

test-all: test test-tables test-databases test-crash ## all tests in full size, also on PostgreSQL and MariaDB, which must be installed; 25 min

test-tables: $(TEST) ## every case of the tables that make test shortens, and 5,000 generated responses; 4 min
	@CASES=all $(BIN)/python -m pytest -n auto $(TABLES)
	@HYPOTHESIS_PROFILE=ci $(BIN)/python -m pytest -n auto tests/test_any_answer.py -k quickly

test-databases: $(DATABASES) ## the tests on PostgreSQL and MariaDB; 8 min
	@for database in postgresql mariadb; do \
	  echo "The tests on $$database"; \
	  $(BIN)/python -m tests.databases $$database sh -ec ' \
	    "$$0" -m pytest -n auto; \
	    HYPOTHESIS_PROFILE=ci "$$0" -m pytest -n auto tests/test_any_answer.py -k saved' \
	    $(BIN)/python || exit 1; \
	done

test-crash: $(DATABASES) ## the tests that kill processes, in full size, on each database; 10 min, mostly waiting
	@CRASH=full $(BIN)/python -m pytest -s tests/crash
	@for database in postgresql mariadb; do \
	  echo "Crashes on $$database"; \
	  CRASH=full $(BIN)/python -m tests.databases $$database \
	    $(BIN)/python -m pytest -s tests/crash || exit 1; \
	done

# The Python of `make lowest`: setup.cfg names the oldest.
LOWEST = $(PYTHON)

lowest: $(TEST) ## the tests with the lowest versions of the dependencies, installed with uv; LOWEST=python3.10 for another Python; 3 min
	@$(BIN)/pip install --quiet uv
	@$(LOWEST) -m venv --clear $(VENV)/lowest
	@# Of what the app itself needs, and no lower than what the tests need lets it be.
	@names=$$($(BIN)/uv pip compile --quiet --no-deps --no-header --no-annotate setup.cfg \
	  | cut -d= -f1 | paste -sd"|"); \
	  $(BIN)/uv pip compile --quiet --no-header --no-annotate --resolution lowest-direct \
	    --extra test --python $(VENV)/lowest/bin/python setup.cfg \
	  | grep -E "^($$names)==" | tee $(VENV)/lowest.txt
	@$(BIN)/uv pip install --quiet --python $(VENV)/lowest/bin/python \
	  --constraint $(VENV)/lowest.txt --editable ".[test]"
	@$(VENV)/lowest/bin/python -m pytest -n auto --ignore tests/crash

interop: $(TEST) ## a client's whole life at real servers, which it downloads; needs Node.js and Java; 5 min
	@$(BIN)/python -m pytest tests/interop -rs --write-table docs/servers.md

conformance: $(TEST) ## MCP's own conformance suite for clients, which it downloads; needs npm; 1 min
	@$(BIN)/python -m pytest tests/conformance --write-figure docs/mcp.md

# NAMES="hit register" measures some workloads only, in a minute; ROUNDS=1 is quicker still.
NAMES =
ROUNDS = 5

bench: $(BENCH) ## benchmarks against other clients; 40 min on an idle machine; NAMES="hit for_login" for some of them
	@$(BIN)/python -m tests.benchmarks $(NAMES) --rounds $(ROUNDS) --write docs/benchmarks.md

scale: $(EXAMPLE) ## calculate a day's load of a large site's database, workers and servers; writes docs/scale.md; 1 s
	@$(BIN)/python -m tests.benchmarks.simulation --measured docs/benchmarks.json --write docs/scale.md

queue: $(QUEUE) ## background jobs on real workers of Celery and of the database; needs redis-server; 2 min
	@$(BIN)/python -m pytest -s -rs tests/queue

browser: $(BROWSER) ## the admin, a login and a tool server in Chromium, which must be installed; SCREENSHOTS=FOLDER saves pictures; 4 min
	@$(BIN)/python -m pytest tests/browser/admin.py tests/browser/login.py tests/browser/tools.py tests/browser/markup.py tests/browser/unfold.py

docs: $(DOCS) ## the documentation as a site in build/docs; a warning is an error; 10 s
	@$(BIN)/sphinx-build -q -W --keep-going -b html docs build/docs
	@echo "Open build/docs/index.html"

reference: $(TEST) ## write the tables of docs/ that are generated from the code
	@DJANGO_SETTINGS_MODULE=tests.settings $(BIN)/python -m django shell -v 0 -c "from tests.reference import write; write()"

screenshots: $(BROWSER) ## the pictures of docs/screenshots, in Chromium; 3 min
	@$(BIN)/python -m pytest tests/browser/screenshots.py

release: $(RELEASE) ## build and check the distribution, and print the next step; 1 min
	@.ci/release $(BIN)

lint: $(DEV) ## style and formatting; 1 s
	@$(BIN)/ruff check
	@$(BIN)/ruff format --check

types: $(DEV) ## mypy and pyright, strict; 30 s
	@$(BIN)/mypy
	@$(BIN)/mypy --config-file tests/typing/plain.ini --cache-dir .mypy_cache/plain
	@$(BIN)/pyright --pythonpath $(BIN)/python tests/typing/site_code.py

check: lint types test ## lint, types, missing migrations and test; 5 min
	@DJANGO_SETTINGS_MODULE=tests.settings $(BIN)/python -m django makemigrations --check --dry-run

clean: ## remove what the other targets created, except the example's database and keys
	@rm -rf $(VENV) .tox .cache .*_cache .hypothesis .coverage* build dist *.egg-info
	@find . -name __pycache__ -prune -exec rm -r {} +

$(VENV)/.installed-$(VERSION)-%: setup.cfg pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 10))' 2>/dev/null || { \
	  echo "django-dcr needs Python 3.10 or newer; $(PYTHON) is $(or $(VERSION),not there)."; \
	  echo "Next step: name one that is new enough, as in  make $(MAKECMDGOALS) PYTHON=python3.12"; \
	  exit 1; }
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || { \
	  echo "$(PYTHON) cannot make virtual environments: its modules venv and ensurepip are missing."; \
	  echo "Next step on Debian or Ubuntu: sudo apt-get install python3-venv"; \
	  exit 1; }
	@[ -x $(BIN)/pip ] && [ "$$($(BIN)/python -V)" = "Python $(VERSION)" ] || \
	  $(PYTHON) -m venv --clear $(VENV)
	@echo "Installing into $(VENV): django-dcr[$*]. The first time this takes about a minute ..."
	@$(BIN)/pip install --quiet --editable ".[$*]" || { \
	  echo "Next step: see pip's message above, then run  make $(MAKECMDGOALS)  again."; \
	  exit 1; }
	@touch $@

.PHONY: help docs reference screenshots release demo demo-mcp run test test-all test-tables test-databases test-crash lowest bench scale browser interop conformance queue lint types check clean
