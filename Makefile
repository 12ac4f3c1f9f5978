# `make quickstart`, `make quickstart-ldm` and `make test` do their own set-up: a virtual environment, the install, the run.
PYTHON ?= python3
VENV ?= .venv
RUN ?= runs/quickstart
BIN := $(VENV)/bin

.PHONY: quickstart quickstart-ldm test lint clean

quickstart: $(VENV)/.installed
	$(BIN)/pdm train --config=configs/quickstart.py --workdir=$(RUN)
	$(BIN)/pdm sample --workdir=$(RUN) --num=80 --out=$(RUN)/samples.png

quickstart-ldm: RUN = runs/quickstart_ldm
quickstart-ldm: $(VENV)/.installed
	$(BIN)/pdm train --config=configs/quickstart_ldm.py --workdir=$(RUN)
	$(BIN)/pdm sample --workdir=$(RUN) --num=80 --out=$(RUN)/samples.png

test: $(VENV)/.installed-test
	$(BIN)/python -m pytest -n auto --dist loadfile

lint: $(VENV)/.installed-test
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

$(VENV)/bin/python:
	$(PYTHON) -m venv $(VENV)

$(VENV)/.installed: setup.py | $(VENV)/bin/python
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e .
	touch $@

$(VENV)/.installed-test: setup.py $(VENV)/.installed
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e '.[test]'
	touch $@

clean:
	rm -rf $(VENV) build *.egg-info
