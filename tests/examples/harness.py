"""What the tests of the examples share: running programs, the clients that people use, addresses.

Every wait is for a condition (the line that tells the address, a listening socket, the end of a program).
DEADLINE only bounds what would otherwise hang: a program that is still there by then is killed, and its
test fails.
"""

import contextlib
import fcntl
import os
import socket
import subprocess
import sys
import tempfile
import threading
import time

DEADLINE = 60
EXAMPLES, MIXED = sys.argv[1:3]


class Program:
    """A running example. Leaving the `with` block kills it if it still runs."""

    def __init__(self, path, *arguments):
        self.process = subprocess.Popen(
            [path, *arguments], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE
        )
        self.watchdog = threading.Timer(DEADLINE, self.process.kill)
        self.watchdog.start()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.watchdog.cancel()
        self.process.kill()
        self.process.wait()
        for pipe in (self.process.stdin, self.process.stdout, self.process.stderr):
            with contextlib.suppress(OSError):
                pipe.close()

    def address(self):
        """The URL or port from the line "NAME: listening on …"."""
        line = self.process.stderr.readline().decode()
        assert " listening on " in line, f"no address but {line!r}"
        return line.rsplit(" ", 1)[1].strip()

    def port(self):
        return int(self.address().rsplit(":", 1)[-1])

    def wait_listening(self, port):
        """For the programs that print no address: until the system lists their port."""
        wanted = f":{port:04X} 00000000:0000 0A"  # 0A: LISTEN
        while True:
            with open("/proc/net/tcp", encoding="ascii") as table:
                if wanted in table.read():
                    return
            code = self.process.poll()
            assert code is None, f"exited with {code}: {self.process.stderr.read().decode()}"

    def line(self):
        """The next line of the standard output, without its end."""
        line = self.process.stdout.readline()
        assert line.endswith(b"\n"), f"ended after {line!r}"
        return line.rstrip(b"\r\n")

    def say(self, data):
        self.process.stdin.write(data)
        self.process.stdin.flush()

    def end(self, signal_number=None):
        """Exit code, stdout and stderr, after a signal if one is given and the end of stdin otherwise."""
        if signal_number is not None:
            self.process.send_signal(signal_number)
        out, err = self.process.communicate()
        return self.process.returncode, out, err


def example(name, *arguments):
    return Program(os.path.join(EXAMPLES, name), *arguments)


def equal(actual, expected):
    assert actual == expected, f"{actual!r} instead of {expected!r}"


def run(*command, data=b"hi"):
    """The output of a foreign client, which has to succeed."""
    done = subprocess.run(command, input=data, capture_output=True, timeout=DEADLINE, check=False)
    assert done.returncode == 0, f"{command[0]} exited with {done.returncode}: {done.stderr.decode()}"
    return done.stdout


def nc(port, data=b"hi"):
    return run("nc", "-N", "127.0.0.1", str(port), data=data)


def socat(port, data=b"hi"):
    return run("socat", "-t", str(DEADLINE), "-", f"TCP:127.0.0.1:{port}", data=data)


def curl(port, data=b"hi"):
    return run("curl", "--silent", "--no-buffer", f"telnet://127.0.0.1:{port}", data=data)


def connect(port):
    return socket.create_connection(("127.0.0.1", port), timeout=DEADLINE)


class Lines:
    """A socket as a conversation in lines."""

    def __init__(self, port):
        self.socket = connect(port)
        self.reader = self.socket.makefile("rb")
        self.name = "tcp://127.0.0.1:%d" % self.socket.getsockname()[1]

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.reader.close()
        self.socket.close()

    def say(self, data):
        self.socket.sendall(data)

    def line(self):
        line = self.reader.readline()
        assert line.endswith(b"\n"), f"ended after {line!r}"
        return line.rstrip(b"\r\n")


@contextlib.contextmanager
def sending(client, data, piece_bytes=65536):
    """Meanwhile sends `data` from a thread of its own, and then ends our side."""

    def send():
        with contextlib.suppress(OSError):  # the other side will be found to have got less
            for start in range(0, len(data), piece_bytes):
                client.sendall(data[start : start + piece_bytes])
            client.shutdown(socket.SHUT_WR)

    thread = threading.Thread(target=send)
    thread.start()
    try:
        yield
    finally:
        thread.join()


def read_all(client):
    return b"".join(iter(lambda: client.recv(65536), b""))


def python(port, data=b"hi"):
    with connect(port) as client:
        client.sendall(data)
        client.shutdown(socket.SHUT_WR)
        return read_all(client)


CLIENTS = (nc, socat, curl, python)


def wait_until(condition):
    """Until it is true, for what nobody tells us of: a change in /proc."""
    deadline = time.monotonic() + DEADLINE
    while not condition():
        assert time.monotonic() < deadline, f"still not: {condition.__name__}"
        os.sched_yield()


def resident_bytes_max(process):
    """The most memory that a process has had so far (VmHWM)."""
    with open(f"/proc/{process.pid}/status", encoding="ascii") as status:
        return 1024 * int(next(line.split()[1] for line in status if line.startswith("VmHWM:")))


def free_port():
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return listener.getsockname()[1]


@contextlib.contextmanager
def port_8888():
    """One test run at a time on this machine: the default port is the same for all."""
    with open(os.path.join(tempfile.gettempdir(), "ahoy-port-8888.lock"), "w", encoding="ascii") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield 8888
