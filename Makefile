# make study   set up and open a card; the labs' heavy packages arrive in the background
# make test    set up with the test extras and run the suite        (PYTEST="-m 'not slow'" for the quick half)
# make lint    format, lint, types, import contracts, decks
# make bench   speed against peers, as ratios
# make labs    the labs' packages, in the foreground
# make clean   remove the environment

PYTHON ?= python3
VENV   ?= .venv
PYTEST ?=
ARGS   ?=

BIN  := $(VENV)/bin
UV   := $(shell command -v uv 2>/dev/null)
# uv picks the PyTorch build that fits this machine's GPU (or none) by itself; pip takes what its index offers.
ifdef UV
  INSTALL := VIRTUAL_ENV=$(VENV) uv pip install --quiet --torch-backend=auto --constraint constraints.txt
else
  INSTALL := $(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt
endif
SOURCES := pyproject.toml constraints.txt
PENDING := $(VENV)/labs.pending

.PHONY: study test lint types bench labs format clean
.DEFAULT_GOAL := study

study: $(VENV)/.base
	@if [ ! -e $(VENV)/.labs ]; then \
	  nohup $(MAKE) --no-print-directory labs BACKGROUND=1 > $(VENV)/labs.log 2>&1 < /dev/null & \
	  echo $$! > $(PENDING); \
	  echo "The labs' packages are being installed in the background; progress: $(VENV)/labs.log" >&2; \
	fi
	@LLMQUIZ_LABS_PENDING=$(CURDIR)/$(PENDING) $(BIN)/llmquiz study $(ARGS)

test: $(VENV)/.dev $(VENV)/.labs
	$(BIN)/python -m pytest --numprocesses=auto --dist=worksteal $(PYTEST)

lint: $(VENV)/.dev $(VENV)/.labs
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(MAKE) --no-print-directory types
	$(BIN)/lint-imports
	$(BIN)/llmquiz deck lint

types:
	$(BIN)/mypy
	@for lab in labs/*-*/lab.py; do echo "mypy $$lab"; $(BIN)/mypy $$lab || exit 1; done

format: $(VENV)/.dev
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

bench: $(VENV)/.dev $(VENV)/.labs
	$(BIN)/python -m tests.bench $(ARGS)

labs:
	@trap 'rm -f $(PENDING)' EXIT; $(MAKE) --no-print-directory $(VENV)/.labs

# Two installers in one environment would break it: wait for the one in the background, if it lives.
define SETTLED
@while [ -z "$(BACKGROUND)" ] && [ -s $(PENDING) ] && kill -0 "$$(cat $(PENDING))" 2>/dev/null; do \
  echo "Waiting for the labs' packages: $(VENV)/labs.log" >&2; sleep 5; \
done
endef

$(VENV)/.base: $(SOURCES) | $(BIN)/python
	@echo "Installing llmquiz into $(VENV) (once)" >&2
	@$(INSTALL) --editable .
	@touch $@

$(VENV)/.labs: $(SOURCES) | $(VENV)/.base
	$(SETTLED)
	@echo "Installing the labs' packages (once; PyTorch is large)" >&2
	@$(INSTALL) --editable '.[labs]'
	@touch $@

$(VENV)/.dev: $(SOURCES) | $(VENV)/.base
	$(SETTLED)
	@echo "Installing the test tools (once)" >&2
	@$(INSTALL) --editable '.[dev]'
	@touch $@

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
	  || { echo "llmquiz needs Python 3.11 or newer; name one with: make PYTHON=/path/to/python3.12" >&2; exit 1; }
	@$(PYTHON) -m venv $(VENV)

clean:
	rm -rf $(VENV)
