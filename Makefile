# The front door. `make help` lists everything.

PYTHON  ?= python3
VENV    := .venv
LS_VENV := .venv-label-studio
LS      := 1.23.2
TORCH   := 2.13.0
JOBS    ?= 2
PIP     := $(VENV)/bin/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt
say      = @printf '\033[1m==> %s\033[0m\n'

.DEFAULT_GOAL := help
.PHONY: help install run demo test check lint fast label-studio docs lock clean

help:  ## This list
	@awk -F':.*## ' '/^[a-z-]+:.*## / {printf "  make %-14s %s\n", $$1, $$2}' $(MAKEFILE_LIST)
	@printf '\n  PORT=9090 chooses where `make run` and `make demo` listen, HOST=127.0.0.1 where `make run` does; PYTHON=python3.12 chooses the interpreter; JOBS=2 runs so many test files at a time.\n'

install: $(VENV)/.installed  ## Make .venv and install MaskLoop into it

run: $(VENV)/.installed  ## Serve on port 9090 (PORT, HOST); settings from the environment or .env
	$(say) "MaskLoop (Ctrl+C stops it)"
	@exec $(VENV)/bin/maskloop serve

demo: $(VENV)/.installed $(LS_VENV)/.installed-$(LS)  ## A real Label Studio with images and this backend connected: open the URL and click
	@exec $(VENV)/bin/maskloop demo --label-studio $(LS_VENV)/bin/label-studio --data .demo

test: $(VENV)/.installed-dev $(LS_VENV)/.installed-$(LS)  ## All tests, real Label Studio and browser included
	$(say) "All tests"
	@$(VENV)/bin/python -m pytest -n $(JOBS) --dist loadfile

check: lint fast  ## Lint, types and the fast tests: for every edit

lint: $(VENV)/.installed-dev  ## ruff and mypy
	$(say) "Lint and types"
	@$(VENV)/bin/ruff check .
	@$(VENV)/bin/mypy

fast: $(VENV)/.installed-dev  ## The fast tests alone
	$(say) "Fast tests"
	@$(VENV)/bin/python -m pytest -q -m "not slow and not e2e"

label-studio: $(LS_VENV)/.installed-$(LS)  ## Install the Label Studio that demo and tests use

docs: $(VENV)/.installed-dev  ## Write docs/settings.md and docs/commands.md from the code
	@$(VENV)/bin/python scripts/document.py

lock: $(VENV)/.installed-dev  ## Write constraints.txt from what is installed in .venv
	@$(VENV)/bin/python scripts/lock.py > constraints.txt.new && mv constraints.txt.new constraints.txt
	$(say) "constraints.txt written"

clean:  ## Remove everything that was installed or built here (your data folder stays)
	rm -rf $(VENV) $(LS_VENV) .demo .cache build dist node_modules .mypy_cache .ruff_cache .pytest_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

$(VENV)/.python:
	$(say) "Making $(VENV)"
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 10))' \
		|| { echo "MaskLoop needs Python 3.10 or newer, $(PYTHON) is $$($(PYTHON) --version 2>&1). Try: make PYTHON=python3.12 ..."; exit 1; }
	@$(PYTHON) -m venv $(VENV) \
		|| { echo "$(PYTHON) cannot make a virtual environment. On Debian and Ubuntu: sudo apt install python3-venv"; rm -rf $(VENV); exit 1; }
	@touch $@

# The build of PyTorch without CUDA is a tenth of the size. Where pip knows no such build, the full one does as well.
$(VENV)/.torch: $(VENV)/.python
	$(say) "Installing PyTorch $(TORCH) (CPU build)"
	@$(PIP) $(if $(TORCH_INDEX),--extra-index-url $(TORCH_INDEX)) "torch==$(TORCH)+cpu" 2>$(VENV)/torch.log || { \
		tail -n 2 $(VENV)/torch.log; \
		printf '\n\033[1m!!! pip found no CPU build of PyTorch. Installing the standard build, on Linux 2 to 3 GB with CUDA.\n'; \
		printf '!!! To avoid it: press Ctrl+C, then `make install TORCH_INDEX=URL` with the CPU index shown on\n'; \
		printf '!!! pytorch.org > Get Started.\033[0m\n\n'; \
		$(PIP) "torch==$(TORCH)"; }
	@touch $@

$(VENV)/.installed: pyproject.toml constraints.txt $(VENV)/.torch
	$(say) "Installing MaskLoop"
	@$(PIP) --editable .
	@touch $@

$(VENV)/.installed-dev: $(VENV)/.installed
	$(say) "Installing what the tests need"
	@$(PIP) --editable '.[dev,sam,postgres]'
	@touch $@

$(LS_VENV)/.installed-$(LS):
	$(say) "Installing Label Studio $(LS) into $(LS_VENV) (about 2 minutes, 1 GB, only once)"
	@test -x $(LS_VENV)/bin/python || $(PYTHON) -m venv $(LS_VENV)
	@$(LS_VENV)/bin/python -m pip install --quiet --disable-pip-version-check "label-studio==$(LS)"
	@touch $@
