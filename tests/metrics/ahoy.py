"""As much of libahoy, by ctypes, as the check of its metrics needs."""

import ctypes
import socket
import sys
import time
from ctypes import CFUNCTYPE, POINTER, byref, c_char_p, c_int32, c_size_t, c_uint32, c_uint64, c_void_p

# As in `framing`.
LINES = 2
# No step takes longer, or something hangs.
DEADLINE_S = 120


class Handle(ctypes.Structure):
    """A server or a connection."""

    _fields_ = [("id", c_uint64)]


MessageFn = CFUNCTYPE(None, Handle, c_void_p, c_size_t, c_void_p)


class Options(ctypes.Structure):
    """ahoy_server_options."""

    _fields_ = [
        ("size", c_size_t), ("listen", c_char_p), ("workers", c_int32), ("greet", c_int32),
        ("greeting", c_char_p), ("greeting_bytes", c_size_t), ("on_open", c_void_p), ("on_message", MessageFn),
        ("on_writable", c_void_p), ("on_end", c_void_p), ("on_close", c_void_p), ("on_free", c_void_p),
        ("user", c_void_p), ("connections_max", c_uint32), ("message_bytes_max", c_uint32),
        ("queue_bytes_max", c_uint32), ("backlog", c_uint32), ("queue_total_bytes_max", c_uint64),
        ("idle_ms", c_uint32), ("drain_ms", c_uint32), ("reuse_port", c_int32), ("framing", c_int32),
        ("on_drain", c_void_p), ("framing_options", c_void_p), ("message_ms", c_uint32), ("write_ms", c_uint32),
        ("queue_high_bytes", c_uint32), ("queue_low_bytes", c_uint32), ("overflow", c_int32),
        ("datagram_idle_ms", c_uint32),
    ]


class Stats(ctypes.Structure):
    """ahoy_stats."""

    _fields_ = [("size", c_size_t)] + [(name, c_uint64) for name in (
        "workers", "connections", "connections_worker_max", "opened", "closed", "refused", "aborted", "rests",
        "messages_in", "bytes_in", "bytes_out", "bytes_queued", "bytes_cut", "connections_cut", "panics",
        "messages_out", "messages_refused", "published", "published_dropped", "datagrams_dropped", "connecting",
        "connects_failed", "bytes_partial", "timers", "turns",
    )]


lib = ctypes.CDLL(sys.argv[1])
lib.ahoy_server_start.argtypes = [POINTER(Options), POINTER(Handle)]
lib.ahoy_server_address.argtypes = [Handle, c_size_t, c_char_p, c_size_t]
lib.ahoy_server_stats.argtypes = [Handle, POINTER(Stats)]
lib.ahoy_server_stop.argtypes = [Handle, c_int32]
lib.ahoy_server_wait.argtypes = [Handle]
lib.ahoy_server_free.argtypes = [Handle]
lib.ahoy_server_free.restype = None
lib.ahoy_send.argtypes = [Handle, c_void_p, c_size_t]
lib.ahoy_conn_close.argtypes = [Handle]
lib.ahoy_connect.argtypes = [Handle, c_char_p, c_void_p, POINTER(Handle)]
lib.ahoy_metrics_text.argtypes = [Handle, c_char_p, c_size_t, POINTER(c_size_t)]
lib.ahoy_last_error.restype = c_char_p
lib.ahoy_version.restype = c_char_p


def check(status):
    """Ends the check if a call has failed."""
    assert status == 0, f"status {status}: {lib.ahoy_last_error().decode()}"


class Server:
    """A server that echoes lines, and closes who says "bye"."""

    def __init__(self, **options):
        def on_message(conn, data, length, _user):
            if ctypes.string_at(data, length) == b"bye":
                lib.ahoy_conn_close(conn)
            else:
                lib.ahoy_send(conn, data, length)

        self.on_message = MessageFn(on_message)
        self.handle = Handle()
        check(lib.ahoy_server_start(byref(Options(
            size=ctypes.sizeof(Options), listen=b"tcp://127.0.0.1:0", framing=LINES, on_message=self.on_message,
            **options)), byref(self.handle)))
        url = ctypes.create_string_buffer(128)
        check(lib.ahoy_server_address(self.handle, 0, url, len(url)))
        self.port = int(url.value.rsplit(b":", 1)[1])

    def __enter__(self):
        return self

    def __exit__(self, *_):
        lib.ahoy_server_free(self.handle)

    def dial(self):
        """A client."""
        client = socket.create_connection(("127.0.0.1", self.port), timeout=DEADLINE_S)
        client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return client

    def connect(self, url):
        """Lets the server open a connection."""
        check(lib.ahoy_connect(self.handle, url.encode(), None, None))

    def stop(self):
        """Stops it; it can still be asked."""
        check(lib.ahoy_server_stop(self.handle, 0))
        check(lib.ahoy_server_wait(self.handle))

    def stats(self):
        """Its numbers."""
        stats = Stats(size=ctypes.sizeof(Stats))
        check(lib.ahoy_server_stats(self.handle, byref(stats)))
        return stats

    def metrics_text(self):
        """Its text for Prometheus."""
        text, length = ctypes.create_string_buffer(16 << 10), c_size_t()
        check(lib.ahoy_metrics_text(self.handle, text, len(text), byref(length)))
        assert len(text.value) == length.value
        return text.value.decode()


def wait_until(condition):
    """Looks again and again until it holds."""
    until = time.monotonic() + DEADLINE_S
    while not condition():
        assert time.monotonic() < until, "waited in vain"
