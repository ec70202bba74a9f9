"""Redacts secrets: whatever looks like one is removed from everything that is logged or tracked."""

import os
import re
from pathlib import Path

_NAMES = re.compile(
    r"SECRET|PASSW|PASSPHRASE|CREDENTIAL|API_?KEY|ACCESS_?KEY|PRIVATE_?KEY"
    r"|TOKEN(_?(FILE|PATH|DIR))?$"  # not TOKENIZERS_PARALLELISM, not …_MAX_TOKENS
    r"|_(KEY|PASS|PWD|PAT|COOKIE)$|(^|_)AUTH(_|$)",
    re.IGNORECASE,
)
_ACCOUNTS = re.compile(r"^(AWS|AZURE|ARM|GOOGLE|GCP|GCLOUD|OCI|NETRC)(_|$)", re.IGNORECASE)
_PATTERNS = re.compile(
    r"hf_[A-Za-z0-9]{16,}"  # Hugging Face
    r"|sk-[A-Za-z0-9_-]{16,}"  # OpenAI-style
    r"|(?<=://)[^/@\s]+(?=@)"  # user:password in a URL
    r"|(?<=[Bb]earer )[A-Za-z0-9._~+/-]{8,}"
)
STRUCK = "[redacted]"
_told: set[str] = set()


def hide(value: str) -> None:
    """Treat a value that was read from elsewhere as a secret from now on."""
    _told.add(value)


def secrets() -> list[str]:
    """The values passed to `hide`, and environment variables with names of secrets; longest first."""
    values = {value for name, value in os.environ.items() if _NAMES.search(name) and len(value) >= 8} | _told
    # A path to a secret is not the secret, and redacting it would hide what a message is about.
    return sorted((value for value in values if not Path(value).exists()), key=len, reverse=True)


def is_secret(name: str) -> bool:
    """Whether a variable with this name contains a secret."""
    return _NAMES.search(name) is not None


def holds_secret(name: str, value: str) -> bool:
    """Whether a variable must not be passed to processes that do not need it, by its name or value."""
    return is_secret(name) or _ACCOUNTS.match(name) is not None or _PATTERNS.search(value) is not None


def redact(text: str) -> str:
    """`text` with every secret replaced by `[redacted]`."""
    for value in secrets():
        text = text.replace(value, STRUCK)
    return _PATTERNS.sub(STRUCK, text)
