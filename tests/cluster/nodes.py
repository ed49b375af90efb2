"""A program that talks in lines: it is told by its standard input and answers on its standard output.

    with Node(program, brokers.url("chat")) as node:
        node.send("publish news hello")
        node.expect("^published")

In a host of a Network: Node(*network.command(0, program, …)). When the block ends with an error, what the program has
said is printed.
"""

import os
import re
import subprocess
import sys
import threading
import time

from processes import Child
from waiting import STEP_S, scaled

LINES_SHOWN = 40


class Node(Child):
    """The running program. A thread reads each of its outputs at all times, so that it never blocks for us."""

    def __init__(self, *command, name=None, env=None):
        self.changed = threading.Condition()
        # All lines so far; and those that an `expect` has passed over.
        self.lines, self.skipped, self.errors = [], [], []
        self.next = 0
        self.ended_output = False
        super().__init__([str(part) for part in command], name, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                         stderr=subprocess.PIPE, env={**os.environ, **(env or {})})
        self.readers = [threading.Thread(target=self._read, args=pair, daemon=True)
                        for pair in ((self.process.stdout, self.lines), (self.process.stderr, self.errors))]
        for reader in self.readers:
            reader.start()

    def _read(self, pipe, lines):
        for line in pipe:
            with self.changed:
                lines.append(line.decode(errors="replace").rstrip("\r\n"))
                self.changed.notify_all()
        with self.changed:
            self.ended_output = self.ended_output or lines is self.lines
            self.changed.notify_all()

    def __exit__(self, kind, *_):
        self.close()
        if kind is not None:
            self.print_lines()

    def close(self):
        """Ends it if it still runs."""
        super().close()
        for reader in self.readers:
            # One of its own children may still have the pipe; the thread then waits alone.
            reader.join(scaled(1))
        for pipe in (self.process.stdin, self.process.stdout, self.process.stderr):
            try:
                pipe.close()
            except OSError:
                pass  # what was not sent cannot be sent any more

    def send(self, line):
        """Tells it one line."""
        try:
            self.process.stdin.write(line.encode() + b"\n")
            self.process.stdin.flush()
        except OSError as error:
            raise AssertionError(f"{self.name} does not take {line!r}: {error}") from None

    def end_input(self):
        """Tells it that no more lines come."""
        self.process.stdin.close()

    def expect(self, pattern, deadline_s=STEP_S):
        """The next line with a match of the pattern (re.search), as the match. Lines before it go to `skipped`."""
        until = time.monotonic() + scaled(deadline_s)
        with self.changed:
            while True:
                while self.next < len(self.lines):
                    line = self.lines[self.next]
                    self.next += 1
                    if found := re.search(pattern, line):
                        return found
                    self.skipped.append(line)
                last = f"; the last line was {self.lines[-1]!r}" if self.lines else ""
                assert not self.ended_output, f"{self.name} ended without {pattern!r}{last}"
                left = until - time.monotonic()
                assert left > 0, f"{self.name} has not said {pattern!r} in {scaled(deadline_s):g} s{last}"
                self.changed.wait(left)

    def said(self, pattern):
        """The matches in all lines so far, also those that `expect` has had."""
        with self.changed:
            return [found for found in (re.search(pattern, line) for line in self.lines) if found]

    def print_lines(self):
        """What it has said last, for whoever looks for the reason of a failure."""
        with self.changed:
            for title, lines in (("output", self.lines), ("errors", self.errors)):
                print(f"--- {self.name}, exit {self.process.poll()}, the end of its {title}:", *lines[-LINES_SHOWN:],
                      sep="\n", file=sys.stderr)
