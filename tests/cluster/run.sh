#!/usr/bin/env bash
# Runs the tests with real brokers: starts nats-servers on loopback or in network namespaces, and breaks them.
# usage: run.sh [--server current|debian] [--long] [--list] [NAME…]      after `make check-cluster` has installed what
#                            it needs. NAME: a test, a file of tests or a pattern; see check.py
set -euo pipefail

cd "$(dirname "$0")/../.."
exec target/python/bin/python -B tests/cluster/check.py "$@"
