"""Ten minutes of load on an endpoint while its processes are killed and replaced.

Lost may be what is in flight in a killed process and nothing else; the daemon's memory stays flat.
Only measured when named: `make bench ARGS=enduring`.
"""

from __future__ import annotations

import json
import os
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from statistics import mean
from typing import Any

import psutil
import requests
from predicting import train
from rows import Row
from serving import workspace

SECONDS = float(os.environ.get("AML_BENCH_SECONDS", "600"))
KILL_SECONDS, LOOK_SECONDS = 20.0, 2.0
CLIENTS, PLACES = 8, 4  # places: requests at a time in a process where nothing is asked for
BODY = json.dumps({"input_data": [[0.1, 0.2, 0.3, 0.4]]})


def measure() -> list[Row]:
    with tempfile.TemporaryDirectory() as name:
        train(Path(name), 4)
        with workspace(Path(name) / "home") as (address, client):
            return Endurance(Path(name), address, client).measure()


class Endurance:
    """The endpoint, its clients, and what is done to it meanwhile."""

    def __init__(self, folder: Path, address: Any, client: Any) -> None:
        from azure.ai.ml.entities import ManagedOnlineEndpoint, Model

        self._client, self._home = client, Path(address.home)
        self._daemon = psutil.Process(address.pid)
        model = Model(name="m", version="1", path=str(folder / "model"), type="mlflow_model")
        self._model = client.models.create_or_update(model).id
        online = ManagedOnlineEndpoint(name="endure", auth_mode="key")
        client.online_endpoints.begin_create_or_update(online).result()
        self._answers, self._over = Counter[int](), threading.Event()

    def measure(self) -> list[Row]:
        self._deploy("blue")
        self._traffic(blue=100)
        clients = [threading.Thread(target=self._ask) for _ in range(CLIENTS)]
        for one in clients:
            one.start()
        began, kills, memory = time.monotonic(), 0, list[float]()
        changes = self._changes()
        while (elapsed := time.monotonic() - began) < SECONDS:
            if elapsed > (kills + 1) * KILL_SECONDS:
                kills += self._kill()
            if elapsed > 0.4 * SECONDS:
                next(changes, None)
            memory.append(self._daemon.memory_info().rss / 2**20)
            time.sleep(LOOK_SECONDS)
        self._over.set()
        for one in clients:
            one.join()
        return self._rows(kills, memory)

    def _rows(self, kills: int, memory: list[float]) -> list[Row]:
        total, good = self._answers.total(), self._answers[200]
        print(f"answers by status: {dict(self._answers)}, {kills} kills", file=sys.stderr)
        lost, allowed = float(total - good), float(kills * PLACES)
        quarter = len(memory) // 4
        early, late = mean(memory[quarter : 2 * quarter]), mean(memory[-quarter:])
        return [
            Row("requests answered", "/s", good / SECONDS, total / SECONDS, good / total, ""),
            Row("lost, to in flight at kills", "", lost, allowed, lost / allowed, "<= 1"),
            Row("daemon, last to second quarter", "MB", late, early, late / early, "<= 1.1"),
        ]

    def _changes(self) -> Iterator[None]:
        """Blue becomes green under load: deployed beside it, shared, alone, and updated."""
        self._deploy("green")
        yield self._traffic(blue=50, green=50)
        yield self._traffic(green=100)
        self._client.online_deployments.begin_delete("blue", "endure").result()
        yield
        self._deploy("green", COLOUR="new")

    def _deploy(self, name: str, **variables: str) -> None:
        from azure.ai.ml.entities import ManagedOnlineDeployment

        deployment: Any = ManagedOnlineDeployment(
            name=name,
            endpoint_name="endure",
            model=self._model,
            instance_type="Standard_DS3_v2",
            instance_count=1,
            environment_variables=variables,
        )
        self._client.online_deployments.begin_create_or_update(deployment).result()

    def _traffic(self, **shares: int) -> None:
        endpoint = self._client.online_endpoints.get("endure")
        endpoint.traffic = shares
        self._client.online_endpoints.begin_create_or_update(endpoint).result()

    def _ask(self) -> None:
        endpoint = self._client.online_endpoints.get("endure")
        key = self._client.online_endpoints.get_keys("endure").primary_key
        with requests.Session() as session:
            session.trust_env = False
            session.headers["Authorization"] = f"Bearer {key}"
            while not self._over.is_set():
                answer = session.post(endpoint.scoring_uri, data=BODY, timeout=120)
                self._answers[answer.status_code] += 1

    def _kill(self) -> int:
        """Kill a process that serves; returns how many were."""
        for process in psutil.process_iter(["cmdline", "name"]):
            words = process.info["cmdline"] or []
            is_ours = any(word.startswith(str(self._home / "online")) for word in words)
            if is_ours and "--socket" in words and process.info["name"] != "sh":
                process.kill()
                return 1
        return 0


if __name__ == "__main__":
    print(*measure(), sep="\n")
