.PHONY: verify test campaign check binaries bench transcripts dist lock clean

PYTHON_DIRS := verify specs tests binaries $(wildcard bench)
PYTHON_FILES := setup.py scripts/transcripts.py
# What `make check` leaves to `make test`: it needs a network, a compiler, a browser or minutes.
SLOW := slow or kernel or mutant or toolchain or browser or toolfault or live or campaign
LOCK := .venv/bin/uv pip compile --quiet --universal --python-version 3.12 --generate-hashes --no-annotate \
	--no-emit-index-url --no-emit-find-links --custom-compile-command 'make lock' $(UPGRADE)

verify:
	scripts/bootstrap.sh
	.venv/bin/verify run

test:
	scripts/bootstrap.sh --dev
	scripts/test-tools.sh
	.venv/bin/python -m pytest -n 2 --dist worksteal -m 'not campaign'

# The same kinds of tests on every target, which take hours.
campaign:
	scripts/bootstrap.sh --dev
	scripts/test-tools.sh
	.venv/bin/python -m pytest -n 2 --dist worksteal -m campaign

check:
	scripts/bootstrap.sh --dev
	.venv/bin/ruff check $(PYTHON_DIRS) $(PYTHON_FILES)
	.venv/bin/ruff format --check $(PYTHON_DIRS) $(PYTHON_FILES)
	scripts/import-tree.sh
	.venv/bin/mypy
	.venv/bin/python -m pytest -q -n 2 --dist worksteal -m 'not ($(SLOW))'

binaries:
	scripts/bootstrap.sh --dev
	scripts/test-tools.sh
	.venv/bin/python binaries/build.py

bench:
	scripts/bootstrap.sh
	scripts/bench-tools.sh
	.venv/bin/python -m bench

# Runs the commands that the documents show, and puts in what they print now. Takes minutes and a network.
transcripts:
	scripts/bootstrap.sh
	.venv/bin/python scripts/transcripts.py

# build/lib is left by earlier builds: a module that is gone would get into the wheel.
dist:
	scripts/bootstrap.sh
	rm -rf build/lib build/bdist.*
	.venv/bin/python -m pip wheel --quiet --no-deps --no-index --no-build-isolation -w dist .
	.venv/bin/python -c "from setuptools import build_meta; build_meta.build_sdist('dist')" >/dev/null

# Pins that still fit are kept: `make lock UPGRADE=--upgrade` takes the newest of everything.
lock:
	scripts/bootstrap.sh --dev
	$(LOCK) --group build -o requirements-build.lock
	$(LOCK) pyproject.toml -c requirements-build.lock -o requirements.lock
	$(LOCK) pyproject.toml --group dev -c requirements-build.lock -c requirements.lock -o requirements-dev.lock
	$(LOCK) --group bench -c requirements-dev.lock -o requirements-bench.lock

clean:
	rm -rf .venv build dist *.egg-info .pytest_cache .ruff_cache .mypy_cache .hypothesis
	find $(PYTHON_DIRS) -name __pycache__ -type d -prune -exec rm -rf {} +
	find reports -mindepth 1 ! -name README.md -prune -exec rm -rf {} +
