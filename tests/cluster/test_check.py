"""The runner itself (check.py), with tests of which some fail."""

import os
import re
import shutil
import subprocess
import sys
import tempfile

DEADLINE_S = 120
HERE = os.path.dirname(os.path.abspath(__file__))

SAMPLE = '''
import os, signal, subprocess, tempfile
from processes import Child
from waiting import LONG, Skip, wait_until
DEADLINE_S = 3

def test_good():
    print("note: all is well")

async def test_good_too():
    pass

def test_bad():
    assert not "this line"

def test_elsewhere():
    raise Skip("not on a Friday")

def test_endless():
    with tempfile.TemporaryDirectory() as folder:
        wait_until(lambda: False)

async def test_endless_too():
    import asyncio
    await asyncio.Event().wait()

def test_left_running():
    subprocess.Popen(["cat"], stdin=os.open("/dev/ptmx", os.O_RDWR), process_group=0)

def test_left_to_us():
    Child(["cat"], stdin=subprocess.PIPE)

def test_left_file():
    tempfile.mkstemp(suffix="left")

def test_killed():
    os.kill(os.getpid(), signal.SIGKILL)

def test_long():
    assert LONG, "short"
'''


def run(*arguments):
    """Runs the sample with the runner; its lines, and its exit code."""
    with tempfile.TemporaryDirectory() as folder:
        for name in ("check.py", "processes.py", "waiting.py"):
            shutil.copy(os.path.join(HERE, name), folder)
        with open(os.path.join(folder, "test_sample.py"), "w", encoding="ascii") as file:
            file.write(SAMPLE)
        environment = {name: value for name, value in os.environ.items() if name not in ("LONG", "TEST_SCALE")}
        done = subprocess.run([sys.executable, "-B", os.path.join(folder, "check.py"), *arguments], check=False,
                              stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=environment)
        return done.stdout.splitlines(), done.returncode


def test_verdicts():
    lines, code = run()
    text = "\n".join(lines)
    verdicts = {line.split()[1]: line for line in lines if re.match("(ok|FAIL|skip) ", line)}
    assert code == 1 and lines[-1] == "3 passed, 7 failed, 1 skipped", text
    assert re.fullmatch(r"ok sample\.good \d+\.\d\d s: all is well", verdicts["sample.good"]), text
    assert verdicts["sample.good_too"].startswith("ok ") and verdicts["sample.left_to_us"].startswith("ok "), text
    assert verdicts["sample.elsewhere:"] == "skip sample.elsewhere: not on a Friday", text
    assert sum(verdict.startswith("FAIL ") for verdict in verdicts.values()) == 7, text
    assert text.count("Interrupted: not done after 3 s") == 2, text
    assert "     | AssertionError" in lines and "     | still running: cat" in lines, text
    assert any(re.match(r"     \| left: .*left$", line) for line in lines), text


def test_choice():
    assert run("--list", "go*", "sample.bad")[0] == ["sample.good", "sample.good_too", "sample.bad"]
    assert run("good*")[0][-1] == "2 passed, 0 failed" and run("good*")[1] == 0
    assert len(run("--list", "test_sample.py")[0]) == 11
    lines, code = run("nothing")
    assert code == 2 and "no test is named nothing" in lines[-1]
    assert run("--long", "long")[1] == 0 and run("long")[1] == 1
