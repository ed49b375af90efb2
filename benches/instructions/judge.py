#!/usr/bin/env python3
"""What a message costs, out of what callgrind has written for `make check-instructions`.

usage: judge.py check|write

Two runs of a scene differ in the number of their messages; what they differ in, divided by that, is what one costs.
Three things are looked at:
- instructions: at most 3 % more or less than in record.txt, which `write` makes anew;
- instructions that lock the bus, in whatever library: none. (Each lock of a mutex has one, too.)
- calls that get or give back memory: none.

Last line: "N passed, N failed", and what was skipped, because the record was made with other tools.
"""

import collections
import pathlib
import re
import subprocess
import sys

HERE = pathlib.Path(__file__).parent
RECORD = HERE / "record.txt"
RUNS = HERE.parent.parent / "target" / "gungraun"
TOLERANCE = 0.03
# Messages that come back in each round; the other scenes differ in what is sent.
ECHOED = {"echo": 1, "crowd": 50, "framed": 16}
ALLOCATORS = {"malloc", "free", "calloc", "realloc", "posix_memalign", "aligned_alloc", "memalign"}
# Less than one in so many messages is the clock's, or the growth of a buffer that stays.
RARE = 0.01


class Run:
    """One file of callgrind's."""

    def __init__(self, path):
        self.places = collections.Counter()  # instructions executed, by library and address
        self.allocations = 0
        library = called = None
        is_call = False
        for line in path.read_text().splitlines():
            if line.startswith("0x"):
                address, _, count = line.split()
                if not is_call:
                    self.places[library, int(address, 16)] += int(count)
                is_call = False
            elif line.startswith("ob="):
                library = line[3:]
            elif line.startswith("cfn="):
                called = line[4:]
            elif line.startswith("calls="):
                is_call = True
                if called in ALLOCATORS:
                    self.allocations += int(line[6:].split()[0])
            elif line.startswith("cmd:"):
                self.driver, self.scene, rounds, sends = line.split()[-4:]
                self.rounds, self.sends = int(rounds), int(sends)

    def messages(self):
        return self.rounds * ECHOED.get(self.scene, self.sends)


class Locking:
    """Which instructions lock: those that say so, and an exchange with memory."""

    def __init__(self):
        self.by_library = {}

    def addresses(self, library):
        if library not in self.by_library:
            self.by_library[library] = set(self.find(library)) if pathlib.Path(library).exists() else set()
        return self.by_library[library]

    @staticmethod
    def find(library):
        text = subprocess.run(["objdump", "-d", "--no-show-raw-insn", library], stdout=subprocess.PIPE, check=True)
        pattern = re.compile(rb"^ *([0-9a-f]+):\s+(?:lock|xchg +[^\n]*\()", re.MULTILINE)
        return (int(match[1], 16) for match in pattern.finditer(text.stdout))


def tools():
    """What the numbers depend on beside the sources."""
    commands = (["rustc", "--version"], ["getconf", "GNU_LIBC_VERSION"], ["valgrind", "--version"])
    said = (subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True) for command in commands)
    return ", ".join(done.stdout.strip() for done in said)


def measured():
    """By driver and scene: instructions, locking instructions, calls for memory; each for one message."""
    runs = collections.defaultdict(list)
    # The second thread is the worker.
    for path in RUNS.rglob("callgrind.*.t2.p1.out"):
        run = Run(path)
        runs[run.driver, run.scene].append(run)
    locking = Locking()
    found = {}
    for key, pair in runs.items():
        less, more = sorted(pair, key=Run.messages)
        messages = more.messages() - less.messages()
        instructions, locks = 0, 0
        for place in less.places.keys() | more.places.keys():
            count = more.places[place] - less.places[place]
            instructions += count
            if place[1] in locking.addresses(place[0]):
                locks += count
        found[key] = [number / messages for number in (instructions, locks, more.allocations - less.allocations)]
    return found


def write(found):
    lines = [
        "# Instructions for one message in the steady state, all libraries together. Written by `make instructions`;",
        "# what the scenes are: steady.c.",
        "tools: " + tools(),
    ]
    lines += [f"{driver} {scene} {numbers[0]:.0f}" for (driver, scene), numbers in sorted(found.items())]
    RECORD.write_text("\n".join(lines) + "\n")


def read_record():
    lines = [line for line in RECORD.read_text().splitlines() if not line.startswith("#")]
    numbers = (line.split() for line in lines[1:])
    return lines[0].removeprefix("tools: "), {(driver, scene): int(number) for driver, scene, number in numbers}


def judge(found):
    made_with, record = read_record()
    is_comparable = made_with == tools()
    passed, failed, skipped = 0, 0, 0
    if not any(driver == "uring" for driver, _ in found):
        print("skip: no io_uring here")
        left_out = [key for key in record if key[0] == "uring"]
        skipped += len(left_out)
        for key in left_out:
            del record[key]
    for key in sorted(record.keys() | found.keys()):
        instructions, locks, allocations = found.get(key, (0, 0, 0))
        recorded = record.get(key, 0)
        line = f"{' '.join(key):14} {instructions:7.0f} instructions, record {recorded}"
        wrong = []
        if key not in found or key not in record:
            wrong.append("not measured" if key not in found else "not in the record")
        elif is_comparable and abs(instructions - recorded) > TOLERANCE * recorded:
            wrong.append(f"{instructions / recorded - 1:+.1%}: find the cause, or renew the record (make instructions)")
        if locks > RARE:
            wrong.append(f"{locks:.2f} locking instructions for each message")
        if allocations > RARE:
            wrong.append(f"{allocations:.2f} calls for memory for each message")
        print(line + "".join(f"\n    {reason}" for reason in wrong))
        failed += bool(wrong)
        passed += not wrong
    if not is_comparable:
        skipped += len(found)
        print(f"skip: the record was made with {made_with}; here is {tools()}: no comparison of instructions")
    print(f"{passed} passed, {failed} failed" + (f", {skipped} skipped" if skipped else ""))
    return failed == 0


if __name__ == "__main__":
    numbers = measured()
    if sys.argv[1:] == ["write"]:
        write(numbers)
    sys.exit(0 if judge(numbers) else 1)
