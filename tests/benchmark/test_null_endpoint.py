import http.client
import json
import subprocess
import sys
import time

from proofcard.benchmark import null_endpoint


def test_tokens_leave_at_the_declared_pace_each_request_at_its_own() -> None:
    argv = [sys.executable, "-m", null_endpoint.__name__, "1:20:30", "1:200:5"]
    with subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdin is not None and process.stdout is not None
        host = process.stdout.readline().split("/")[2]
        connection = http.client.HTTPConnection(host)
        slow, fast = _asked(connection), _asked(connection)  # over one connection, kept open
        process.stdin.close()
        assert process.wait(20) == 0
    assert slow["words"] == fast["words"] == 10
    assert slow["usage"] == {"prompt_tokens": 1, "completion_tokens": 10, "total_tokens": 11}
    assert slow["seconds"] >= 0.020 + 9 * 0.030
    assert fast["seconds"] >= 0.200 + 9 * 0.005
    assert slow["first"] < 0.200 <= fast["first"]


def _asked(connection: http.client.HTTPConnection) -> dict:
    started = time.monotonic()
    body = {"messages": [], "stream": True, "max_completion_tokens": 10}
    connection.request("POST", "/v1/chat/completions", json.dumps(body))
    events, first = [], None
    for line in connection.getresponse():
        first = first or time.monotonic() - started
        if line.startswith(b"data: {"):
            events.append(json.loads(line[6:]))
    words = sum("content" in choice["delta"] for event in events for choice in event["choices"])
    return {
        "words": words,
        "usage": events[-1]["usage"],
        "seconds": time.monotonic() - started,
        "first": first,
    }
