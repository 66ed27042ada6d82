# `make demo` and `make test` are all that a fresh machine with Python 3.11 needs.
# PYTHON=…  another interpreter      FACES=…  a folder of photographs      OUT=…  where the demo writes
# WORKERS=…  processes that test
OUT ?= runs/demo
FACES ?=
EXPORT ?= $(OUT)/export
WORKERS ?= 2
PYTHON ?= python3
run = .venv/bin/python -m
# Two workers that each ran torch on all processors would wait for each other.
pytest = OMP_NUM_THREADS=1 $(run) pytest
parallel = -n $(WORKERS) --dist loadgroup --no-loadscope-reorder
cache = $(or $(EDGEFIQA_CACHE),$(or $(XDG_CACHE_HOME),$(HOME)/.cache)/edgefiqa)
# mypy itself sees what has changed, so all checkouts share what it knows of the libraries.
export MYPY_CACHE_DIR = $(cache)/mypy
# onnxruntime carries telemetry.
export ORT_DISABLE_TELEMETRY = 1

.PHONY: help setup demo bench quantize test test-light test-fast coverage android-check arm latency-repeats mil-conformance lint format readme clean clean-test-cache

help:  ## show this
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 12

setup:  ## make .venv (installs everything that is pinned in constraints.txt, once)
	@scripts/setup

demo: setup  ## photographs → default student → every format, float and INT8 → latency, drift → report
	$(run) edgefiqa demo --out $(OUT) $(if $(FACES),--photos $(FACES))

bench: setup  ## latency and drift of the last demo's files again → benchmarks/records → README's tables
	rm -rf runs/bench
	$(run) edgefiqa study demo-files $(OUT) --out runs/bench
	$(run) edgefiqa study documents --demo $(OUT) --run runs/bench

quantize: setup  ## INT8 of the last `make demo` in every format: CALIBRATION=DIR EVALUATION=DIR
	$(run) edgefiqa quantize $(OUT)/export --calibration $(CALIBRATION) --evaluation $(EVALUATION)

test: setup  ## all tests
	$(pytest) $(parallel) --durations=20

# What runs where only edgefiqa[tflite,onnx], pytest, hypothesis and filelock are installed.
light = $(addprefix tests/, android benchmarks/arm benchmarks/latency/test_latency_table.py measuring \
    $(patsubst %,core/test_%.py, input_contract manifest metrics photo_files preprocess small_parts) \
    $(patsubst %,data/test_%.py, check label_files near_duplicates pack) \
    quantize/test_images.py quantize/vendor/test_run.py test_layout.py)

test-light:  ## the tests that need neither torch nor TensorFlow, with PYTHON
	$(PYTHON) -m pytest -m "not slow and not reference" $(light)

test-fast: setup  ## the tests that take seconds
	$(pytest) -m "not slow"

coverage: setup  ## line coverage of each stage, and the gaps; ARGS=… the tests, all if not given
	rm -rf build/coverage && mkdir -p build/coverage
	$(pytest) $(parallel) --cov --cov-report=json $(ARGS)
	.venv/bin/python scripts/coverage_table.py build/coverage/coverage.json

android-check: setup  ## scorer-core's tests on the JVM, the app's types, manifest, ktlint
	android_demo/check/run.sh

arm: setup  ## golden scores of EXPORT=DIR on emulated ARM processors, into runs/arm; needs Debian
	root=$$(benchmarks/arm/install.sh) && $(run) edgefiqa study arm $(EXPORT) --root "$$root" --out runs/arm

latency-repeats: setup  ## is A as fast as A, is 10 % seen? of EXPORT=DIR's ONNX file; OUT_RECORD=FILE measures anew
	$(run) edgefiqa study latency-repeats $(EXPORT)/default-student_288_fp32.onnx \
		--out $(or $(OUT_RECORD),benchmarks/records/latency_repeats.json)

mil-conformance: setup  ## coremltools' own op tests on the MIL reference evaluator; SAMPLE=40: every 40th
	$(run) edgefiqa study mil-conformance $(if $(SAMPLE),--sample $(SAMPLE))

lint: setup  ## ruff, mypy
	$(run) ruff format --check .
	$(run) ruff check .
	$(run) mypy

format: setup  ## format and mend what ruff can
	$(run) ruff format .
	$(run) ruff check --fix .

readme: setup  ## write the documents' tables from benchmarks/records, and the picture of the architecture
	$(run) edgefiqa study documents
	.venv/bin/python scripts/draw_architecture.py

clean-test-cache:  ## remove what tests kept for later runs (EDGEFIQA_TEST_CACHE=off: keep nothing)
	rm -rf $(cache)/tests

clean:  ## remove what was made here; the shared packages stay
	rm -rf .venv build dist runs .mypy_cache .ruff_cache .pytest_cache
