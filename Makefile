# Everything that anybody runs here; `make` lists it. On a machine without make: `sh setup.sh TARGET`.

PYTHON ?= $(or $(wildcard /usr/bin/python3),python3)
VENV := .venv
BIN := $(VENV)/bin
STAMPS := $(VENV)/stamps
PIP := $(BIN)/pip --quiet --disable-pip-version-check
C_FILES := $(wildcard csrc/*.c csrc/*.h tests/c/*.c tests/c/*.h benchmarks/*.c)
SOURCES := pyproject.toml setup.py csrc/build.py $(wildcard csrc/*.c csrc/*.h) \
	$(shell find engine cli -name '*.py' -o -name py.typed)
PYTHON_FILES := engine cli csrc tests benchmarks docs setup.py
SANITIZE := -std=gnu11 -g -O1 -Wall -Wextra -Werror -fno-omit-frame-pointer -pthread

.PHONY: help
help: ## List the targets
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/\1|\2/p' $(firstword $(MAKEFILE_LIST)) | while IFS='|' read -r name what; do \
		printf '  make %-12s %s\n' "$$name" "$$what"; done

.PHONY: setup
setup: ## Install the Debian packages that are missing
	@sh setup.sh

$(STAMPS)/venv: setup.sh
	@sh setup.sh
	$(PYTHON) -m venv $(VENV)
	@mkdir -p $(STAMPS) && touch $@

$(STAMPS)/build: $(SOURCES) $(STAMPS)/venv
	$(PIP) install .
	@rm -rf build dnet.egg-info
	@touch $@

# Each extra of pyproject.toml (test, lint, bench) is installed when a target first needs it.
$(STAMPS)/extra-%: pyproject.toml $(STAMPS)/build
	$(PIP) install '.[$*]'
	@rm -rf build dnet.egg-info
	@touch $@

.PHONY: build
build: $(STAMPS)/build ## Build dnet into .venv (.venv/bin/dnet)

.PHONY: demo
demo: build ## Create 500 container networks for real, look at them, remove them
	@sh docs/demo.sh $(BIN)/dnet

.PHONY: test
test: lint types check-bpf test-c fuzz test-python ## Everything: lint, types, C under sanitizers and fuzzed, Python tests on the real kernel

# Most tests wait for programs and the kernel; those of one file share what they start, a dockerd say.
# In their order, so that what takes minutes comes first and the quick ones without a kernel fill what is left.
PARALLEL ?= -n 4 --dist loadfile --no-loadscope-reorder

.PHONY: test-python
test-python: build $(STAMPS)/extra-test $(STAMPS)/extra-vm
	$(BIN)/python -m pytest $(PARALLEL)

.PHONY: test-pure
test-pure: build $(STAMPS)/extra-test ## The tests that need neither root nor a kernel
	$(BIN)/python -m pytest $(PARALLEL) -m 'not kernel'

.PHONY: test-kernel
test-kernel: build $(STAMPS)/extra-test $(STAMPS)/extra-vm ## The tests on the real kernel (root)
	$(BIN)/python -m pytest $(PARALLEL) -m kernel

.PHONY: test-c
test-c: $(STAMPS)/test-core-asan $(STAMPS)/test-core-tsan ## The C core under ASan, UBSan and TSan
	$(STAMPS)/test-core-asan
	$(STAMPS)/test-core-tsan

TEST_C := $(wildcard tests/c/test_*.c) $(filter-out csrc/bridge_vlan.bpf.c,$(wildcard csrc/*.c))
$(STAMPS)/test-core-asan: $(TEST_C) $(wildcard csrc/*.h tests/c/*.h) $(STAMPS)/venv
	gcc $(SANITIZE) -fsanitize=address,undefined -fno-sanitize-recover=all -Icsrc $(TEST_C) -o $@
$(STAMPS)/test-core-tsan: $(TEST_C) $(wildcard csrc/*.h tests/c/*.h) $(STAMPS)/venv
	gcc $(SANITIZE) -fsanitize=thread -Icsrc $(TEST_C) -o $@

# Two minutes. The others of tests/kernel/vlan/ run there as well, in some ten minutes more.
VM_TESTS ?= tests/kernel/vlan/test_filtering_bridge.py

.PHONY: test-vm
test-vm: build $(STAMPS)/extra-test $(STAMPS)/extra-vm ## What this kernel's bridges lack: tests on Debian's, in a virtual machine
	sh tests/vm.sh $(VENV)/vm $(BIN)/python $(VM_TESTS)

# Another compiler makes other instructions of the same source: the one of Debian 12, wherever this runs.
BPF_CLANG := clang-14
BPF_OBJECT := $(STAMPS)/bridge_vlan.bpf.o
$(BPF_OBJECT): csrc/bridge_vlan.bpf.c csrc/dnet.cdef.h $(STAMPS)/venv
	$(BPF_CLANG) -target bpf -mcpu=v3 -O2 -ffreestanding -nostdlibinc -Wall -Wextra -Werror -c $< -o $@

.PHONY: bpf
bpf: $(BPF_OBJECT) ## Compile csrc/bridge_vlan.bpf.c into csrc/bridge_vlan.bpf.h, which is checked in (clang-14)
	$(BIN)/python csrc/bpf_header.py $< >csrc/bridge_vlan.bpf.h

.PHONY: check-bpf
check-bpf: $(STAMPS)/venv ## Prove that csrc/bridge_vlan.bpf.h is what csrc/bridge_vlan.bpf.c gives (clang-14)
	@if command -v $(BPF_CLANG) >/dev/null || [ "$$CI" = true ]; then \
		$(MAKE) --no-print-directory $(BPF_OBJECT) && \
		$(BIN)/python csrc/bpf_header.py $(BPF_OBJECT) | diff -u csrc/bridge_vlan.bpf.h -; \
	else echo "check-bpf: skipped, without $(BPF_CLANG) (the compiler of Debian 12)"; fi

FUZZ_SECONDS ?= 10
FUZZ := -fsanitize=address,undefined -fno-sanitize-recover=all -Icsrc tests/c/fuzz_frame.c csrc/frame.c \
	-o $(STAMPS)/fuzz-frame

.PHONY: fuzz
fuzz: $(STAMPS)/venv ## Fuzz frame.c: FUZZ_SECONDS (10) of libFuzzer, without clang 5,000,000 random frames
	@clang=$$(command -v $(BPF_CLANG) || echo clang); \
	if $$clang $(SANITIZE) -fsanitize=fuzzer -DDNET_LIBFUZZER $(FUZZ) 2>$(STAMPS)/fuzz-frame.log; then \
		cd $(STAMPS) && ./fuzz-frame -max_total_time=$(FUZZ_SECONDS) -verbosity=0 -print_final_stats=1 \
			2>fuzz-frame.log || { cat fuzz-frame.log >&2; exit 1; }; \
		sed -n 's/^stat::number_of_executed_units: */frame.c: inputs of libFuzzer, all as the model says: /p' fuzz-frame.log; \
	elif [ "$$CI" = true ]; then cat $(STAMPS)/fuzz-frame.log >&2; exit 1; \
	else gcc $(SANITIZE) $(FUZZ) && $(STAMPS)/fuzz-frame 5000000; fi

.PHONY: lint
lint: $(STAMPS)/extra-lint ## ruff and clang-format
	$(BIN)/ruff check --quiet $(PYTHON_FILES)
	$(BIN)/ruff format --quiet --check $(PYTHON_FILES)
	$(BIN)/clang-format --dry-run --Werror $(C_FILES)

.PHONY: format
format: $(STAMPS)/extra-lint ## Rewrite the sources as the linters want them
	$(BIN)/ruff check --quiet --fix $(PYTHON_FILES)
	$(BIN)/ruff format --quiet $(PYTHON_FILES)
	$(BIN)/clang-format -i $(C_FILES)

.PHONY: types
types: $(STAMPS)/extra-lint ## mypy --strict
	$(BIN)/mypy --no-error-summary

.PHONY: bench
bench: build $(STAMPS)/extra-bench ## Measure against the peers and the kernel's floor (root)
	$(BIN)/python -m benchmarks
	$(BIN)/python -m benchmarks.frames
	$(BIN)/python -m benchmarks.vlans

.PHONY: wheel
wheel: $(STAMPS)/venv ## Build the wheel into dist/
	$(PIP) wheel --no-deps --wheel-dir dist .
	@rm -rf build dnet.egg-info

.PHONY: clean
clean: ## Remove what was built
	rm -rf $(VENV) build dist dnet.egg-info .mypy_cache .ruff_cache .pytest_cache
