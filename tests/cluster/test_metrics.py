"""What the metrics say of a cluster, before a loss, during it, and after it."""

from brokers import Brokers
from talkers import DISCONNECTED, REJOINED, Talker
from waiting import wait_until

DEADLINE_S = 60
UP, RECONNECTS = "ahoy_cluster_up", "ahoy_cluster_reconnects_total"
AT_RISK = "ahoy_cluster_messages_at_risk_total"


def members(node):
    """The members up, suspect and unknown."""
    return tuple(node.metric(f'ahoy_cluster_members{{state="{state}"}}') for state in ("up", "suspect", "unknown"))


def knows(node, *wanted):
    """Waits until its members are so."""
    wait_until(lambda: members(node) == wanted, lambda: f"{node.name} has {members(node)}, not {wanted}")


def test_up_and_members():
    with Brokers() as brokers, Talker(brokers.url("chat"), node="a") as a, Talker(brokers.url("chat"), node="b") as b:
        for node in (a, b):
            knows(node, 2, 0, 0)
            assert (node.metric(UP), node.metric(RECONNECTS)) == (1, 0)
        for losses in (1, 2):
            brokers.kill(0)
            for node in (a, b):
                node.wait_state(DISCONNECTED)
                wait_until(lambda: node.metric(UP) == 0)
                # Each is sure of itself.
                knows(node, 1, 0, 1)
                assert node.metric(RECONNECTS) == losses - 1
            brokers.restart(0)
            for node in (a, b):
                node.wait_state(REJOINED)
                wait_until(lambda: node.metric(UP) == 1)
                knows(node, 2, 0, 0)
                assert node.metric(RECONNECTS) == losses


def test_nobody_there():
    with Brokers() as brokers:
        brokers.kill(0)
        with Talker(brokers.url("chat"), joined=False) as node:
            node.expect("^ready ")
            # Of itself it does not know yet whether its name is its own.
            assert (node.metric(UP), node.metric(RECONNECTS), members(node)) == (0, 0, (0, 0, 1))
            brokers.restart(0)
            wait_until(lambda: node.metric(UP) == 1)
            knows(node, 1, 0, 0)
            # To join is not to join again.
            assert node.metric(RECONNECTS) == 0


def test_messages_at_risk():
    """Those that were taken shortly before the only server died."""
    with Brokers() as brokers, Talker(brokers.url("chat")) as node:
        node.subscribe("flood")
        assert node.metric(AT_RISK) == 0
        node.send("flood flood 100000000 0")
        node.expect("^heard flood 1000$")
        brokers.kill(0)
        node.expect("^failed AHOY_ERR_DISCONNECTED: ")
        taken = int(node.expect(r"^flooded (\d+)$")[1])
        # What was heard was taken just before. The few above all are the node's own beats.
        at_risk = wait_until(lambda: node.metric(AT_RISK) or None)
        assert 1000 <= at_risk <= taken + 100, (at_risk, taken)
        print(f"note: {at_risk} of {taken} messages were at risk")
