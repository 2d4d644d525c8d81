"""Find possible secrets in the configuration; they would be readable in the package and in the AWS console."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from pydantic import SecretStr

from bucketwheel.safe_text import MASK, SECRET_NAMES, without_credentials

_ADVICE = "remove it, and give the job's role access instead, or keep it in AWS Secrets Manager"
_PATTERNS = (
    ("a secret that is not shown", re.compile(re.escape(MASK))),
    ("an access key", re.compile(r"\b(AKIA|ASIA)[A-Z0-9]{16}\b")),
    ("a private key", re.compile(r"-----BEGIN [A-Z ]*PRIVATE KEY-----")),
    ("a password in a URL", re.compile(r"\w+://[^/\s:@]+:[^/\s@]+@")),
    ("a GitHub token", re.compile(r"\bgh[pousr]_[A-Za-z0-9]{36}")),
    ("a secret", re.compile(r"(?i)\b(password|passwd|secret|secret_access_key|session_token|api_?key)\s*[=:]\s*\S+")),
)
# A text that looks like an AWS secret access key.
_RANDOM = re.compile(
    r"(?<![A-Za-z0-9/+=])(?=[^\s]*[a-z])(?=[^\s]*[A-Z])(?=[^\s]*[0-9])[A-Za-z0-9/+]{40}(?![A-Za-z0-9/+=])"
)


def masked(value: Any, name: str = "") -> Any:
    """Return a value with the texts of secret settings masked, and credentials in URLs and other texts."""
    if isinstance(value, Mapping):
        return {key: masked(part, str(key)) for key, part in value.items()}
    if isinstance(value, list | tuple):
        return type(value)(masked(part, name) for part in value)
    if isinstance(value, SecretStr):
        return MASK if value.get_secret_value() else ""
    if not isinstance(value, str):
        return value
    return MASK if value and SECRET_NAMES.search(name) else without_credentials(value)


def secrets_in(value: Any, name: str = "") -> Iterator[tuple[str, str]]:
    """Yield (dotted name, kind of secret and advice), never the value itself."""
    if isinstance(value, Mapping):
        for key, part in value.items():
            dotted = f"{name}.{key}" if name else str(key)
            if isinstance(part, str) and part and SECRET_NAMES.search(str(key)):
                yield dotted, f"has the name of a secret; {_ADVICE}"
            else:
                yield from secrets_in(part, dotted)
    elif isinstance(value, str | SecretStr):
        text = str(value)
        for words, pattern in _PATTERNS:
            if pattern.search(text):
                yield name, f"looks like {words}; {_ADVICE}"
                return
        if _RANDOM.search(text):
            yield name, f"looks like a secret key; {_ADVICE}"
    elif isinstance(value, Sequence):
        for number, part in enumerate(value):
            yield from secrets_in(part, f"{name}[{number}]")
