"""Serve a scoring script by Microsoft's own inference server, on a socket of this user's.

Run by the interpreter of the deployment: `scoring_script.py --socket PATH`, with Azure's variables
(AML_APP_ROOT, AZUREML_ENTRY_SCRIPT, AZUREML_MODEL_DIR) set. The server would listen on every
address of the machine; the socket is in a folder that only its user can enter.
"""

from __future__ import annotations

import argparse
import os
import sys
from typing import Any


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--socket", required=True)
    socket = parser.parse_args().socket
    sys.path.pop(0)  # this file's folder
    script = os.path.join(os.environ["AML_APP_ROOT"], os.environ["AZUREML_ENTRY_SCRIPT"])  # noqa: PTH118
    from azureml_inference_server_http import amlserver, amlserver_linux

    run = amlserver_linux.run

    def on_socket(host: str, port: int, workers: int, *rest: Any) -> None:
        run("unix", socket, workers)

    amlserver_linux.run = on_socket
    sys.argv = ["azmlinfsrv", "--entry_script", script]
    amlserver.run()


if __name__ == "__main__":
    main()
