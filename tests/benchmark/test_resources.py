import os
import socket
import time

import pytest
import torch

from proofcard.benchmark.resources import Watch, listener


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


@pytest.mark.skipif(not torch.cuda.is_available(), reason="NOT CHECKED HERE: it needs a CUDA device")
def test_memory_and_power_of_the_gpu_are_seen_while_it_works() -> None:
    started = time.time()
    with Watch(os.getpid()) as watch:
        held = torch.ones(2**30, dtype=torch.float16, device="cuda")  # 2 GiB
        while time.time() < started + 2:
            held.mul_(1.0)
            torch.cuda.synchronize()
    seen = watch.between(started + 1, time.time())
    assert watch.absent == ""
    assert 2 <= seen["gpu_gib"] < 16
    assert 20 < seen["gpu_watts"] < 1500
