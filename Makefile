# One word a job. `make demo` and `make test` need nothing but Python 3.11 or newer: each makes its
# own virtual environment in .venv and installs the project there. PYTHON=python3.12 chooses another.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
# Test processes side by side; tests of one file stay in one process and share its fixtures.
WORKERS ?= -n 2 --dist loadfile

.PHONY: demo test test-all test-browser test-openclip fuzz lint leaks audit lock format docs dist clean

demo: $(VENV)/.installed
	$(BIN)/sightline demo

test: $(VENV)/.installed-test
	$(BIN)/python -m pytest -m "not browser and not slow" $(WORKERS)

# The above, and the long sweeps of faults and the training recipe.
test-all: $(VENV)/.installed-test
	$(BIN)/python -m pytest -m "not browser" $(WORKERS)

test-browser: $(VENV)/.installed-test
	$(BIN)/python -m pytest -m browser

# Models in OpenCLIP's format against the package itself, which lies beside the environment: with
# torchvision, transformers would prepare images in another way. torchvision's wheels are for CUDA;
# 0.15 (Python 3.11) can be imported without it.
test-openclip: $(VENV)/.installed-test
	$(BIN)/python -m pip install --quiet --no-deps --upgrade --target $(VENV)/openclip \
	    "open_clip_torch>=3.3,<4" timm ftfy wcwidth "torchvision==0.15.2"
	PYTHONPATH=$(VENV)/openclip $(BIN)/python -m pytest tests/test_open_clip.py

# More than 10,000 generated requests to the API, good and bad: some minutes.
fuzz: $(VENV)/.installed-test
	SIGHTLINE_FUZZ_CASES=400 $(BIN)/python -m pytest -s tests/test_api.py -k generated_requests

lint: $(VENV)/.installed-test
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	mkdir -p .links && ln -sfn .. .links/sightline
	MYPYPATH=.links $(BIN)/mypy

# Keys and passwords in what git holds; nothing is asked of a network. What is listed in
# .secrets.baseline was looked at and is none.
leaks: $(VENV)/.installed-test
	git ls-files -z | xargs -0 $(BIN)/detect-secrets-hook --no-verify --baseline .secrets.baseline

# Known faults of the installed packages; asks the package index.
audit: $(VENV)/.installed
	$(BIN)/python -m pip install --quiet pip-audit
	$(BIN)/python -m pip_audit --skip-editable

# The packages of the Docker image with their hashes; asks the package index.
lock: $(VENV)/.installed
	$(BIN)/python -m pip install --quiet uv
	PATH="$(abspath $(BIN)):$$PATH" sh .docker/make_lock.sh

format: $(VENV)/.installed-test
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

docs: $(VENV)/.installed-test
	$(BIN)/python docs/make_cli_reference.py
	$(BIN)/python docs/make_mcp_transcript.py

# The wheel and the source distribution of a release; the same commit gives the same bytes.
dist: $(VENV)/.installed-test
	$(BIN)/python .ci/dist.py dist

clean:
	rm -rf $(VENV) dist build .links .pytest_cache .mypy_cache .ruff_cache .hypothesis

$(VENV)/.made:
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Sightline needs Python 3.11 or newer; choose one with: make PYTHON=python3.12")'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip
	touch $@

$(VENV)/.installed: $(VENV)/.made pyproject.toml
	$(BIN)/python -m pip install --quiet --editable ".[cpu,places]"
	touch $@

$(VENV)/.installed-test: $(VENV)/.made pyproject.toml
	$(BIN)/python -m pip install --quiet --editable ".[cpu,places,test]"
	touch $@
