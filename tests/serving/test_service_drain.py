"""The end of a service under load: not ready first, then each answer the last of its connection, and no
request on a kept connection without its answer.
"""

import http.client
import sys
import threading
import time
from collections import Counter
from dataclasses import dataclass, field

import pytest

from tests.serving.conftest import copy_run
from tests.serving.live_service import Live, live_service, until
from tests.serving.small_champion import crown

BODY, HEADERS = b'{"symbols": ["S01", "S02"]}', {"Content-Type": "application/json"}
DRAIN_S = 3.0
# Seconds between two requests of each client: some ask all the time, some are quiet for most of the drain.
PAUSES = (0.0, 0.0, 0.02, 0.02, 0.1, 0.1, 0.7, 1.2)


@dataclass
class Client:
    """A client that keeps its connection as long as it may, opens another one where it may not, and stops
    once nobody listens.
    """

    port: int
    pause_s: float
    answers: Counter = field(default_factory=Counter)
    last: int = 0
    lost: list[str] = field(default_factory=list)

    def run(self) -> None:
        connection, kept = None, False
        while True:
            try:
                if connection is None:
                    connection, kept = http.client.HTTPConnection("127.0.0.1", self.port, timeout=30), False
                    connection.connect()
            except ConnectionError:
                return
            try:
                connection.request("POST", "/signals", BODY, HEADERS)
                answer = connection.getresponse()
                answer.read()
                self.answers[answer.status] += 1
                kept = answer.getheader("connection") != "close"
                self.last += not kept
                if not kept:
                    connection.close()
                    connection = None
            except (ConnectionError, http.client.HTTPException) as error:
                # A connection that was never answered on may come too late; one that was kept may not.
                if kept:
                    self.lost.append(repr(error))
                connection = None
            time.sleep(self.pause_s)


def told_to_end(live: Live) -> list[Client]:
    """The service under load, told to end."""
    clients = [Client(int(live.url.rpartition(":")[2]), pause_s) for pause_s in PAUSES]
    threads = [threading.Thread(target=client.run) for client in clients]
    for thread in threads:
        thread.start()
    until(lambda: all(client.answers[200] for client in clients), what="an answer for every client")
    assert all(client.last == 0 for client in clients)
    began = time.monotonic()
    live.process.terminate()
    until(lambda: live.client.get("/readyz").status_code == 503, what="not ready", seconds=DRAIN_S)
    assert live.check("goes_on") == {"name": "goes_on", "ok": False, "reason": "the service was told to end"}
    for thread in threads:
        thread.join(120)
    assert not any(thread.is_alive() for thread in threads)
    assert time.monotonic() - began >= DRAIN_S
    return clients


@pytest.mark.skipif(sys.platform != "linux", reason="sockets are let go of in another way elsewhere")
def test_no_request_on_a_kept_connection_is_lost_when_the_service_ends(small_run, tmp_path):
    run = copy_run(small_run, tmp_path / "run")
    crown(run.folder, run.bundles[0], 1)
    with live_service(run.plan({"drain_seconds": DRAIN_S})) as live:
        clients = told_to_end(live)
        assert live.process.wait(60) is not None
    assert [client.lost for client in clients] == [[]] * len(clients)
    assert {status for client in clients for status in client.answers} == {200}
    assert all(client.last for client in clients)
    assert "Traceback" not in live.log.read_text()
