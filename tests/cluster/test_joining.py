"""Joining a cluster, losing it, and joining it again; and being refused."""

from authority import Authority
from brokers import Brokers
from talkers import DISCONNECTED, JOINED, JOINING, LEFT, REJOINED, Talker
from waiting import wait_until

DEADLINE_S = 60


def refused(url, **options):
    """The status with which a start fails that waits for the cluster."""
    with Talker(url, joined=False, join_ms=5000, **options) as node:
        status = node.expect(r"^(failed|ready) (\w+)")
        assert status[1] == "failed", "it has joined"
        return status[2]


def test_joins_and_leaves():
    with Brokers() as brokers, Talker(brokers.url("chat"), node="a") as node:
        assert node.now() == JOINED
        node.send("stop")
        node.expect("^stopped$")
        assert node.wait() == 0
        assert node.said(rf"^state {JOINED} AHOY_OK$") and not node.said(rf"^state {LEFT} ")


def test_joins_when_the_cluster_appears():
    with Brokers() as brokers:
        brokers.kill(0)
        with Talker(brokers.url("chat"), joined=False) as node:
            node.expect("^ready ")
            assert node.wait_state(JOINING) == "AHOY_ERR_DISCONNECTED"
            # Alone it serves its own.
            node.subscribe("news")
            assert node.publish("news", "alone") == "AHOY_ERR_DISCONNECTED"
            wait_until(lambda: node.has_heard("news", "alone"))
            brokers.restart(0)
            assert node.wait_state(JOINED) == "AHOY_OK"
            assert node.publish("news", "joined") == "AHOY_OK"
            wait_until(lambda: node.has_heard("news", "joined"))


def test_joins_again_after_a_loss():
    with Brokers() as brokers, Talker(brokers.url("chat")) as node:
        brokers.kill(0)
        assert node.wait_state(DISCONNECTED) == "AHOY_ERR_DISCONNECTED"
        assert node.publish("news", "x") == "AHOY_ERR_DISCONNECTED"
        brokers.restart(0)
        assert node.wait_state(REJOINED) == "AHOY_OK"
        assert node.publish("news", "x") == "AHOY_OK"


def test_moves_to_another_broker():
    with Brokers(3) as brokers, Talker(brokers.url("chat")) as here, Talker(brokers.url("chat")) as there:
        there.subscribe("news")
        for i in (0, 1):
            brokers.kill(i)
            for node in (here, there):
                if node.now() not in (JOINED, REJOINED):
                    node.wait_state(REJOINED)
        # Said again until it is heard: the survivors have to hear of each other's interest first.
        def is_heard():
            here.publish("news", "still here")
            return there.has_heard("news", "still here")

        wait_until(is_heard)


def test_a_start_that_waits_fails_without_a_cluster():
    with Brokers() as brokers:
        brokers.kill(0)
        with Talker(brokers.url("chat"), joined=False, join_ms=300) as node:
            assert node.expect(r"^failed (\w+)")[1] == "AHOY_ERR_DISCONNECTED"
            assert node.wait() == 1


def test_wrong_user():
    with Brokers(user="ahoy", password="secret") as brokers:
        url = brokers.url("chat", login="")
        assert refused(url) == "AHOY_ERR_CREDENTIALS"
        assert refused(url, user="ahoy", password="wrong") == "AHOY_ERR_CREDENTIALS"
        with Talker(url, user="ahoy", password="secret"):
            pass
        # Without waiting it starts, says why it is not in, and keeps trying.
        with Talker(url, joined=False, user="ahoy", password="wrong") as node:
            node.expect(rf"^state {JOINING} AHOY_ERR_CREDENTIALS$")


def test_wrong_token():
    with Brokers(token="sesame") as brokers:
        url = brokers.url("chat", login="")
        assert refused(url, token="barley") == "AHOY_ERR_CREDENTIALS"
        with Talker(url, token="sesame"):
            pass


def test_wrong_authority():
    with Authority() as ours, Authority() as other, Brokers(tls=ours) as brokers:
        url = brokers.url("chat")
        assert refused(url, ca=other.ca_file) == "AHOY_ERR_CERTIFICATE"
        assert refused(url, ca="/nowhere/ca.pem") == "AHOY_ERR_NOT_FOUND"
        with Talker(url, ca=ours.ca_file):
            pass
