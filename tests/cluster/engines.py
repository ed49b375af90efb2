"""What holds whatever carries the cluster: a test with the parameter `engine` runs once with each.

    def test_put(engine):
        with engine() as cluster, pair(cluster, node) as (one, two):
            …

So a status, a revision or an order that a program finds inside its own process and not on brokers, or the other way
round, fails a test.
"""

import contextlib

from brokers import Brokers


class Local:
    """Stands where brokers do: there are none, and a node has its cluster inside of its own process."""

    def __init__(self, count=1):
        """However many are asked for."""

    def __enter__(self):
        return self

    def __exit__(self, *_):
        pass

    def url(self, _):
        """None: the node is told of no cluster."""
        return ""


ENGINES = {"nats": Brokers, "local": Local}


def most_nodes(cluster, wanted):
    """How many nodes there can be, if so many are wanted."""
    return 1 if isinstance(cluster, Local) else wanted


@contextlib.contextmanager
def pair(cluster, start):
    """Two nodes of a cluster, "a" and "b"; the only one there is, twice, where it is inside of one. What is said by one and what by
    the other may come in any order, so whoever looks for it does not pass over the rest (`Node.said`)."""
    with start(cluster, name="a") as one:
        if most_nodes(cluster, 2) == 1:
            yield one, one
        else:
            with start(cluster, name="b") as two:
                yield one, two
