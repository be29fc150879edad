# Aliases only: a bare machine has no make.
.PHONY: help setup test lint matrix bench demo check

help:
	@go run ./internal/dev 2>&1 | grep -v "^exit status"
	@echo 'make setup, test, lint, matrix and bench run these; make demo and make check run cmd/demo.'

setup test lint matrix bench:
	go run ./internal/dev $@

demo:
	go run ./cmd/demo

check:
	go run ./cmd/demo -check
