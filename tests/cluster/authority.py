"""Certificates for one test, made with the openssl command."""

import ssl

from keeping import Keeping, openssl

_CONFIGURATION = """
[req]
distinguished_name = name
prompt = no
[name]
CN = A test's authority
[authority]
basicConstraints = critical, CA:TRUE
keyUsage = critical, keyCertSign, cRLSign
subjectKeyIdentifier = hash
"""
_LEAF = """
basicConstraints = critical, CA:FALSE
keyUsage = critical, digitalSignature
extendedKeyUsage = serverAuth, clientAuth
subjectKeyIdentifier = hash
authorityKeyIdentifier = keyid
"""


class Authority(Keeping):
    """A certificate authority."""

    def make(self):
        self.ca_file = self.path("ca.pem")
        self.write("openssl.cnf", _CONFIGURATION)
        openssl("req", "-x509", "-config", self.path("openssl.cnf"), "-extensions", "authority", "-newkey", "ec",
                "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2", "-keyout", self.path("ca.key"),
                "-out", self.ca_file)

    def issue(self, name, addresses=("127.0.0.1",)):
        """The files of a certificate for localhost and these addresses, and of its key."""
        certificate, key, request = (self.path(f"{name}.{end}") for end in ("pem", "key", "csr"))
        names = ["DNS:localhost", *(f"IP:{address}" for address in addresses)]
        self.write(f"{name}.ext", f"{_LEAF}subjectAltName = {','.join(names)}\n")
        openssl("req", "-new", "-config", self.path("openssl.cnf"), "-subj", f"/CN={name}", "-newkey", "ec",
                "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-keyout", key, "-out", request)
        openssl("x509", "-req", "-in", request, "-CA", self.ca_file, "-CAkey", self.path("ca.key"),
                "-CAcreateserial", "-days", "2", "-extfile", self.path(f"{name}.ext"), "-out", certificate)
        return certificate, key

    def context(self):
        """What a Python client needs to trust it, and nobody else."""
        return ssl.create_default_context(cafile=self.ca_file)
