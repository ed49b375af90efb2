"""What a NATS server in operator mode trusts, and the credentials of its users: nkeys and JWTs, made with the openssl
command. The public keys are those of Ed25519, written as NATS writes them; a JWT is a claim that such a key has signed.
"""

import base64
import binascii
import hashlib
import json
import time

from keeping import Keeping, openssl

_OPERATOR, _ACCOUNT, _USER, _SEED = 14 << 3, 0, 20 << 3, 18 << 3
_HEADER = {"typ": "JWT", "alg": "ed25519-nkey"}
_ALL = -1
_ACCOUNT_LIMITS = {"subs": _ALL, "data": _ALL, "payload": _ALL, "imports": _ALL, "exports": _ALL, "wildcards": True,
                   "conn": _ALL, "leaf": _ALL}
_USER_LIMITS = {"subs": _ALL, "data": _ALL, "payload": _ALL}
_CREDENTIALS = """-----BEGIN NATS USER JWT-----
{jwt}
------END NATS USER JWT------

-----BEGIN USER NKEY SEED-----
{seed}
------END USER NKEY SEED------
"""


def _written(raw):
    """Base32 without its padding, the check sum behind it."""
    return base64.b32encode(raw + binascii.crc_hqx(raw, 0).to_bytes(2, "little")).decode().rstrip("=")


def _part(data):
    return base64.urlsafe_b64encode(data).decode().rstrip("=")


class _Key:
    """A pair of keys, in a file."""

    def __init__(self, file, kind):
        self.file, self.kind = file, kind
        openssl("genpkey", "-algorithm", "ed25519", "-outform", "DER", "-out", file)
        # Both forms end with the 32 bytes of the key.
        public = openssl("pkey", "-inform", "DER", "-in", file, "-pubout", "-outform", "DER")[-32:]
        self.public = _written(bytes([kind]) + public)

    def seed(self):
        """The secret key."""
        with open(self.file, "rb") as file:
            secret = file.read()[-32:]
        return _written(bytes([_SEED | self.kind >> 5, (self.kind & 31) << 3]) + secret)

    def claim(self, subject, name, kind, **more):
        """The JWT in which it says what the subject is."""
        claims = {"iat": int(time.time()), "iss": self.public, "name": name, "sub": subject,
                  "nats": {"type": kind, "version": 2, **more}}
        claims["jti"] = hashlib.sha256(json.dumps(claims).encode()).hexdigest()
        text = ".".join(_part(json.dumps(each).encode()) for each in (_HEADER, claims))
        with open(f"{self.file}.claim", "w", encoding="ascii") as file:
            file.write(text)
        signature = openssl("pkeyutl", "-sign", "-rawin", "-keyform", "DER", "-inkey", self.file, "-in", file.name)
        return f"{text}.{_part(signature)}"


class Operator(Keeping):
    """An operator with one account."""

    def make(self):
        self._operator = _Key(self.path("operator.key"), _OPERATOR)
        self._account = _Key(self.path("account.key"), _ACCOUNT)
        self._users = 0
        self.write("operator.jwt", self._operator.claim(self._operator.public, "operator", "operator"))

    def configuration(self):
        """Lines for the servers' configuration. They run without JetStream, which would want a system account."""
        account = self._operator.claim(self._account.public, "account", "account", limits=_ACCOUNT_LIMITS)
        return (f"operator: {json.dumps(self.path('operator.jwt'))}\nresolver: MEMORY\n"
                f"resolver_preload: {{ {self._account.public}: {json.dumps(account)} }}")

    def credentials(self):
        """The file with those of a new user."""
        self._users += 1
        user = _Key(self.path(f"user{self._users}.key"), _USER)
        jwt = self._account.claim(user.public, "user", "user", **_USER_LIMITS)
        return self.write(f"user{self._users}.creds", _CREDENTIALS.format(jwt=jwt, seed=user.seed()))


class Nkey(Keeping):
    """A user without a JWT: the server knows the public key."""

    def make(self):
        self._user = _Key(self.path("user.key"), _USER)

    def configuration(self):
        """Lines for the servers' configuration."""
        return f"authorization {{ users: [ {{ nkey: {self._user.public} }} ] }}"

    def seed(self):
        """The file with the secret key."""
        return self.write("user.nk", self._user.seed() + "\n")
