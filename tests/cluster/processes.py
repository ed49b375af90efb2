"""Programs that a test starts, signals, and in any case gets rid of.

Three things see to the last: the end of a `with` block, the end of the interpreter, and for a test that is killed
itself the kernel, which kills whoever has asked for it by PR_SET_PDEATHSIG.
"""

import atexit
import os
import signal
import subprocess
from concurrent.futures import ThreadPoolExecutor

from waiting import STEP_S, scaled, wait_until

# The kernel kills when the starting *thread* ends, and that may be one of asyncio.to_thread. So one thread starts
# all programs, which lives as long as the interpreter. It also keeps them out of network namespaces that a test
# has entered (namespaces.py).
_starter = ThreadPoolExecutor(1, thread_name_prefix="starter")
_children = set()


@atexit.register
def _kill_all():
    for child in list(_children):
        child.close()


def alive(pid):
    """Whether there is such a process; one that was not buried yet is none."""
    try:
        with open(f"/proc/{pid}/stat", encoding="ascii", errors="replace") as stat:
            return stat.read().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


class Child:
    """A program in a process group of its own."""

    def __init__(self, command, name=None, **options):
        self.name = name or os.path.basename(command[0])
        self.frozen = False
        # Whether we wanted it to end.
        self.ended = False
        # By a program, since Python must not run code of ours between fork and exec while it has threads.
        command = ["setpriv", "--pdeathsig", "KILL", "--", *command]
        self.process = _starter.submit(subprocess.Popen, command, process_group=0, **options).result()
        _children.add(self)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    @property
    def pid(self):
        return self.process.pid

    @property
    def running(self):
        """Whether it has not ended; a frozen one runs."""
        return self.process.poll() is None

    def _signal_group(self, number):
        if self.running:
            os.killpg(self.pid, number)

    def kill(self):
        """kill -9, and it is gone when this returns."""
        self.ended = True
        self._signal_group(signal.SIGKILL)
        self.frozen = False
        return self.wait()

    def terminate(self, deadline_s=STEP_S):
        """Asks it to end, waits for that, and returns its exit code."""
        self.thaw()
        self.ended = True
        if self.running:
            self.process.terminate()
        return self.wait(deadline_s)

    def freeze(self):
        """SIGSTOP; all of its threads stand still when this returns."""
        self._signal_group(signal.SIGSTOP)
        self.frozen = True
        wait_until(self._stands_still, f"{self.name} stands still")

    def _stands_still(self):
        assert self.running, f"{self.name} ended with {self.process.returncode}"
        states = []
        for thread in os.listdir(f"/proc/{self.pid}/task"):
            try:
                with open(f"/proc/{self.pid}/task/{thread}/stat", encoding="ascii", errors="replace") as stat:
                    states.append(stat.read().rpartition(")")[2].split()[0])
            except (FileNotFoundError, ProcessLookupError):
                return False  # that thread has just ended: look again
        return set(states) == {"T"}

    def thaw(self):
        """SIGCONT, and nothing for one that is not frozen."""
        if self.frozen:
            self.frozen = False
            self._signal_group(signal.SIGCONT)

    def wait(self, deadline_s=STEP_S):
        """Its exit code, once it has ended by itself; negative for a signal."""
        try:
            return self.process.wait(scaled(deadline_s))
        except subprocess.TimeoutExpired:
            raise AssertionError(f"{self.name} still runs after {scaled(deadline_s):g} s") from None

    def close(self):
        """Ends it if it still runs, and whatever is in its group."""
        _children.discard(self)
        self.kill()
