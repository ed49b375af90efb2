"""What the openssl command makes for one test, and the folder that keeps it."""

import os
import shutil
import subprocess
import tempfile


def openssl(*arguments):
    """What the command prints."""
    done = subprocess.run(["openssl", *arguments], capture_output=True, check=False)
    assert done.returncode == 0, f"openssl {arguments[0]}: {done.stderr.decode()}"
    return done.stdout


class Keeping:
    """A folder of its own, which goes with it. `make` fills it."""

    def __init__(self):
        self.folder = tempfile.mkdtemp(prefix=f"ahoy-{type(self).__name__.lower()}-")
        try:
            self.make()
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

    def path(self, name):
        """Of a file in it."""
        return os.path.join(self.folder, name)

    def write(self, name, text):
        """Writes a file in it; its path."""
        with open(self.path(name), "w", encoding="ascii") as file:
            file.write(text)
        return file.name
