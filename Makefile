# The short way to everything: see README.md. CMake and its presets do the work.
#   make build PRESET=dev      another preset of CMakePresets.json
#   make test TESTS=parallel   only the tests whose name matches
PRESET ?= release
BUILD := $(if $(filter release,$(PRESET)),build,build-$(PRESET))
JOBS ?= $(shell nproc)
TESTS ?= .

.PHONY: quickstart finetune build all test test-asan bench deps format check-format install clean
.DEFAULT_GOAL := build

quickstart: build
	@scripts/quickstart.sh

# SmolLM2-135M from its GGUF file, fine-tuned on the CPU.
finetune: build
	@scripts/finetune.sh

deps:
	@scripts/install_dependencies.sh

$(BUILD)/build.ninja: | deps
	@cmake --preset $(PRESET)

build: deps $(BUILD)/build.ninja
	@cmake --build $(BUILD) --parallel $(JOBS) --target megatron_program

all: deps $(BUILD)/build.ninja
	@cmake --build $(BUILD) --parallel $(JOBS)

test: all
	@ctest --test-dir $(BUILD) --output-on-failure --parallel 2 --no-tests=error -R '$(TESTS)'

# MEGATRON_SANITIZER_TESTS of tests/CMakeLists.txt, under the address and undefined-behaviour sanitizers.
test-asan: deps
	@$(MAKE) --no-print-directory all PRESET=asan
	@ctest --preset asan

bench: all
	@benchmarks/run.sh $(BUILD)

format:
	@scripts/check_format.sh --fix

check-format:
	@scripts/check_format.sh

install: all
	@cmake --install $(BUILD) $(if $(PREFIX),--prefix $(PREFIX))

# What the build, the quickstart and the fine-tuning made; the environment with libtorch stays (rm -rf .venv).
clean:
	@rm -rf build build-dev build-debug build-asan build-cuda runs/quickstart runs/finetune
