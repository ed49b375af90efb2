"""Reads ahoy_metrics_text with the parser of Prometheus' own client library, and compares it with what has happened.
Argument: the library."""

import math
import re
import select
import socket
import struct
import threading
import traceback

from prometheus_client.parser import text_string_to_metric_families

from ahoy import DEADLINE_S, Server, lib, wait_until

KINDS = {"counter", "gauge", "histogram"}


def families(server):
    """The families by name; nothing in the text but what the parser understands."""
    text = server.metrics_text()
    parsed = list(text_string_to_metric_families(text))
    found = {family.name: family for family in parsed}
    assert len(found) == len(parsed), "a family is there twice"
    assert sum(len(family.samples) for family in parsed) == sum(not line.startswith("#") for line in text.splitlines())
    assert {family.type for family in parsed} == KINDS
    for family in parsed:
        assert re.fullmatch("ahoy_[a-z]+(_[a-z]+)*", family.name) and family.documentation.endswith("."), family
        series = [(sample.name, *sorted(sample.labels.items())) for sample in family.samples]
        assert len(set(series)) == len(series), f"a sample of {family.name} is there twice"
        for sample in family.samples:
            assert sample.value >= 0 and not math.isinf(sample.value), sample
            assert family.type != "counter" or sample.name == family.name + "_total", sample
    return found


def value(found, name, **labels):
    """The value of the one sample with these labels."""
    values = [sample.value for sample in found[name].samples if sample.labels == labels]
    assert len(values) == 1, f"{name} {labels}: {found[name].samples}"
    return values[0]


def by_label(found, name, label):
    """The values of a family by its one label."""
    assert all(set(sample.labels) == {label} for sample in found[name].samples)
    return {sample.labels[label]: sample.value for sample in found[name].samples}


def check_histogram(found):
    """Cumulative, ordered, and agreeing with its count and its sum; says how many turns there were."""
    samples = found["ahoy_turn_seconds"].samples
    buckets = [(float(each.labels["le"]), each.value) for each in samples if each.name.endswith("_bucket")]
    [count] = [each.value for each in samples if each.name.endswith("_count")]
    [total] = [each.value for each in samples if each.name.endswith("_sum")]
    assert len(samples) == len(buckets) + 2
    bounds, counts = zip(*buckets)
    assert list(bounds) == sorted(set(bounds)) and bounds[-1] == math.inf
    assert bounds[0] < 2e-6 and 1 <= bounds[-2] < 2, bounds
    assert list(counts) == sorted(counts) and counts[-1] == count
    # Each turn took at most its bucket's bound, and more than the one before.
    within = [after - before for before, after in zip((0, *counts), counts)]
    assert total >= sum(bound * each for bound, each in zip((0, *bounds), within))
    assert within[-1] > 0 or total <= sum(bound * each for bound, each in zip(bounds[:-1], within)) + 1e-9
    return count


def says_what_it_is():
    """Version, driver, and a page that is whole before anything has happened."""
    with Server(workers=3, connections_max=77) as server:
        found = families(server)
        [info] = found["ahoy_info"].samples
        assert info.value == 1 and set(info.labels) == {"version", "driver"}
        assert info.labels["version"] == lib.ahoy_version().decode() and info.labels["driver"] == "epoll"
        assert value(found, "ahoy_workers") == 3 and value(found, "ahoy_connections_limit") == 77
        assert set(by_label(found, "ahoy_connections", "state")) == {"connecting", "open", "closing"}
        reasons = by_label(found, "ahoy_connections_closed", "reason")
        assert not any(reasons.values()) and {"ok", "eof", "reset", "timeout", "stopped"} <= set(reasons)


def counts_what_happens():
    """Connections, messages and bytes to the last one; and each close for its reason."""
    line, polite, quitting, rude, staying = b"ahoy there\n", 5, 4, 3, 2
    with Server(workers=2) as server:
        everybody = [server.dial() for _ in range(polite + quitting + rude + staying)]
        for client in everybody:
            for _ in range(10):
                client.sendall(line)
                assert client.recv(len(line), socket.MSG_WAITALL) == line
        total = len(everybody)
        found = families(server)
        assert by_label(found, "ahoy_connections", "state") == {"connecting": 0, "open": total, "closing": 0}
        for _ in range(polite):
            everybody.pop().close()
        for _ in range(quitting):
            client = everybody.pop()
            client.sendall(b"bye\n")
            assert client.recv(1) == b""
            client.close()
        for _ in range(rude):
            client = everybody.pop()
            client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            client.close()
        wait_until(lambda: server.stats().closed == polite + quitting + rude)
        server.stop()
        found, stats = families(server), server.stats()
        reasons = by_label(found, "ahoy_connections_closed", "reason")
        expected = {"eof": polite, "ok": quitting, "reset": rude, "stopped": staying}
        assert {reason: count for reason, count in reasons.items() if count} == expected, reasons
        assert sum(reasons.values()) == stats.closed == total == value(found, "ahoy_connections_opened")
        assert value(found, "ahoy_received_messages") == 10 * total + quitting == stats.messages_in
        assert value(found, "ahoy_sent_messages") == 10 * total == stats.messages_out
        assert value(found, "ahoy_received_bytes") == 10 * total * len(line) + quitting * len(b"bye\n")
        assert value(found, "ahoy_sent_bytes") == 10 * total * len(line) == stats.bytes_out
        assert set(by_label(found, "ahoy_connections", "state").values()) == {0}
        assert value(found, "ahoy_queued_bytes") == value(found, "ahoy_partial_bytes") == 0
        assert check_histogram(found) == stats.turns > 0
        for client in everybody:
            client.close()


def shows_what_is_under_way():
    """Half a message, a connection that is being opened, and one that cannot be."""
    with Server(workers=1) as server, socket.socket() as nobody, socket.socket() as hole, server.dial() as client:
        client.sendall(b"half a line")
        wait_until(lambda: value(families(server), "ahoy_partial_bytes") > 0)
        nobody.bind(("127.0.0.1", 0))
        server.connect("tcp://127.0.0.1:%d" % nobody.getsockname()[1])
        wait_until(lambda: by_label(families(server), "ahoy_connections_closed", "reason")["refused"] == 1)
        assert value(families(server), "ahoy_connects_failed") == 1
        # Its queue is full with one who waits: the system drops the next.
        hole.bind(("127.0.0.1", 0))
        hole.listen(0)
        with socket.create_connection(hole.getsockname()):
            assert select.select([hole], [], [], DEADLINE_S)[0]
            server.connect("tcp://127.0.0.1:%d" % hole.getsockname()[1])
            wait_until(lambda: by_label(families(server), "ahoy_connections", "state")
                       == {"connecting": 1, "open": 1, "closing": 0})


def is_whole_at_any_time():
    """Under load, from several threads: every page parses, and no counter falls."""
    failures, done = [], threading.Event()

    def watch(server):
        before = {}
        try:
            while not done.is_set():
                found = families(server)
                check_histogram(found)
                now = {(sample.name, *sample.labels.items()): sample.value
                       for family in found.values() if family.type != "gauge" for sample in family.samples}
                assert all(now[series] >= count for series, count in before.items())
                before = now
        except Exception:
            failures.append(traceback.format_exc())

    with Server(workers=2) as server:
        watchers = [threading.Thread(target=watch, args=(server,)) for _ in range(2)]
        for watcher in watchers:
            watcher.start()
        for _ in range(100):
            with server.dial() as client:
                client.sendall(b"x\n" * 100)
                assert client.recv(200, socket.MSG_WAITALL) == b"x\n" * 100
        done.set()
        for watcher in watchers:
            watcher.join()
    assert not failures, failures[0]


def main():
    """Runs every check, and counts them."""
    failed = 0
    checks = [says_what_it_is, counts_what_happens, shows_what_is_under_way, is_whole_at_any_time]
    for check in checks:
        try:
            check()
            print(f"ok    {check.__name__}: {check.__doc__.splitlines()[0]}")
        except Exception:
            failed += 1
            print(f"FAIL  {check.__name__}\n{traceback.format_exc()}")
    print(f"{len(checks) - failed} passed, {failed} failed")
    return 1 if failed else 0


if __name__ == "__main__":
    raise SystemExit(main())
