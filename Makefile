# Every target uses .venv, which is rebuilt when one of its inputs changes. Settings:
#   PYTHON          interpreter for the virtual environment (3.10 or newer)
#   TORCH_ARGS      further arguments for the installation of torch, e.g. another index with CPU or ROCm builds
#   COMFYUI_PATH    ComfyUI checkout for the tests and the demo, instead of the one from PyPI
#   COMFYUI_PYTHON  interpreter that runs that checkout (else .venv, into which its requirements are installed)
#   BENCH           options of make bench, e.g. "--quick --json FILE"

PYTHON ?= python3
TORCH_ARGS ?=
TORCH := torch==2.13.0
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check --quiet
STAMP := $(VENV)/.installed
FRONTEND := $(VENV)/frontend
NEWEST_FRONTEND := comfyui-frontend-package==1.58.1
ENGINE := tests/engine

.PHONY: help venv demo test test-browser check fix golden bench

help:
	@echo "make venv | demo | test | test-browser | check | fix | golden | bench"

venv: $(STAMP)

$(STAMP): Makefile pyproject.toml requirements.txt $(wildcard $(ENGINE)/requirements*.txt $(ENGINE)/_torchvision*)
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@if nvidia-smi >/dev/null 2>&1; then $(PIP) install $(TORCH_ARGS) "$(TORCH)"; \
	elif ! $(PIP) install $(TORCH_ARGS) "$(TORCH)+cpu" 2>/dev/null; then \
		echo "no CPU build of $(TORCH) in pip's indexes: installing the default build (several GB on Linux); TORCH_ARGS='--index-url URL' names another index"; \
		$(PIP) install $(TORCH_ARGS) "$(TORCH)"; fi
ifdef COMFYUI_PATH
	@if [ -z "$$COMFYUI_PYTHON" ]; then $(PIP) install -r "$$COMFYUI_PATH/requirements.txt"; fi
else
	$(PIP) install --no-deps -r $(ENGINE)/requirements-nodeps.txt
	$(PIP) install --no-warn-conflicts -r $(ENGINE)/requirements.txt
	cp $(ENGINE)/_torchvision_beside_cpu_torch.* "$$($(BIN)/python -c 'import sysconfig; print(sysconfig.get_path("purelib"))')"
endif
	$(PIP) install --no-warn-conflicts -e ".[train,eval,perceptual,geometry,dev]"
	touch $@

$(FRONTEND): $(STAMP) Makefile
	$(PIP) install --no-warn-conflicts -e ".[browser]"
	rm -rf $@
	$(PIP) install --no-deps --target $@ "$(NEWEST_FRONTEND)"

demo: $(STAMP)
	$(BIN)/python scripts/demo.py

test: $(STAMP)
	$(BIN)/python -m pytest -m "not gpu and not weights and not browser"

test-browser: $(FRONTEND)
	$(BIN)/python -m pytest -m browser tests/browser

check: $(STAMP)
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/pylint --disable=all --enable=duplicate-code scenetok_core nodes training scripts benchmarks tests
	$(BIN)/pyright
	$(MAKE) test

fix: $(STAMP)
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

golden: $(STAMP)
	for file in tests/golden/*.safetensors; do $(BIN)/python tests/golden/check.py "$$file" || exit 1; done

bench: $(STAMP)
	$(BIN)/python benchmarks/run.py $(BENCH)
