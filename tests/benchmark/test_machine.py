import os
import socket
import time

from pipeline.benchmark.machine import Watch, listener


def test_memory_of_a_process_is_seen_while_it_is_watched() -> None:
    started = time.time()
    with Watch(os.getpid()) as watch:
        deadline = time.monotonic() + 60
        while not (seen := watch.between(started, time.time())) and time.monotonic() < deadline:
            time.sleep(0.1)
    assert 0.01 < seen["rss_gib"] < 64
    assert ("gpu_gib" in seen) == (watch.absent == "")
    assert watch.between(started - 10, started - 5) == {}
    moment = started + 0.3
    assert watch.between(moment, moment)["rss_gib"] > 0.01  # shorter than a look: the nearest one tells


def test_an_unknown_process_is_said_to_be_unknown() -> None:
    with Watch(None) as watch:
        assert watch.between(0, time.time()) == {}
    assert watch.absent == "the server's processes are not known here"


def test_who_listens_on_loopback_is_found() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        assert listener(f"http://127.0.0.1:{port}/v1") == os.getpid()
        assert listener(f"http://localhost:{port}/v1") == os.getpid()
        assert listener(f"http://192.0.2.1:{port}/v1") is None
