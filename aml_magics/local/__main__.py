"""Start a daemon as nobody's child: ``python -m aml_magics.local --home FOLDER``."""

import os

if os.fork():
    os._exit(0)

from aml_magics.local.server import main  # after the fork: a small process forks fast

main()
os._exit(0)  # the interpreter's own end takes a second after the lock is free: stop has returned
