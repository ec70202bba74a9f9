# `make help` lists what one can do. Every target sets up what it needs, uv included.
UV := ./scripts/uv
SYNC := $(UV) sync --quiet --frozen --compile-bytecode --extra quantize --extra serve-cpu --group dev
RUN := $(UV) run --no-sync
NIX := nix --extra-experimental-features 'nix-command flakes'

.DEFAULT_GOAL := help
.PHONY: help setup setup-serve setup-vllm setup-bench demo test lint ui bench rehearsal nix-check lock clean

help: ## this list
	@grep -hE '^[a-z -]+:.*##' $(MAKEFILE_LIST) | sed -E 's/^setup-.*## /setup-X\t/; s/:.*## /\t/' | expand -t 12

setup: ## the locked environment in .venv
	@$(SYNC)

setup-serve setup-vllm setup-bench: setup-%: ## X: serve (SGLang), vllm, bench (the load generator), each in .venv-X of its own
	@UV_PROJECT_ENVIRONMENT=.venv-$* $(UV) sync --quiet --frozen --compile-bytecode --extra $*

demo: setup ## quantize the demo recipe for real, then prove the result
	@$(RUN) quantize recipe=demo
	@$(RUN) verify checkpoint=runs/checkpoints/demo source=demo/model

test: setup ## every test, in two processes
	@$(RUN) pytest -n 2 --dist loadfile

lint: setup ## ruff, types, and what pre-commit checks
	@$(RUN) pre-commit run --all-files

ui: setup ## the MLflow pages of the runs made here, on loopback
	@$(RUN) mlflow ui --host 127.0.0.1 --port 5000 --backend-store-uri sqlite:///runs/mlflow.db

bench: setup ## packing and both engines beside ModelOpt's
	@$(RUN) python benchmarks/packing.py
	@$(RUN) python benchmarks/engines.py

rehearsal: setup ## two layers of MiniMax-M2.7's real width, quantized and verified here (18 GB of disk)
	@$(RUN) python benchmarks/rehearsal.py

nix-check: ## the flake against the nixpkgs that it pins: environments, patches, tests, the demo (needs Nix 2.18 and its network)
	@command -v nix >/dev/null || { echo "make nix-check: no nix here: docs/nix.md" >&2; exit 1; }
	@$(NIX) flake check --print-build-logs
	@$(NIX) run .#quantize -- recipe=demo
	@$(NIX) run .#verify -- checkpoint=runs/checkpoints/demo source=demo/model

lock: ## refresh uv.lock from pyproject.toml
	@$(UV) lock

clean: ## remove what was made here: runs, caches (keeps .venv)
	rm -rf runs outputs .pytest_cache .ruff_cache .mypy_cache
