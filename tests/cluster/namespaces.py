"""A network of hosts whose cables can be pulled: each host is a network namespace, and a bridge in one more joins them.

The namespaces have no names. A process holds each of them, and the kernel removes a namespace, with its interfaces,
when nothing runs in it any more: nothing is left even by a test that was killed, and two runs at the same time do
not see each other. The system's own interfaces and routes are never touched.
"""

import contextlib
import ctypes
import os
import shutil
import subprocess

from processes import Child
from waiting import STEP_S, Skip, scaled

_PATH = os.environ.get("PATH", "") + ":/usr/sbin:/sbin"
_CLONE_NEWNET = 0x40000000
_libc = ctypes.CDLL(None, use_errno=True)
# What a network needs of the kernel, in a namespace that is gone at once.
_TRY = "ip link add bridge type bridge && ip link add port type veth"
# Says when it is there; ends with us, since then its input does.
_HOLD = ("sh", "-c", "echo; exec cat")


def need_namespaces():
    """Skips the test where there can be none."""
    for tool in ("ip", "nsenter", "unshare"):
        if not shutil.which(tool, path=_PATH):
            raise Skip(f"no network namespaces: there is no {tool}")
    tried = subprocess.run(["unshare", "--net", "sh", "-c", _TRY], capture_output=True, text=True, check=False,
                           env={**os.environ, "PATH": _PATH})
    if tried.returncode:
        raise Skip(f"no network namespaces: {' '.join(tried.stderr.split())}")


class Network:
    """Hosts 0 to count - 1, all joined. Host i is 10.77.0.(i + 1), and 127.0.0.1 for itself."""

    def __init__(self, count):
        need_namespaces()
        self.count = count
        self.holders = []
        try:
            for i in range(count + 1):
                name = f"host {i}" if i < count else "the bridge"
                holder = Child(["unshare", "--net", "--", *_HOLD], name, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
                self.holders.append(holder)
            for holder in self.holders:
                assert holder.process.stdout.readline() == b"\n", f"{holder.name} has not started"
            self._join()
        except BaseException:
            self.close()
            raise

    def _join(self):
        bridge = self.count
        self.ip(bridge, "link add bridge type bridge", "link set bridge up")
        for i in range(self.count):
            self.ip(bridge, f"link add port{i} type veth peer name eth0 netns {self.holders[i].pid}",
                    f"link set port{i} master bridge up")
            self.ip(i, "link set lo up", f"address add {self.address(i)}/24 dev eth0", "link set eth0 up")

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def close(self):
        """Lets go of the namespaces. End what runs in them before."""
        for holder in self.holders:
            holder.close()
            holder.process.stdin.close()
            holder.process.stdout.close()
        self.holders = []

    def address(self, i):
        """Where the other hosts find it."""
        return f"10.77.0.{i + 1}"

    def command(self, i, *command):
        """The command that does this one in host i."""
        return [shutil.which("nsenter", path=_PATH), f"--net={self._namespace(i)}", "--", *command]

    def run(self, i, *command, text=None):
        """Runs a command in host i to its end; it has to succeed. Returns what it has printed."""
        done = subprocess.run(self.command(i, *command), input=text, capture_output=True, text=True, check=False,
                              timeout=scaled(STEP_S))
        assert done.returncode == 0, f"{command} in host {i}: exit {done.returncode}: {done.stderr}"
        return done.stdout

    def ip(self, i, *lines):
        """Commands for ip(8) in host i; host `count` is the one with the bridge."""
        self.run(i, shutil.which("ip", path=_PATH), "-batch", "-", text="\n".join(lines) + "\n")

    @contextlib.contextmanager
    def inside(self, i):
        """The sockets that this thread makes meanwhile are host i's, and stay so. A program that it starts is not
        there: for that there is `command`."""
        with open("/proc/thread-self/ns/net", "rb") as before, open(self._namespace(i), "rb") as there:
            _enter(there)
            try:
                yield
            finally:
                _enter(before)

    def cut(self, i):
        """Pulls the cable of host i: nothing reaches it and nothing leaves it, and nobody is told."""
        self.ip(self.count, f"link set port{i} down")

    def heal(self, i):
        """Puts it back."""
        self.ip(self.count, f"link set port{i} up")

    def _namespace(self, i):
        return f"/proc/{self.holders[i].pid}/ns/net"


def _enter(namespace):
    if _libc.setns(namespace.fileno(), _CLONE_NEWNET):
        number = ctypes.get_errno()
        raise OSError(number, f"setns: {os.strerror(number)}")
