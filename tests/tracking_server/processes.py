"""PostgreSQL from the distribution and the MLflow server as compose.yaml starts it, as processes."""

import os
import pwd
import select
import shutil
import signal
import socket
import socketserver
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from forking import Forked
from running import ROOT

SECRETS = {
    "PGPASSWORD": "pg-9f1c77aa02",
    "ADMIN_PASSWORD": "admin-31d0b58e6f4c",
    "SECRET_KEY": "key-5e7702c8aa19",
}


def programs() -> Path | None:
    """Folder of `initdb` and `postgres`: the newest of Debian's, or where the PATH has them."""
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"), key=lambda path: int(path.parts[4]))
    there = str(found[-1]) if found else shutil.which("initdb")
    return Path(there).resolve().parent if there else None


@contextmanager
def postgres() -> Iterator[Path]:
    """A cluster of its own behind a socket and a password; yields the socket's folder."""
    bin_folder = programs()
    assert bin_folder is not None
    user = {"user": "nobody"} if os.getuid() == 0 else {}  # initdb refuses root
    folder = Path(tempfile.mkdtemp(prefix="postgres-"))  # pytest's folders are closed to other users
    try:
        password = folder / "password"
        password.write_text(SECRETS["PGPASSWORD"])
        if user:
            nobody = pwd.getpwnam("nobody")
            for path in (folder, password):
                os.chown(path, nobody.pw_uid, nobody.pw_gid)
        made = subprocess.run(
            [bin_folder / "initdb", "--pgdata", folder / "data", "--username", "mlflow", "--auth",
             "scram-sha-256", "--pwfile", password, "--encoding", "UTF8", "--no-locale", "--no-sync"],
            capture_output=True, text=True, check=False, cwd=folder, **user,
        )  # fmt: skip
        assert made.returncode == 0, made.stderr
        with (folder / "log").open("w") as log:
            server = subprocess.Popen(
                [bin_folder / "postgres", "-D", folder / "data", "-k", folder, "-c", "listen_addresses="],
                stdout=log, stderr=log, cwd=folder, **user,
            )  # fmt: skip
        try:
            until(lambda: (folder / ".s.PGSQL.5432").exists(), server, folder / "log")
            yield folder
        finally:
            server.send_signal(signal.SIGINT)  # fast shutdown
            server.wait(timeout=60)
    finally:
        shutil.rmtree(folder)


@dataclass
class Server:
    """The MLflow server: mlflow/server.sh with its variables, startable again on the same port."""

    folder: Path
    socket: Path
    port: int
    process: subprocess.Popen[bytes] = field(init=False)

    @property
    def address(self) -> str:
        """Where it listens."""
        return f"http://127.0.0.1:{self.port}"

    @property
    def log(self) -> Path:
        """What it said."""
        return self.folder / "server.log"

    def environment(self, **changes: str) -> dict[str, str]:
        """Its variables; secrets by file only."""
        for name, value in SECRETS.items():
            (self.folder / name).write_text(value + "\n")
        files = {f"{name}_FILE": str(self.folder / name) for name in SECRETS}
        inherited = {name: os.environ[name] for name in ("HOME", "LANG") if name in os.environ}
        own = {
            "PATH": f"{Path(sys.executable).parent}:/usr/bin:/bin",
            "PGHOST": str(self.socket), "PGUSER": "mlflow", "PGDATABASE": "postgres",
            "ARTIFACTS": str(self.folder / "artifacts"), "HOST": "127.0.0.1", "PORT": str(self.port),
            "WORKERS": "1", "MLFLOW_SERVER_ALLOWED_HOSTS": f"127.0.0.1:{self.port}",
        }  # fmt: skip
        return inherited | files | own | changes

    def start(self) -> None:
        """Start it and wait until it answers."""
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                [ROOT / "mlflow" / "server.sh"], env=self.environment(), stdout=log, stderr=log,
                cwd=self.folder, start_new_session=True,
            )  # fmt: skip
        try:
            until(self.answers, self.process, self.log)
        except BaseException:
            self.kill()
            raise

    def answers(self) -> bool:
        """Whether it is up."""
        try:
            return urllib.request.urlopen(f"{self.address}/health", timeout=5).status == 200
        except OSError:
            return False

    def kill(self) -> None:
        """End it as a lost machine would: no goodbye, workers included."""
        os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()


class _Breaking(socketserver.BaseRequestHandler):
    """A connection to the server; the first replies to `path` lack their body."""

    server: "_Relay"

    def handle(self) -> None:
        relay, asked = self.server, False
        with socket.create_connection(("127.0.0.1", relay.to)) as onward:
            while True:
                for ready in select.select([self.request, onward], [], [])[0]:
                    if not (data := ready.recv(1 << 16)):
                        return
                    if ready is self.request:
                        asked = asked or relay.path in data
                        onward.sendall(data.replace(b":%d" % relay.server_address[1], b":%d" % relay.to))
                    elif asked and relay.left:
                        relay.left -= 1
                        self.request.sendall(data.partition(b"\r\n\r\n")[0] + b"\r\n\r\n")
                        return
                    else:
                        self.request.sendall(data)


class _Relay(socketserver.ThreadingTCPServer):
    daemon_threads = True
    to: int
    path: bytes
    left: int


@contextmanager
def breaking(server: Server, path: str, times: int) -> Iterator[str]:
    """An address of the server at which the first replies to `path` break off after their headers."""
    with _Relay(("127.0.0.1", 0), _Breaking) as relay:
        relay.to, relay.path, relay.left = server.port, path.encode(), times
        threading.Thread(target=relay.serve_forever, daemon=True).start()
        try:
            yield f"http://127.0.0.1:{relay.server_address[1]}"
        finally:
            relay.shutdown()
    assert relay.left == 0


def free_port() -> int:
    """A port that nobody listens on."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


def until(
    condition: Callable[[], bool], process: subprocess.Popen[Any] | Forked, log: Path, seconds: float = 600
) -> None:
    """Wait for a condition, or fail with what the process said."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert process.poll() is None and time.monotonic() < deadline, log.read_text()[-3000:]
        time.sleep(0.3)
