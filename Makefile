# Two commands do everything from a fresh clone: `make demo` and `make test`.
PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
OUT    ?= runs/demo
KILLS  ?= 200
PIP    := $(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt

.PHONY: demo test test-all faults lint numbers docs clean help

help:
	@echo "make demo   install into $(VENV), erase castle from the embedded model, write the report"
	@echo "make test   install the development tools too, run the test suite"
	@echo "make test-all  the slow tests, too"
	@echo "make faults  kill runs at random moments and compare how they end: KILLS=200, goes on where it was stopped"
	@echo "make lint   ruff and mypy"
	@echo "make numbers  print the first section of docs/measured.md: the model, its judges, the demo"
	@echo "make docs   build the site of docs/ in site/"
	@echo "make clean  remove $(VENV), runs and caches"

demo: $(VENV)/.installed
	$(BIN)/expunge demo --out $(OUT)

# Files go to the processes in their order: reordered, files of few long tests would come last.
test: $(VENV)/.installed-dev
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n auto --maxprocesses 4 --dist loadfile --no-loadscope-reorder

test-all: $(VENV)/.installed-dev
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n auto --maxprocesses 4 --dist loadfile --no-loadscope-reorder -m "not gpu"

faults: $(VENV)/.installed-dev
	$(BIN)/python tests/faults/kills.py --kills $(KILLS) --out runs/faults

lint: $(VENV)/.installed-dev
	$(BIN)/ruff check src tests benchmarks
	$(BIN)/mypy

numbers: $(VENV)/.installed
	$(BIN)/python benchmarks/quality.py

docs: $(VENV)/.installed-dev
	$(BIN)/mkdocs build --strict

clean:
	rm -rf $(VENV) runs site .pytest_cache .mypy_cache .ruff_cache build src/*.egg-info

# A stamp per installation: nothing is installed again until the pinned set or the project file changes.
$(VENV)/.installed: pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(PIP) -e '.[report,second]'
	touch $@

$(VENV)/.installed-dev: $(VENV)/.installed models/pyproject.toml
	$(PIP) -e '.[dev]' -e ./models
	touch $@
