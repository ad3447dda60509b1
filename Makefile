# A thin front: each target is one command or one script, and says what it does.
# Nothing here asks a question; what is already there is skipped.

TARGET := $(or $(CARGO_TARGET_DIR),target)

.PHONY: help run test check fmt bench bench-peers ci

help: ## list the targets
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## /  make \1\t/' | expand -t 22
	@echo
	@echo "  make run ARGS='--listen 127.0.0.1:8080'   hands further options to gush serve"

run: ## install what is missing, build, start the hub on ./data and print what to try
	@.ci/setup.sh build
	cargo build --release --locked --package gush
	GUSH_DRAIN_WINDOW=$${GUSH_DRAIN_WINDOW:-2s} $(TARGET)/release/gush serve --dev --log disk:./data $(ARGS)

test: ## install what the tests need and run all of them
	@.ci/test.sh

check: ## the fast look while you work: types, lints, format, house rules
	cargo clippy --workspace --all-targets --locked -- -D warnings
	cargo fmt --all --check
	cargo xtask tidy

fmt: ## format the Rust code
	cargo fmt --all

bench: ## measure what a resume costs in short and long logs (EVENTS=1000000)
	cargo run --release --locked --package gush-log --example replay_cost -- $(or $(EVENTS),1000000)

bench-peers: ## measure gush beside its rivals on this machine, 25 minutes (QUICK=1: 8)
	@bench/peers/run.sh

ci: ## what has to pass before a change goes in
	@.ci/run
