"""The demonstration, scripts/cluster.sh: it shows that it works, kills a server of each kind, and shows that it goes on."""

import os
import shutil
import socket
import subprocess

from brokers import ROOT
from namespaces import need_namespaces
from nodes import Node
from waiting import Skip

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


def hears(node):
    """It says that all have heard."""
    node.expect("^heard on nodes 1 2 3: hello from one$")
    node.expect("^heard on nodes 1 2 3: after a NATS server was killed$")
    node.expect("^heard on nodes 1 3: after a chat server was killed$")


def test_on_loopback():
    for number in (1, 2, 3):
        for port in (4222, 6222, 9000):
            with socket.socket() as probe:
                probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                try:
                    probe.bind((f"127.77.77.{number}", port))
                except OSError as error:
                    raise Skip(f"127.77.77.{number}:{port} is not free: {error.strerror}") from None
    with Node(SCRIPT, "--check", name="cluster.sh", env={"NAMESPACES": "0"}) as node:
        hears(node)
        assert node.wait() == 0


def test_in_namespaces():
    need_namespaces()
    apart = [shutil.which("unshare", path=PATH), "--net", "--mount", "--", "sh", "-c", APART, "sh"]
    tried = subprocess.run([*apart, "true"], capture_output=True, text=True, check=False, env={**os.environ, "PATH": PATH})
    if tried.returncode:
        raise Skip(f"no mounts of our own: {' '.join(tried.stderr.split())}")
    with Node(*apart, SCRIPT, "--check", name="cluster.sh", env={"NAMESPACES": "1", "PATH": PATH}) as node:
        hears(node)
        assert node.expect("^left:(.*)$")[1] == ""
        assert node.wait() == 0
