# The commands a person or .ci/run needs. Each makes its own environment when that is missing.
PYTHON ?= python3
BIN := .venv/bin
SCENES ?=
ARGS ?=

.PHONY: help demo test soak check serve bench clean
help:
	@echo "make demo [SCENES=DIR]  index scenes, search for a person, draw the answer"
	@echo "make serve              the HTTP service on http://127.0.0.1:8000"
	@echo "make test [ARGS=...]    all tests"
	@echo "make soak               the same proofs at larger figures; hours"
	@echo "make check              format, lint, types, layers"
	@echo "make bench              speed of the model, the gallery and the service"

# What serving needs; a minute on a usual connection.
.venv/serve: pyproject.toml
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --upgrade 'pip>=25.1'
	$(BIN)/python -m pip install --quiet --editable '.[cpu]'
	@touch $@

# The same, torch and the tools.
.venv/develop: .venv/serve
	$(BIN)/python -m pip install --quiet --editable '.[cpu,train]' --group dev
	@touch $@

demo: .venv/serve
	$(BIN)/python -m service.demo $(if $(SCENES),--scenes '$(SCENES)')

serve: .venv/serve
	$(BIN)/python -m service $(ARGS)

test: .venv/develop
	$(BIN)/python -m pytest $(ARGS)

soak: .venv/develop
	$(BIN)/python -m pytest -m soak -s $(ARGS)

check: .venv/develop
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

bench: .venv/serve
	$(BIN)/python -m models.bench
	$(BIN)/python -m indexer.bench
	$(BIN)/python -m service.bench

clean:
	rm -rf .venv demo build dist *.egg-info
