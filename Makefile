# Two commands are enough for a start: `make demo` and `make test`. The first of them makes .venv (once).
.DELETE_ON_ERROR:
.DEFAULT_GOAL := help
SHELL := /bin/bash

VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
UV := $(shell command -v uv)
TESTS := not slow  # what pytest's -m selects; empty: every test
PYTHON_CHECK := import sys; sys.exit(sys.version_info < (3, 11))
PYTHON := $(shell for p in python3.11 python3.12 python3.13 python3; do \
	"$$p" -c '$(PYTHON_CHECK)' >/dev/null 2>&1 && { command -v "$$p"; break; }; done)

.PHONY: help demo test tiny kitti golden doctor gpu requirements clean

help:  ## list the targets
	@grep -hE '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z]+):.*## (.*)/  make \1|\2/' | column -t -s '|'

demo: $(STAMP)  ## simulate, train a few steps of each stage, generate; writes outputs/demo/report.html
	$(BIN)/python eval/demo.py --output_dir outputs/demo --overwrite

test: $(STAMP)  ## lint, format check, type check, tests on all cores (TESTS= for the slow ones too)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy resim
	$(BIN)/pytest -n auto -m '$(strip $(TESTS))'

tiny: $(STAMP)  ## train checkpoints/tiny from nothing but this repository (continues where it was stopped)
	$(BIN)/python train/make_tiny.py --overwrite

kitti: $(STAMP)  ## the demo on a recorded drive: make kitti KITTI=folder with images, poses.txt, calib.txt
	@test -n "$(KITTI)" || { echo "make kitti needs the folder of a recording: make kitti KITTI=path/to/sequence" >&2; exit 2; }
	$(BIN)/python eval/kitti_demo.py --kitti "$(KITTI)" --output_dir outputs/kitti --overwrite

golden: $(STAMP)  ## write the tests' stored losses anew; read the diff before committing it
	RESIM_WRITE_GOLDEN=1 $(BIN)/pytest -q -k golden

doctor: $(STAMP)  ## what this machine has, and which presets fit on it
	$(BIN)/resim doctor

gpu: $(STAMP)  ## benchmarks and checks that need a GPU, in under eight minutes; writes outputs/gpu.json
	$(BIN)/python benchmarks/gpu.py --output outputs/gpu.json

requirements:  ## pin every dependency again, from the ranges in pyproject.toml
	@test -n "$(UV)" || { echo "make requirements needs uv: https://docs.astral.sh/uv/" >&2; exit 2; }
	uv pip compile pyproject.toml --extra dev --universal --python-version 3.11 --fork-strategy fewest --upgrade --quiet \
		--custom-compile-command "make requirements" --output-file requirements.txt

clean:  ## remove the demos' outputs and the caches; keeps training runs and .venv
	rm -rf outputs/demo outputs/kitti outputs/readme outputs/readme_commands.sh build dist resim.egg-info .pytest_cache .ruff_cache .mypy_cache .hypothesis
	find resim train eval data_prep benchmarks tests -name __pycache__ -type d -prune -exec rm -rf {} +

$(STAMP): requirements.txt pyproject.toml
ifeq ($(PYTHON)$(UV),)
	@echo "resim needs Python 3.11 or newer; none of python3.11, python3.12, python3.13, python3 is one, and there is no uv" >&2
	@exit 2
else ifneq ($(UV),)
	uv venv --quiet --allow-existing --python $(or $(PYTHON),3.11) $(VENV)
	uv pip install --compile-bytecode --python $(BIN)/python -r requirements.txt
	uv pip install --python $(BIN)/python --no-deps --editable .
else
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install -r requirements.txt
	$(BIN)/python -m pip install --no-deps --editable .
endif
	touch $@
