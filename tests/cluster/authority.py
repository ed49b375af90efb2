"""Certificates for one test, made with the openssl command."""

import os
import shutil
import ssl
import subprocess
import tempfile

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


class Authority:
    """A certificate authority in a folder of its own, which goes with it."""

    def __init__(self):
        self.folder = tempfile.mkdtemp(prefix="ahoy-authority-")
        self.ca_file = self._path("ca.pem")
        try:
            self._write("openssl.cnf", _CONFIGURATION)
            self._openssl("req", "-x509", "-config", self._path("openssl.cnf"), "-extensions", "authority",
                          "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2",
                          "-keyout", self._path("ca.key"), "-out", self.ca_file)
        except BaseException:
            self.close()
            raise

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def close(self):
        """Removes the folder."""
        shutil.rmtree(self.folder, ignore_errors=True)

    def _path(self, name):
        return os.path.join(self.folder, name)

    def _write(self, name, text):
        with open(self._path(name), "w", encoding="ascii") as file:
            file.write(text)

    def _openssl(self, *arguments):
        done = subprocess.run(["openssl", *arguments], capture_output=True, text=True, check=False)
        assert done.returncode == 0, f"openssl {arguments[0]}: {done.stderr}"

    def issue(self, name, addresses=("127.0.0.1",)):
        """The files of a certificate for localhost and these addresses, and of its key."""
        certificate, key, request = (self._path(f"{name}.{end}") for end in ("pem", "key", "csr"))
        names = ["DNS:localhost", *(f"IP:{address}" for address in addresses)]
        self._write(f"{name}.ext", f"{_LEAF}subjectAltName = {','.join(names)}\n")
        self._openssl("req", "-new", "-config", self._path("openssl.cnf"), "-subj", f"/CN={name}", "-newkey", "ec",
                      "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-keyout", key, "-out", request)
        self._openssl("x509", "-req", "-in", request, "-CA", self.ca_file, "-CAkey", self._path("ca.key"),
                      "-CAcreateserial", "-days", "2", "-extfile", self._path(f"{name}.ext"), "-out", certificate)
        return certificate, key

    def context(self):
        """What a Python client needs to trust it, and nobody else."""
        return ssl.create_default_context(cafile=self.ca_file)
