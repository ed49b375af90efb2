"""The demonstration, scripts/cluster.sh: it shows that it works, kills a server of each kind, and shows that it goes on."""

import os
import shutil
import signal
import socket
import subprocess

from brokers import ROOT
from namespaces import need_namespaces
from nodes import Node
from processes import alive
from waiting import Skip, wait_until

DEADLINE_S = 120
SCRIPT = f"{ROOT}/scripts/cluster.sh"
PATH = os.environ.get("PATH", "") + ":/usr/sbin:/sbin"
# Hosts that nobody else sees, and that are gone with us; and then what the script has left of its own there. The loopback
# is down, so that there is no other way than by them.
APART = """
mount -t tmpfs none /run && mkdir /run/netns || exit
"$@"
code=$?
# The kernel takes a moment for the cables of hosts that are gone.
tries=0
while left="$(ip -brief link show type bridge; ip -brief link show type veth; ls /run/netns)"; [ -n "$left" ]; do
    tries=$((tries + 1))
    [ $tries -lt 200 ] || break
    sleep 0.05
done
echo "left:" $left
exit $code
"""


# A network of our own, too; somebody else has the name of the bridge there.
TAKEN = """
ip link add ahoy-demo type bridge || exit
"$@"
echo "exit $?"
ip -brief link show ahoy-demo
"""
# May it make no namespaces, it says so.
WITHOUT_RIGHTS = ("setpriv", "--bounding-set=-net_admin,-sys_admin", "--")


def hears(node):
    """It says that all have heard, and nothing besides."""
    node.expect("^heard on nodes 1 2 3: hello from one$")
    node.expect("^heard on nodes 1 2 3: after a NATS server was killed$")
    node.expect("^heard on nodes 1 3: after a chat server was killed$")


def need_loopback():
    """Skips the test where somebody else has the addresses."""
    for number in (1, 2, 3):
        for port in (4222, 6222, 9000):
            with socket.socket() as probe:
                probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                try:
                    probe.bind((f"127.77.77.{number}", port))
                except OSError as error:
                    raise Skip(f"127.77.77.{number}:{port} is not free: {error.strerror}") from None


def run(*command, **options):
    """Runs a command to its end: its exit code, its output and its errors."""
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=DEADLINE_S,
                          stdin=subprocess.DEVNULL, **options)
    return done.returncode, done.stdout, done.stderr


def test_usage():
    code, said, errors = run(SCRIPT, "--help")
    assert (code, errors) == (0, "") and "usage: cluster.sh [--check]" in said, (code, said, errors)
    for wrong in (["--chekc"], ["--check", "more"], [""]):
        code, said, errors = run(SCRIPT, *wrong)
        assert (code, said) == (2, "") and errors.startswith("usage: cluster.sh [--check]"), (code, said, errors)
    # Asking for the options of the tests installs and builds nothing.
    code, said, errors = run("make", "-n", "-C", ROOT, "check-cluster", "CLUSTER=--help")
    assert code == 0 and "need.sh" not in said and "run.sh --help" in said, (code, said, errors)


def test_on_loopback():
    """One after the other: the addresses are the same."""
    need_loopback()
    without_namespaces()
    if os.geteuid() == 0:
        without_rights()


def without_namespaces():
    with Node(SCRIPT, "--check", name="cluster.sh", env={"NAMESPACES": "0"}) as node:
        hears(node)
        assert node.wait() == 0
        # Not even that somebody was killed.
        assert node.errors == []


def without_rights():
    """It tells why there are no namespaces, what comes back how, and ends when it is told so."""
    with Node(*WITHOUT_RIGHTS, SCRIPT, name="cluster.sh", env={"NAMESPACES": "1", "PATH": PATH}) as node:
        nats = int(node.expect("kill -9 ([0-9]+) +# nats2$")[1])
        node.expect(r"nats-server -c /\S+/nats2\.conf$")
        node.expect(r"build/chat tcp://127\.77\.77\.3:9000 nats://")
        node.expect("^Ctrl-C here ends")
        assert any("instead of namespaces:" in line and "not permitted" in line for line in node.errors), node.errors
        os.kill(nats, signal.SIGKILL)
        wait_until(lambda: not alive(nats), "a NATS server is gone")
        node.process.send_signal(signal.SIGINT)
        assert node.wait() == 0
        assert len(node.errors) == 1, node.errors


def apart(script):
    """The command that runs another in a network of its own, with what the script does before and after."""
    need_namespaces()
    command = [shutil.which("unshare", path=PATH), "--net", "--mount", "--", "sh", "-c", script, "sh"]
    code, _, errors = run(*command[:-2], APART, "sh", "true", env={**os.environ, "PATH": PATH})
    if code:
        raise Skip(f"no mounts of our own: {' '.join(errors.split())}")
    return command


def test_in_namespaces():
    with Node(*apart(APART), SCRIPT, "--check", name="cluster.sh", env={"NAMESPACES": "1", "PATH": PATH}) as node:
        hears(node)
        assert node.expect("^left:(.*)$")[1] == ""
        assert node.wait() == 0


def test_beside_another():
    code, said, errors = run(*apart(TAKEN), SCRIPT, "--check", env={**os.environ, "NAMESPACES": "1", "PATH": PATH})
    assert code == 0 and said.startswith("exit 1\nahoy-demo "), (code, said, errors)
    assert errors.count("\n") == 1 and "another one runs" in errors, errors
