"""Where an engine listens: on loopback, unless clients need a key, and on a free port."""

import ipaddress
import socket
from pathlib import Path
from urllib.parse import urlsplit

import psutil

from proofcard.config.serving import Serving
from proofcard.errors import Stop, Usage
from proofcard.redact import hide


def check_host(serving: Serving) -> None:
    """Raise Usage for an address that other machines can reach without a key."""
    if is_loopback(serving.host):
        return
    if serving.engine == "transformers":
        raise Usage(
            f"serving.host={serving.host} can be reached from other machines, and transformers has no API "
            "key: keep serving.host=127.0.0.1 and connect through a tunnel"
        )
    if serving.api_key_file is None:
        raise Usage(
            f"serving.host={serving.host} can be reached from other machines: set serving.api_key_file=FILE, "
            "the key that clients must send, or keep serving.host=127.0.0.1"
        )


def read_key(file: Path | None, setting: str = "serving.api_key_file") -> str | None:
    """The key that clients must send, or None; from now on it is redacted from output and logs.

    `setting` is the option that names the file.

    Raises:
        Usage: when its file cannot be read, or does not contain exactly one word.
    """
    if file is None:
        return None
    try:
        key = file.read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise Usage(f"{setting}={file} cannot be read: {error}") from None
    if len(key.split()) != 1:
        raise Usage(f"{setting}={file} must contain one word, the key")
    hide(key)
    return key


def free_port(serving: Serving) -> int:
    """The port of a profile, or a free one if it is 0.

    Raises:
        Usage: when another process listens there, or the port cannot be used.
    """
    family = socket.AF_INET6 if ":" in serving.host else socket.AF_INET
    with socket.socket(family) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((serving.host, serving.port))
        except OSError as error:
            holder = _holder(serving.port)
            if holder is None and not _answers(serving):
                raise Usage(f"cannot listen on {serving.host} port {serving.port}: {error}") from None
            raise Usage(
                f"port {serving.port} of {serving.host} is in use by {holder or 'another process'}: "
                "stop it, or choose another port with serving.port=… (0: any free port)"
            ) from None
        return int(probe.getsockname()[1])


def url(serving: Serving, port: int) -> str:
    """The address that clients on this machine use."""
    host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(serving.host, serving.host)
    return f"http://[{host}]:{port}/v1" if ":" in host else f"http://{host}:{port}/v1"


def is_loopback(host: str) -> bool:
    """Whether a host can only be reached from this machine."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def check_owner(url: str, family: set[int]) -> None:
    """Check that one of these processes listens at an address of this machine.

    Nothing is checked where the kernel hides their sockets.

    Raises:
        Stop: when another process answers there.
    """
    port = urlsplit(url).port
    for process in family:
        try:
            connections = psutil.Process(process).net_connections("tcp")
        except psutil.NoSuchProcess:  # it has ended in the meantime
            continue
        except psutil.Error:
            return
        if any(each.status == psutil.CONN_LISTEN and each.laddr.port == port for each in connections):
            return
    holder = _holder(port or 0) or "another user's process"
    raise Stop(f"port {port} is answered by {holder}: stop it, or choose another port with serving.port=…")


def listener(port: int) -> int | None:
    """The process that listens on a port of this machine, if we are allowed to see it."""
    try:
        for connection in psutil.net_connections("tcp"):
            listens = connection.status == psutil.CONN_LISTEN and connection.laddr.port == port
            if listens and connection.pid:
                return int(connection.pid)
    except psutil.Error:
        return None
    return None


def _holder(port: int) -> str | None:
    """The process that listens on a port, as `python3 (process 123)`."""
    process = listener(port)
    try:
        return None if process is None else f"{psutil.Process(process).name()} (process {process})"
    except psutil.Error:  # it has ended in the meantime
        return None


def _answers(serving: Serving) -> bool:
    try:
        socket.create_connection((serving.host, serving.port), 1).close()
    except OSError:
        return False
    return True
