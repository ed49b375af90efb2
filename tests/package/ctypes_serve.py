"""A server from Python's ctypes: greets one client, echoes to another, and stops. Argument: the library."""

import ctypes
import socket
import sys
from ctypes import CFUNCTYPE, POINTER, byref, c_char_p, c_int32, c_size_t, c_uint32, c_uint64, c_void_p

lib = ctypes.CDLL(sys.argv[1])


class Server(ctypes.Structure):
    _fields_ = [("id", c_uint64)]


class Conn(ctypes.Structure):
    _fields_ = [("id", c_uint64)]


MESSAGE_FN = CFUNCTYPE(None, Conn, c_void_p, c_size_t, c_void_p)


class Options(ctypes.Structure):
    _fields_ = [
        ("size", c_size_t), ("listen", c_char_p), ("workers", c_int32), ("greet", c_int32),
        ("greeting", c_char_p), ("greeting_bytes", c_size_t), ("on_open", c_void_p), ("on_message", MESSAGE_FN),
        ("on_writable", c_void_p), ("on_end", c_void_p), ("on_close", c_void_p), ("on_free", c_void_p),
        ("user", c_void_p), ("connections_max", c_uint32), ("message_bytes_max", c_uint32),
        ("queue_bytes_max", c_uint32), ("backlog", c_uint32), ("queue_total_bytes_max", c_uint64),
        ("idle_ms", c_uint32), ("drain_ms", c_uint32), ("reuse_port", c_int32), ("reserved", c_int32),
    ]


lib.ahoy_server_start.argtypes = [POINTER(Options), POINTER(Server)]
lib.ahoy_server_address.argtypes = [Server, c_size_t, c_char_p, c_size_t]
lib.ahoy_server_stop.argtypes = [Server, c_int32]
lib.ahoy_server_wait.argtypes = [Server]
lib.ahoy_server_free.argtypes = [Server]
lib.ahoy_server_free.restype = None
lib.ahoy_send.argtypes = [Conn, c_void_p, c_size_t]
lib.ahoy_last_error.restype = c_char_p


def check(status):
    if status != 0:
        sys.exit(f"status {status}: {lib.ahoy_last_error().decode()}")


def start(**options):
    server = Server()
    check(lib.ahoy_server_start(byref(Options(size=ctypes.sizeof(Options), listen=b"tcp://127.0.0.1:0", **options)),
                                byref(server)))
    url = ctypes.create_string_buffer(128)
    check(lib.ahoy_server_address(server, 0, url, len(url)))
    return server, int(url.value.decode().rsplit(":", 1)[1])


def talk(port, text):
    with socket.create_connection(("127.0.0.1", port), timeout=60) as client:
        client.sendall(text)
        client.shutdown(socket.SHUT_WR)
        answer = b""
        while part := client.recv(4096):
            answer += part
        return answer


def stop(server):
    check(lib.ahoy_server_stop(server, -1))
    check(lib.ahoy_server_wait(server))
    lib.ahoy_server_free(server)


@MESSAGE_FN
def echo(conn, data, length, user):
    check(lib.ahoy_send(conn, data, length))


greeter, port = start()
answer = talk(port, b"hi")
assert answer == b"Hello from server", answer
stop(greeter)

echoer, port = start(on_message=echo)
text = b"from Python and back\n" * 2000
answer = talk(port, text)
assert answer == text, len(answer)
stop(echoer)
