"""The conversation with a program (nodes.py)."""

import asyncio
import sys

from nodes import Node
from processes import Child, alive
from waiting import wait_until

DEADLINE_S = 60

# Answers each line with two, and "bye" by its end.
ECHO = (sys.executable, "-c", """
import sys
print("ready", flush=True)
for line in sys.stdin:
    if line == "bye\\n":
        sys.exit(3)
    print("noise", f"heard {line.strip()}", sep="\\n", flush=True)
print("no more", file=sys.stderr)
""")


def fails(action, *arguments, **options):
    """The message of the failure."""
    try:
        action(*arguments, **options)
    except AssertionError as error:
        return str(error)
    raise AssertionError("it has not failed")


def test_conversation():
    with Node(*ECHO, name="echo") as node:
        node.expect("^ready$")
        node.send("one")
        assert node.expect(r"^heard (\w+)$")[1] == "one"
        assert node.skipped == ["noise"] and len(node.said("noise")) == 1
        node.send("two")
        # What it has had does not come again.
        assert "has not said 'one'" in fails(node.expect, "one", deadline_s=0.2)
        assert node.lines[-1] == "heard two"
        node.send("bye")
        assert node.wait() == 3
        assert "echo ended without 'x'; the last line was 'heard two'" == fails(node.expect, "x")
        assert "does not take" in fails(node.send, "three")


def test_end_of_input():
    with Node(*ECHO) as node:
        node.end_input()
        assert node.wait() == 0
    assert node.errors == ["no more"] and not node.running


def test_environment():
    with Node("sh", "-c", "echo $SHIP; echo $PATH", env={"SHIP": "Beagle"}) as node:
        node.expect("^Beagle$")
        node.expect(".")


def test_frozen():
    with Node(*ECHO) as node:
        node.expect("ready")
        node.freeze()
        node.send("one")
        assert "has not said" in fails(node.expect, "heard", deadline_s=0.2)
        node.thaw()
        node.expect("heard one")
        node.freeze()
        assert node.terminate() == -15


def test_killed():
    with Node(*ECHO) as node:
        node.freeze()
        assert node.kill() == -9 and not node.running
    with Node("sh", "-c", "sleep 1000 & echo $!; wait") as node:
        child = node.expect(r"^\d+$")[0]
    wait_until(lambda: not alive(child), "what it has started, in the same group, ends with it")


def test_started_by_a_thread_that_ends():
    async def start():
        return await asyncio.to_thread(Child, ["cat"], stdin=-1)

    with asyncio.run(start()) as child:
        assert child.running
        child.process.stdin.close()
        assert child.wait() == 0
