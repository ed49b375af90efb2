"""Running it: metrics, a restart under load, socket activation."""

import contextlib
import os
import re
import signal
import socket
import sys
import tempfile
import threading

from harness import (
    DEADLINE, EXAMPLES, Program, connect, equal, example, free_port, nc, python, read_all, run,
)


def metrics_come_over_http():
    with example("metrics", "tcp://127.0.0.1:0", "tcp://127.0.0.1:0") as program:
        port, url = program.port(), f"http://127.0.0.1:{program.port()}/metrics"
        before = parsed(run("curl", "--silent", "--show-error", "--fail", url))
        equal(nc(port, b"hello"), b"hello")
        equal(python(port, b"again"), b"again")
        status = "%{http_code} %{content_type} %{size_download}"
        for version in ("--http1.0", "--http1.1"):
            command = ("curl", "--silent", "--show-error", "--fail", version, "--write-out", f"\n{status}", url)
            text, _, line = run(*command).decode().rpartition("\n")
            equal(line, f"200 text/plain; version=0.0.4 {len(text)}")
        after = parsed(text.encode())
        equal(set(after), set(before))
        grown = {name: after[name] - before[name] for name in after if after[name] != before[name]}
        for name, count in (("received_bytes", 10), ("sent_bytes", 10), ("connections_opened", 2)):
            found = [name_found for name_found in grown if name in name_found]
            assert found and sum(grown[each] for each in found) == count, f"{name}: {grown}"
        equal(program.end(signal.SIGINT), (0, b"", b""))


def parsed(text):
    """Name with labels → number. Every line has to be one that Prometheus takes."""
    samples = {}
    for line in text.decode().split("\n")[:-1]:
        if line.startswith("#"):
            assert re.fullmatch(r"# (HELP \w+ .+|TYPE \w+ (counter|gauge|histogram))", line), line
        else:
            match = re.fullmatch(r"(\w+(?:\{.*\})?) (\S+)", line)
            assert match and match[1] not in samples, line
            samples[match[1]] = float(match[2])
    assert samples, "no metrics"
    return samples


def metrics_turn_away_what_they_do_not_have():
    with example("metrics", "tcp://127.0.0.1:0", "tcp://127.0.0.1:0") as program:
        _, port = program.port(), program.port()
        status = ("curl", "--silent", "--write-out", "%{http_code}")
        equal(run(*status, f"http://127.0.0.1:{port}/"), b"404")
        equal(run(*status, "--data", "x=y", f"http://127.0.0.1:{port}/metrics"), b"404")
        equal(python(port, b"\n"), b"HTTP/1.0 404 Not Found\r\n\r\n")
        with connect(port) as client:  # more than a line may have
            with contextlib.suppress(ConnectionError):
                client.sendall(b"G" * 100000)
                read_all(client)
        equal(run(*status, "--output", "/dev/null", f"http://127.0.0.1:{port}/metrics"), b"200")
        equal(program.end(signal.SIGINT), (0, b"", b""))


def greeting(port):
    with connect(port) as client:
        return read_all(client)


class Load:
    """Clients that connect, read the greeting and begin again. Whatever goes wrong is kept in `failures`."""

    def __init__(self, port, threads_count=4):
        self.greetings, self.failures, self.changed, self.is_over = {}, [], threading.Condition(), False
        self.threads = [threading.Thread(target=self.repeat, args=(port,)) for _ in range(threads_count)]

    def repeat(self, port):
        while not self.is_over:
            try:
                text = greeting(port)
            except OSError as error:
                text = error
            with self.changed:
                if isinstance(text, bytes) and re.fullmatch(rb"Hello from \d+\n", text):
                    pid = int(text.split()[-1])
                    self.greetings[pid] = self.greetings.get(pid, 0) + 1
                else:
                    self.failures.append(text)
                self.changed.notify_all()

    def wait_for(self, pid, count):
        """Until the process has greeted so many more times; or until something has failed."""
        with self.changed:
            wanted = self.greetings.get(pid, 0) + count
            arrived = self.changed.wait_for(lambda: self.failures or self.greetings.get(pid, 0) >= wanted, DEADLINE)
        assert arrived, f"{pid} does not greet"
        equal(self.failures, [])

    def __enter__(self):
        for thread in self.threads:
            thread.start()
        return self

    def __exit__(self, *_):
        self.is_over = True
        for thread in self.threads:
            thread.join()


def restart_refuses_nobody_under_load():
    swaps, name = 8, f"ahoy-restart-{os.getpid()}"
    with contextlib.ExitStack() as stack:
        program = stack.enter_context(example("restart", "tcp://127.0.0.1:0", name))
        port = program.port()
        load = stack.enter_context(Load(port))
        served = [program.process.pid]
        for _ in range(swaps):
            load.wait_for(served[-1], 100)
            successor = stack.enter_context(example("restart", "tcp://127.0.0.1:0", name))
            equal(successor.port(), port)
            equal(program.end(), (0, b"", b""))  # it exits because of its successor
            program = successor
            served.append(program.process.pid)
        load.wait_for(served[-1], 100)
        equal(sorted(load.greetings), sorted(served))


def restart_goes_on_when_the_successor_fails():
    name = f"ahoy-restart-{os.getpid()}"
    with example("restart", "tcp://127.0.0.1:0", name) as program:
        port, expected = program.port(), b"Hello from %d\n" % program.process.pid
        for _ in range(3):
            with socket.socket(socket.AF_UNIX) as control:
                control.settimeout(DEADLINE)
                control.connect(f"\0{name}")
                _, fds, _, _ = socket.recv_fds(control, 64, 16)
                equal(len(fds), 2)  # one listener, and the control socket; both are dropped here
                for fd in fds:
                    os.close(fd)
            equal(greeting(port), expected)
        with example("restart", "tcp://127.0.0.1:0", name) as successor:
            equal(successor.port(), port)
            equal(program.end(), (0, b"", b""))
            equal(greeting(port), b"Hello from %d\n" % successor.process.pid)


def restart_gives_nothing_to_other_users():
    if os.geteuid() != 0:
        return  # only root can be somebody else
    name = f"ahoy-restart-{os.getpid()}"
    stranger = (
        "import os, socket, sys; os.setgid(65534); os.setuid(65534); control = socket.socket(socket.AF_UNIX)\n"
        "control.connect('\\0' + sys.argv[1]); print(len(socket.recv_fds(control, 64, 16)[1]))"
    )
    with example("restart", "tcp://127.0.0.1:0", name) as program:
        port = program.port()
        equal(run(sys.executable, "-c", stranger, name), b"0\n")
        equal(greeting(port), b"Hello from %d\n" % program.process.pid)


@contextlib.contextmanager
def activated(*command, names=()):
    """A program that systemd-socket-activate starts for its first client; its port, and where it notifies."""
    port = free_port()
    with tempfile.TemporaryDirectory() as folder, socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as notified:
        notified.bind(path := os.path.join(folder, "notify"))
        notified.settimeout(DEADLINE)
        options = [f"--fdname={name}" for name in names]
        listen = ("--listen", f"127.0.0.1:{port}", "--setenv", f"NOTIFY_SOCKET={path}")
        with Program("systemd-socket-activate", *listen, *options, *command) as program:
            program.wait_listening(port)
            yield program, port, notified


def systemd_starts_hello():
    with activated(os.path.join(EXAMPLES, "hello"), "systemd:", "Ahoy!") as (program, port, notified):
        equal(nc(port), b"Ahoy!")
        equal(notified.recv(4096).split(b"\n")[0], b"READY=1")
        equal(nc(port), b"Ahoy!")
        program.process.send_signal(signal.SIGTERM)
        equal(notified.recv(4096).split(b"\n")[0], b"STOPPING=1")
        equal(program.end()[:2], (0, b""))


def systemd_passes_sockets_by_name():
    with activated(os.path.join(EXAMPLES, "echo"), "systemd:talk", names=["talk"]) as (program, port, notified):
        equal(python(port, b"over and over"), b"over and over")
        equal(notified.recv(4096).split(b"\n")[0], b"READY=1")
        code, _, err = program.end(signal.SIGINT)
        equal(code, 0)
        assert f"echo: listening on tcp://127.0.0.1:{port}\n".encode() in err, err
        equal(notified.recv(4096).split(b"\n")[0], b"STOPPING=1")
    with activated(os.path.join(EXAMPLES, "echo"), "systemd:talk", names=["other"]) as (program, port, notified):
        with socket.socket() as client:
            client.connect_ex(("127.0.0.1", port))  # starts the program; that may end before this returns
            code, out, err = program.end()
        equal((code, out), (1, b""))
        assert b"\necho: " in err and b"talk" in err, err


def systemd_is_missed():
    with example("hello", "systemd:") as program:
        code, out, err = program.end()
        equal((code, out, err.startswith(b"hello: ")), (1, b"", True))


def wrong_arguments_get_a_usage():
    for name, *arguments in (
        ("settings",), ("settings", "--help"), ("settings", "a", "b"),
        ("greet_fd", "http"), ("greet_fd", ""), ("greet_fd", "-1"), ("greet_fd", "65536"), ("greet_fd", "0", "0"),
        ("render",), ("render", "alone"), ("render", "alone", "-h"), ("render", "paint", "x"),
        ("render", "client", "nats://127.0.0.1/art"), ("render", "node", "nats://127.0.0.1/art", "10"),
        ("render", "alone", "x", "0"), ("render", "alone", "x", "many"), ("render", "alone", "x", "1", "2"),
        ("watch",), ("watch", "-h"),
    ):
        with example(name, *arguments) as program:
            code, out, err = program.end()
            equal((code, out, err.startswith(b"usage: %s " % name.encode())), (2, b"", True))


TESTS = (
    metrics_come_over_http,
    metrics_turn_away_what_they_do_not_have,
    restart_refuses_nobody_under_load,
    restart_goes_on_when_the_successor_fails,
    restart_gives_nothing_to_other_users,
    systemd_starts_hello,
    systemd_passes_sockets_by_name,
    systemd_is_missed,
    wrong_arguments_get_a_usage,
)
