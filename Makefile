# Aliases only: a bare machine has no make.
.PHONY: help setup test nightly lint matrix bench demo check

help:
	@go run ./internal/dev 2>&1 | grep -v "^exit status"
	@echo 'make setup, test, nightly, lint, matrix and bench run these; make demo and make check run cmd/demo.'

setup test nightly lint matrix bench:
	go run ./internal/dev $@

demo:
	go run ./cmd/demo

check:
	go run ./cmd/demo -check
