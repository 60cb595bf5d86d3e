# afmid: `make demo` shows what it does, `make test` checks that it works. Both set up .venv first.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PLUGINS := $(patsubst %/pyproject.toml,%,$(wildcard plugins/*/pyproject.toml))
SOURCES := pyproject.toml constraints.txt $(PLUGINS:=/pyproject.toml)
INSTALL = $(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt

.PHONY: demo test lint scores benchmarks clean

demo: $(VENV)/installed
	$(BIN)/afmid simulate pentacene -o demo/pentacene.npz --force
	$(BIN)/afmid identify demo/pentacene.npz -o demo/pentacene/ --force

test: $(VENV)/developer
	$(BIN)/python -m pytest --quiet

lint: $(VENV)/developer
	$(BIN)/ruff check .
	$(BIN)/mypy

# What the default method scores on molecules that experiments have shown; none of them is trained on.
scores: $(VENV)/installed
	$(BIN)/afmid evaluate --suite afm-named

# How fast simulation, beside ppafm, and training are, and how well refinement works: writes the tables of the docs. Keep
# the machine quiet. With ASD=FOLDER, where model_light.h5 and model_heavy.h5 of github.com/SINGROUP/ASD-AFM lie, also how
# far off afmid's maps are beside theirs; with PACK=FILE, a molecule pack, also what SOAP is worth. These train for an hour.
benchmarks: $(VENV)/benchmark
	$(BIN)/python tests/benchmarks/simulate.py --page docs/reference/benchmarks.md
	$(BIN)/python tests/benchmarks/scaling.py --page docs/reference/benchmarks.md
	$(BIN)/python tests/benchmarks/gradient.py --page docs/reference/benchmarks.md
	$(BIN)/python tests/benchmarks/training.py --page docs/reference/benchmarks.md
	$(BIN)/python tests/benchmarks/refine.py --page docs/explanation/refinement.md
	$(BIN)/python tests/benchmarks/window.py --page docs/reference/benchmarks.md
	$(BIN)/python tests/benchmarks/camphor.py --page docs/reference/benchmarks.md
	$(BIN)/python tests/benchmarks/graphs.py --page docs/reference/benchmarks.md
	$(BIN)/python tests/benchmarks/single_step.py --page docs/reference/benchmarks.md
	$(BIN)/python tests/benchmarks/curves.py --page docs/reference/benchmarks.md
	$(BIN)/python tests/benchmarks/soap_speed.py --page docs/reference/soap.md
	$(BIN)/python tests/benchmarks/soap_predictor.py --page docs/reference/soap.md
ifdef PACK
	$(BIN)/python tests/benchmarks/soap_ablation.py --data $(PACK) --page docs/reference/soap.md
endif
ifdef ASD
	$(BIN)/python tests/benchmarks/published.py $(ASD)/model_light.h5 $(ASD)/model_heavy.h5 --simulated 100 \
		--page docs/reference/benchmarks.md
endif

$(VENV)/installed: $(SOURCES)
	@echo "installing afmid into $(VENV); the first time takes a few minutes"
	$(PYTHON) -m venv $(VENV)
	$(INSTALL) --editable . $(PLUGINS:%=--editable ./%)
	@touch $@

$(VENV)/developer: $(VENV)/installed
	$(INSTALL) --editable '.[dev]'
	@touch $@

$(VENV)/benchmark: $(VENV)/installed
	$(INSTALL) --editable '.[benchmark]'
	@touch $@

clean:
	rm -rf $(VENV) demo .pytest_cache .mypy_cache .ruff_cache .hypothesis
