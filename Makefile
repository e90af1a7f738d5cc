# The commands a person or .ci/run needs. Each makes its own environment when that is missing.
PYTHON ?= python3
BIN := .venv/bin
SCENES ?=
ARGS ?=
WORKERS ?= 2

.PHONY: help demo test soak fuzz check serve lock image bench clean
help:
	@echo "make demo [SCENES=DIR]  index scenes, search for a person, draw the answer"
	@echo "make serve              the HTTP service on http://127.0.0.1:8000"
	@echo "make test [ARGS=...]    all tests, in WORKERS processes (2)"
	@echo "make soak               the same proofs at larger figures; hours"
	@echo "make fuzz               inputs that coverage leads to, ten minutes"
	@echo "make check              format, lint, types, layers"
	@echo "make lock               the lock files of the container images, anew"
	@echo "make image              the serving image, built without a container engine and tried; as root"
	@echo "make bench              speed of the model, the gallery and the service"

# What serving needs; a minute on a usual connection. An environment that was left half made, or whose
# Python is gone or too old, is made anew.
NEW = import sys; sys.version_info < (3, 11) and sys.exit("error: Python 3.11 or newer is needed, \
	$(PYTHON) is %d.%d; name another one with PYTHON=python3.12" % sys.version_info[:2])
FITS = $(BIN)/python -c 'import pip; $(NEW)' 2>/dev/null
ifneq ($(shell $(FITS) && echo fits),fits)
.PHONY: .venv/serve
endif
.venv/serve: pyproject.toml
	@$(FITS) || { $(PYTHON) -c '$(NEW)' && rm -rf .venv && $(PYTHON) -m venv .venv; }
	$(BIN)/python -m pip install --quiet --upgrade 'pip>=25.1'
	$(BIN)/python -m pip install --quiet --editable '.[cpu,heif]'
	@touch $@

# The same, torch and the tools.
.venv/develop: .venv/serve
	$(BIN)/python -m pip install --quiet --editable '.[cpu,heif,ray,scale,teacher,train]' --group dev
	@touch $@

demo: .venv/serve
	$(BIN)/python -m service.demo $(if $(SCENES),--scenes '$(SCENES)')

serve: .venv/serve
	$(BIN)/python -m service $(ARGS)

test: .venv/develop
	$(BIN)/python -m pytest -n $(WORKERS) --dist loadfile --no-loadscope-reorder $(ARGS)

# The proofs at larger figures, then the whole interface with PostgreSQL and with Milvus.
ALONE = load any_request replicas killed
soak: .venv/develop
	$(BIN)/python -m pytest -m soak -s $(ARGS)
	PERSON_SEARCH_TESTS_DATABASE=postgresql $(BIN)/python -m pytest -m 'not sqlite' api_tests \
		--ignore-glob='*/test_page_*' $(addprefix --ignore=api_tests/test_,$(ALONE:=.py))
	PERSON_SEARCH_TESTS_DATABASE=postgresql PERSON_SEARCH_TESTS_ENGINE=milvus-flat \
		$(BIN)/python -m pytest -m 'not sqlite' -k 'not refused' \
		$(addprefix api_tests/test_,search.py scenes.py models.py labels.py)

# Atheris has no builds for every Python, so it is not among the tools that all need.
FUZZED = pictures:240 bodies:150 manifests:90 annotations:120
fuzz: .venv/develop
	$(BIN)/python -m pip install --quiet 'atheris>=3'
	set -e; for one in $(FUZZED); do \
		$(BIN)/python -m api_tests.fuzz $${one%:*} $${one#*:} build/fuzz/$${one%:*}; \
		cat build/fuzz/$${one%:*}/report.json; echo; done

check: .venv/develop
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

bench: .venv/serve
	$(BIN)/python -m models.bench
	$(BIN)/python -m indexer.bench
	$(BIN)/python -m service.bench

# What the images install, with hashes; the same versions again wherever they still fit.
LOCK = $(BIN)/uv pip compile --quiet --no-config --python-version 3.11 --python-platform linux \
	--generate-hashes --custom-compile-command 'make lock' $(LOCK_ARGS)
LOCKS = docker/requirements
lock: .venv/develop
	echo hatchling | $(LOCK) - -o $(LOCKS)/build.txt
	$(LOCK) pyproject.toml --extra cpu --extra heif -o $(LOCKS)/cpu.txt
	$(LOCK) pyproject.toml --extra gpu --extra heif -o $(LOCKS)/gpu.txt
	$(LOCK) pyproject.toml --extra cpu --extra heif --extra ray --extra scale -o $(LOCKS)/scale.txt
	$(LOCK) pyproject.toml --extra cpu --extra heif --extra train -o $(LOCKS)/train.txt

image:
	docker/build.sh cpu

clean:
	rm -rf .venv demo build dist *.egg-info
