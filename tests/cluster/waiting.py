"""Waiting for conditions, never for time. A deadline only bounds what would otherwise hang; TEST_SCALE stretches all
of them for slow machines and sanitizers. The pause in here is the one between two looks at a condition."""

import asyncio
import os
import time

SCALE = float(os.environ.get("TEST_SCALE", "1"))
# The long form of a test, which check.py --long asks for.
LONG = os.environ.get("LONG") == "1"
# What no single step may exceed. Elections after a crash have been seen to take 8 s.
STEP_S = 30
PAUSE_S = 0.02


class Skip(Exception):
    """A test cannot run here; the text says why, in one line."""


def scaled(seconds):
    """The seconds as this run wants them."""
    return seconds * SCALE


def _holds(value):
    # An index of 0 is an answer; a list of what was found, with nothing in it, is none.
    return value is not None and value is not False and value != []


def _text(what, condition):
    return what() if callable(what) else what or condition.__name__


def wait_until(condition, what=None, deadline_s=STEP_S):
    """Looks until the condition is something but None, False and [], and returns that. `what` is for the message: a
    text, or a function that makes one when it is needed."""
    until = time.monotonic() + scaled(deadline_s)
    while not _holds(value := condition()):
        assert time.monotonic() < until, f"waited {scaled(deadline_s):g} s in vain: {_text(what, condition)}"
        time.sleep(PAUSE_S)
    return value


async def becomes(condition, what=None, deadline_s=STEP_S):
    """The same where an event loop has to go on; the condition is a coroutine function."""
    until = time.monotonic() + scaled(deadline_s)
    while not _holds(value := await condition()):
        assert time.monotonic() < until, f"waited {scaled(deadline_s):g} s in vain: {_text(what, condition)}"
        await asyncio.sleep(PAUSE_S)
    return value


def for_a_while(seconds):
    """Lets load run, or a silence last: where what is tested is what happens in that time, and not that it is enough."""
    time.sleep(seconds)
