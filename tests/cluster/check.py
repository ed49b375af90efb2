"""Runs the tests of this folder: the functions test_* of the files test_*.py, each in a process of its own, and some at a
time (--jobs), since they mostly wait.

Each has a verdict, and the sum comes last. A test gets the seconds of its file (DEADLINE_S, and DEADLINE_LONG_S in
the long form; TEST_SCALE stretches both), is interrupted then, so that it can clean up, and killed if it does not end.
It has failed also if it leaves a process or a temporary file behind. It may raise waiting.Skip, may print lines
"note: …", which are shown with its verdict, and may be a coroutine function. One with a parameter `engine` is a test for
each of engines.ENGINES: NAME@nats and NAME@local, and NAME is both.
"""

import argparse
import asyncio
import ctypes
import fnmatch
import functools
import glob
import importlib
import inspect
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
import traceback
from concurrent.futures import ThreadPoolExecutor

HERE = os.path.dirname(os.path.abspath(__file__))
DEADLINE_S, DEADLINE_LONG_S = 120, 1200
JOBS = 3
# For the cleaning up of a test that was interrupted.
GRACE_S = 20
SKIPPED = 77
_PR_SET_CHILD_SUBREAPER = 36


class Interrupted(KeyboardInterrupt):
    """The one kind of error that an event loop passes on from wherever it happens to be."""


# --- The process of one test ---------------------------------------------------------------------


def run_one(test, seconds):
    """Runs it here and says how it went by the exit code."""
    from waiting import Skip  # it reads the environment, which main prepares

    def interrupt(number, _):
        # Only once: the cleaning up is not to be interrupted.
        signal.signal(signal.SIGALRM, signal.SIG_IGN)
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        raise Interrupted(f"not done after {seconds:g} s" if number == signal.SIGALRM else "interrupted")

    signal.signal(signal.SIGALRM, interrupt)
    signal.signal(signal.SIGTERM, interrupt)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        if inspect.iscoroutinefunction(test):
            asyncio.run(test())
        else:
            test()
        return 0
    except Skip as skip:
        print(f"skip: {skip}")
        return SKIPPED
    except BaseException:
        traceback.print_exc()
        return 1


# --- The process that sees to one test -----------------------------------------------------------


def children():
    """The processes that are ours, by number: what each one is."""
    found = {}
    for pid in filter(str.isdigit, os.listdir("/proc")):
        try:
            with open(f"/proc/{pid}/stat", encoding="ascii", errors="replace") as stat:
                parent = int(stat.read().rpartition(")")[2].split()[1])
            if parent == os.getpid():
                with open(f"/proc/{pid}/cmdline", encoding="utf-8", errors="replace") as command:
                    found[int(pid)] = command.read().replace("\0", " ").strip()
        except (FileNotFoundError, ProcessLookupError):
            pass
    return found


def reap():
    """Collects those that have ended; says whether any is left."""
    try:
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass
        return True
    except ChildProcessError:
        return False


def end_leftovers():
    """What is still ours after a test was started by it: ends that, and says what it was."""
    until = time.monotonic() + 2
    while reap() and time.monotonic() < until:
        os.sched_yield()  # the kernel may be about to kill them
    left = []
    while reap():
        for pid, command in children().items():
            left.append(command)
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
    return [command for command in left if command]


def run_apart(name, seconds):
    """Runs one test in a process and a temporary folder of its own. Its exit code, and what it has printed."""
    folder = tempfile.mkdtemp(prefix="ahoy-cluster-")
    command = ["setpriv", "--pdeathsig", "KILL", "--", sys.executable, "-B", os.path.abspath(__file__), "--one", name]
    try:
        with tempfile.TemporaryFile() as log:
            process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, process_group=0,
                                       env={**os.environ, "TMPDIR": folder})
            try:
                code = process.wait(seconds + GRACE_S)
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, signal.SIGKILL)
                code = process.wait()
            except BaseException:
                process.terminate()
                process.wait(GRACE_S)
                raise
            log.seek(0)
            lines = log.read().decode(errors="replace").splitlines()
        left = [f"still running: {each}" for each in end_leftovers()] + [f"left: {each}" for each in os.listdir(folder)]
        return (1 if left else code), lines + left
    finally:
        end_leftovers()
        shutil.rmtree(folder, ignore_errors=True)


def watch_over(name, seconds):
    """Runs one test and says how it went, by its verdict and by the exit code."""
    # Whatever it leaves running becomes a child of ours when it ends.
    ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, 1)
    begin = time.monotonic()
    code, lines = run_apart(name, seconds)
    notes = "".join(f": {line[len('note: '):]}" for line in lines if line.startswith("note: "))
    took = f"{name} {time.monotonic() - begin:.2f} s"
    if code == 0:
        print(f"ok {took}{notes}")
    elif code == SKIPPED:
        reasons = [line[len("skip: ") :] for line in lines if line.startswith("skip: ")]
        print(f"skip {name}: {reasons[-1]}")
    else:
        print(f"FAIL {took}", *(f"     | {line}" for line in lines), sep="\n")
    return code


# --- The process of all --------------------------------------------------------------------------


def collect(patterns):
    """The wanted tests by name, in the order of the files and of the lines in them."""
    tests = {}
    for path in sorted(glob.glob(os.path.join(HERE, "test_*.py"))):
        file = os.path.basename(path)[: -len(".py")]
        module = importlib.import_module(file)
        for function, test in vars(module).items():
            if not function.startswith("test_") or not inspect.isfunction(test) or test.__module__ != file:
                continue
            short = function[len("test_") :]
            name = f"{file[len('test_') :]}.{short}"
            also = (name, short, function, file, file[len("test_") :], f"{file}.py")
            for full, each in engines_of(name, test):
                if not patterns or any(fnmatch.fnmatchcase(one, os.path.basename(pattern))
                                       for one in (full, *also) for pattern in patterns):
                    tests[full] = each
    return tests


def engines_of(name, test):
    """A test, or one for each engine."""
    if "engine" not in inspect.signature(test).parameters:
        return [(name, test)]
    from engines import ENGINES  # it reads the environment, which main prepares

    return [(f"{name}@{engine}", functools.partial(test, begin)) for engine, begin in ENGINES.items()]


def seconds_of(test):
    """What its file gives it."""
    from waiting import LONG, scaled

    module = inspect.getmodule(test.func if isinstance(test, functools.partial) else test)
    return scaled(getattr(module, "DEADLINE_LONG_S", DEADLINE_LONG_S) if LONG else
                  getattr(module, "DEADLINE_S", DEADLINE_S))


def run_all(names, jobs):
    """Runs them, so many at a time, and ends with the sum."""
    # A process for each: it is told whose is what is left running.
    command = ["setpriv", "--pdeathsig", "TERM", "--", sys.executable, "-B", os.path.abspath(__file__), "--watch-over"]
    running, printing = set(), threading.Lock()

    def run(name):
        process = subprocess.Popen([*command, name], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE)
        running.add(process)
        output = process.communicate()[0]
        running.discard(process)
        with printing:
            sys.stdout.write(output.decode(errors="replace"))
            sys.stdout.flush()
        return process.returncode

    with ThreadPoolExecutor(jobs) as pool:
        try:
            codes = list(pool.map(run, names))
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            for process in list(running):
                process.terminate()
            raise
    passed, skipped = codes.count(0), codes.count(SKIPPED)
    failed = len(codes) - passed - skipped
    print(f"{passed} passed, {failed} failed" + (f", {skipped} skipped" if skipped else ""), flush=True)
    return 1 if failed else 0


def main():
    """The command line."""
    parser = argparse.ArgumentParser(prog="run.sh", description="Runs the tests with real brokers.")
    parser.add_argument("names", nargs="*", help="tests, files of tests, or patterns of them; otherwise all")
    parser.add_argument("--server", choices=("current", "debian"), help="whose nats-server (default: current)")
    parser.add_argument("--long", action="store_true", help="the long form, for those that have one")
    parser.add_argument("--list", action="store_true", help="only name the tests")
    parser.add_argument("--jobs", type=int, default=JOBS, metavar="N", help=f"so many at a time (default: {JOBS})")
    parser.add_argument("--one", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--watch-over", action="store_true", help=argparse.SUPPRESS)
    wanted = parser.parse_args()
    if wanted.server:
        os.environ["BROKERS"] = wanted.server
    if wanted.long:
        os.environ["LONG"] = "1"
    tests = collect(wanted.names)
    if not tests:
        parser.error(f"no test is named {' or '.join(wanted.names)}")
    if wanted.list:
        print(*tests, sep="\n")
        return 0
    # A shell that starts us in the background has it ignored, and so would all that we start.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    if wanted.one:
        [test] = tests.values()
        return run_one(test, seconds_of(test))
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    if wanted.watch_over:
        [(name, test)] = tests.items()
        return watch_over(name, seconds_of(test))
    return run_all(list(tests), wanted.jobs)


if __name__ == "__main__":
    sys.exit(main())
