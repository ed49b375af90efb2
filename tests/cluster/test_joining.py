"""Joining a cluster, losing it, and joining it again; and being refused."""

import tempfile

from authority import Authority
from brokers import Brokers
from operator_keys import Nkey, Operator
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


def test_a_server_without_tls():
    with Brokers() as brokers:
        with Talker(brokers.url("chat").replace("nats://", "tls://"), joined=False) as node:
            assert node.wait_state(JOINING) == "AHOY_ERR_DISCONNECTED"
            wait_until(lambda: node.said("^why tls://.*/chat: the server does not speak TLS$") or None)


def test_joins_when_the_cluster_appears():
    with Brokers() as brokers:
        brokers.kill(0)
        with Talker(brokers.url("chat"), joined=False) as node:
            node.expect("^ready ")
            assert node.wait_state(JOINING) == "AHOY_ERR_DISCONNECTED"
            wait_until(lambda: node.said("^why nats://.*/chat: Connection refused$") or None)
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
        wait_until(lambda: node.said("^why nats://.*/chat: the link is lost$") or None)
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
            node.expect("^why nats://[^@]*/chat: authorization violation$")


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


def test_rubbish_for_an_authority():
    with Authority() as ours, Brokers(tls=ours) as brokers, tempfile.NamedTemporaryFile("w", suffix=".pem") as rubbish:
        # Nothing, nothing of the kind, and the frame of a certificate around nothing of the kind.
        for text in ("", "rubbish\n", "-----BEGIN CERTIFICATE-----\ncnViYmlzaA==\n-----END CERTIFICATE-----\n"):
            rubbish.seek(0)
            rubbish.truncate()
            rubbish.write(text)
            rubbish.flush()
            assert refused(brokers.url("chat"), ca=rubbish.name) == "AHOY_ERR_CERTIFICATE", text


def test_certificate_of_the_client():
    with Authority() as ours, Authority() as other, Brokers(tls=ours, verify=True) as brokers:
        url = brokers.url("chat")
        certificate, key = ours.issue("node")
        with Talker(url, ca=ours.ca_file, cert=certificate, key=key):
            pass
        stranger, its_key = other.issue("node")
        assert refused(url, ca=ours.ca_file) == "AHOY_ERR_CERTIFICATE"
        assert refused(url, ca=ours.ca_file, cert=stranger, key=its_key) == "AHOY_ERR_CERTIFICATE"
        # A key that is not the certificate's.
        assert refused(url, ca=ours.ca_file, cert=certificate, key=its_key) == "AHOY_ERR_CERTIFICATE"
        assert refused(url, ca=ours.ca_file, cert=certificate, key="/nowhere/key.pem") == "AHOY_ERR_NOT_FOUND"


def test_mixed_list():
    """A server without TLS and one with it, of which one is there."""
    with Authority() as ours:
        for there in ("plain", "secure"):
            with Brokers() as plain, Brokers(tls=ours) as secure:
                (plain if there == "secure" else secure).kill(0)
                with Talker(f"{plain.urls()[0]},{secure.urls()[0]}/chat", ca=ours.ca_file) as node:
                    assert node.publish("news", "joined") == "AHOY_OK"
                    links = (plain if there == "plain" else secure).ask(0, "/connz")["connections"]
                    assert links and all(bool(link.get("tls_version")) == (there == "secure") for link in links), links


def test_login_in_the_url():
    for login in ({"user": "ahoy", "password": "p@ss:w/rd%, ü"}, {"token": "open:ses@me"}):
        with Brokers(**login) as brokers:
            assert "@127" in brokers.url("chat")
            with Talker(brokers.url("chat")):
                pass
            wrong = "ahoy:wrong@" if "user" in login else "wrong@"
            assert refused(brokers.url("chat", login=wrong)) == "AHOY_ERR_CREDENTIALS"


def test_seed_of_an_nkey():
    with Nkey() as ours, Nkey() as other, Brokers(jetstream=False, extra=ours.configuration()) as brokers:
        url = brokers.url("chat")
        with Talker(url, credentials=ours.seed()) as node:
            assert node.publish("news", "hello") == "AHOY_OK"
        assert refused(url) == "AHOY_ERR_CREDENTIALS"
        assert refused(url, credentials=other.seed()) == "AHOY_ERR_CREDENTIALS"
        assert refused(url, credentials=other.write("bad.nk", "SUnonsense\n")) == "AHOY_ERR_CREDENTIALS"


def test_credentials_file():
    with Operator() as ours, Operator() as other, Brokers(jetstream=False, extra=ours.configuration()) as brokers:
        url = brokers.url("chat")
        with Talker(url, credentials=ours.credentials()) as here, Talker(url, credentials=ours.credentials()) as there:
            there.subscribe("news")

            def is_heard():
                assert here.publish("news", "hello") == "AHOY_OK"
                return there.has_heard("news", "hello")

            wait_until(is_heard)
        assert refused(url) == "AHOY_ERR_CREDENTIALS"
        assert refused(url, credentials=other.credentials()) == "AHOY_ERR_CREDENTIALS"
        assert refused(url, credentials="/nowhere/user.creds") == "AHOY_ERR_NOT_FOUND"
        # Somebody else's seed: the signature is not the one of the user whose JWT it is.
        with open(ours.credentials(), encoding="ascii") as one, open(ours.credentials(), encoding="ascii") as two:
            jwt, seed = one.read().partition("-----BEGIN USER")[0], "".join(two.read().partition("-----BEGIN USER")[1:])
        for name, text in (("mixed", jwt + seed), ("rubbish", "rubbish\n"), ("empty", "")):
            assert refused(url, credentials=ours.write(f"{name}.creds", text)) == "AHOY_ERR_CREDENTIALS", name
