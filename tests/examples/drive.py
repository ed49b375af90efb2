"""Starts each example and talks to it with the clients that people use: nc, curl, socat, a Python socket.

Usage: drive.py EXAMPLES MIXED [NAME…]    the two folders with the built programs (see run.sh); only the tests
                                          whose names contain one of NAME
"""

import sys
import time

import conversations
import crowds
import first
import operation
import relay

TESTS = (*first.TESTS, *conversations.TESTS, *crowds.TESTS, *relay.TESTS, *operation.TESTS)


def main():
    wanted = sys.argv[3:]
    passed = failed = 0
    for test in TESTS:
        name = test.__name__.replace("_", " ")
        if wanted and not any(part in test.__name__ for part in wanted):
            continue
        started = time.monotonic()
        try:
            test()
            passed += 1
            verdict, detail = "ok  ", ""
        except Exception as error:
            failed += 1
            verdict, detail = "FAIL", f": {type(error).__name__}: {error}"
        print(f"{verdict} {name} ({time.monotonic() - started:.1f} s){detail}", flush=True)
    print(f"{passed} passed, {failed} failed", flush=True)
    return 1 if failed or not passed else 0


if __name__ == "__main__":
    sys.exit(main())
