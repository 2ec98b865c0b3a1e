# make demo    a virtual environment, the package, and `rait run` on the embedded default
# make test    the quick tests;  make slow: those with real models;  make check: ruff and mypy
# make docs    the documentation, into build/docs
# make oldest  a whole small pipeline with the lowest versions that are allowed
# make fuzz    the readers and the matcher, FUZZ_SECONDS each;  make mutants: mutation testing of the method's arithmetic
# make audit   known vulnerabilities of all that is installed, where a service that knows them can be reached
PYTHON ?= python3
VENV   ?= .venv
RUN    ?= demo-run
PIP    := $(VENV)/bin/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt

.PHONY: demo test slow check docs audit oldest fuzz mutants format clean

demo: $(VENV)/demo.stamp
	$(VENV)/bin/rait run --out $(RUN)

test: $(VENV)/test.stamp # one worker a core; threads of their own would only stand in each other's way
	OMP_NUM_THREADS=1 $(VENV)/bin/python -m pytest --numprocesses=logical --dist=loadfile --no-loadscope-reorder

slow: $(VENV)/test.stamp
	OMP_NUM_THREADS=1 $(VENV)/bin/python -m pytest -m slow --numprocesses=logical --dist=loadfile --no-loadscope-reorder

check: $(VENV)/test.stamp
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/mypy

docs: $(VENV)/test.stamp
	$(VENV)/bin/python docs/reference.py
	NO_MKDOCS_2_WARNING=1 $(VENV)/bin/mkdocs build --strict # not --quiet, which hides warnings from --strict

audit: $(VENV)/test.stamp $(VENV)/audit/bin/pip-audit # what was looked up has "vulns" in the findings, none or more
	@rm -f $(VENV)/audit.json; status=0; \
	$(VENV)/audit/bin/pip-audit --path $$($(VENV)/bin/python -c 'import site; print(site.getsitepackages()[0])') \
	  --skip-editable --progress-spinner off --format json --output $(VENV)/audit.json 2>$(VENV)/audit.log || status=$$?; \
	found=$$(cat $(VENV)/audit.json 2>/dev/null | grep -o '"vulns"' | wc -l); \
	if [ "$$found" = 0 ]; then echo "audit: SKIPPED, no vulnerability service answered; see $(VENV)/audit.log"; exit 0; fi; \
	echo "audit: $$found of the installed packages were looked up"; \
	if [ "$$status" != 0 ]; then cat $(VENV)/audit.json; echo; fi; exit $$status

oldest: $(VENV)-oldest/test.stamp # their own deprecations are no failures of ours
	OMP_NUM_THREADS=1 $(VENV)-oldest/bin/python -m pytest -W default -p no:cacheprovider \
	  tests/integration/test_pipeline.py tests/integration/test_multiple_choice.py tests/unit/test_loading.py tests/unit/test_tables.py

FUZZ_SECONDS ?= 60
fuzz: $(VENV)/test.stamp
	$(VENV)/bin/python tests/fuzz/run.py --seconds $(FUZZ_SECONDS)

mutants: $(VENV)/test.stamp # half an hour; pyproject.toml says of what, docs/mutants.md what came of it
	$(VENV)/bin/python -m pip install --quiet --disable-pip-version-check mutmut
	CI=true OMP_NUM_THREADS=1 $(VENV)/bin/mutmut run
	CI=true OMP_NUM_THREADS=1 $(VENV)/bin/python tests/mutants/survivors.py

format: $(VENV)/test.stamp
	$(VENV)/bin/ruff check --fix .
	$(VENV)/bin/ruff format .

clean:
	rm -rf $(VENV) $(VENV)-oldest build dist src/*.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis

$(VENV)/bin/python:
	$(PYTHON) -m venv $(VENV)

$(VENV)/audit/bin/pip-audit: $(VENV)/bin/python
	$(PYTHON) -m venv $(VENV)/audit
	$(VENV)/audit/bin/python -m pip install --quiet --disable-pip-version-check pip-audit

$(VENV)-oldest/test.stamp: pyproject.toml constraints-oldest.txt
	$(PYTHON) -m venv $(VENV)-oldest
	$(VENV)-oldest/bin/python -m pip install --quiet --disable-pip-version-check --constraint constraints-oldest.txt \
	  --editable ".[demo]" hypothesis pytest pytest-timeout scipy
	@touch $@

$(VENV)/demo.stamp: $(VENV)/bin/python pyproject.toml constraints.txt
	@echo "Installing rait into $(VENV) (a few minutes the first time) ..."
	$(PIP) --editable ".[demo]"
	@touch $@

$(VENV)/test.stamp: $(VENV)/bin/python pyproject.toml constraints.txt
	@echo "Installing rait with its test tools into $(VENV) (a few minutes the first time) ..."
	$(PIP) --editable ".[test]"
	@touch $@ $(VENV)/demo.stamp
