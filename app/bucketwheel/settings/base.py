"""Base of the settings: a strict, frozen record, and parsers of values."""

from __future__ import annotations

import re
from typing import Annotated, Any, NoReturn, Self

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, model_validator

_UNITS = {"": 1, "b": 1, "kb": 10**3, "mb": 10**6, "gb": 10**9, "kib": 2**10, "mib": 2**20, "gib": 2**30}
_S3_ARN = re.compile(r"(?:\w+://)?arn:[\w-]+:s3[\w-]*:[\w-]*:(?P<account>\d*):(?P<resource>.+)", re.IGNORECASE)
_SIZE = re.compile(r"^\s*(\d+(?:\.\d+)?)\s*([kmg]?i?b)?\s*$", re.IGNORECASE)


def parse_bytes(value: Any) -> int:
    """Return a size in bytes from a whole number or a text such as ``512MB`` or ``1GiB``.

    Raises:
        ValueError: the text is not a size.
    """
    if isinstance(value, int) and not isinstance(value, bool):
        return value
    match = _SIZE.match(value) if isinstance(value, str) else None
    if match is None:
        raise ValueError("expected a size such as 512MB, 8GiB or a number of bytes")
    return int(float(match[1]) * _UNITS[(match[2] or "").lower()])


def parse_memory(value: Any) -> Any:
    """Return a size in bytes, or ``auto``."""
    return value if value == "auto" else parse_bytes(value)


def parse_count(value: Any) -> Any:
    """Return a text of digits, such as an option value, as a number."""
    if isinstance(value, str) and value.isdigit():
        return int(value)
    return value


def parse_list(value: Any) -> tuple[Any, ...]:
    """Return a list as a tuple.

    Raises:
        ValueError: the value is no list.
    """
    if not isinstance(value, list | tuple):
        raise ValueError("expected a list")
    return tuple(value)


def parse_names(value: Any) -> Any:
    """Return a text of names, separated by commas, or a list of them as a tuple."""
    if isinstance(value, str):
        return tuple(part.strip() for part in value.split(",") if part.strip())
    return tuple(value) if isinstance(value, list) else value


def arn_problem(location: str) -> str:
    """Return why a location that is an ARN of S3 is refused, and what to write instead; empty for other locations."""
    found = _S3_ARN.fullmatch(location)
    if found is None:
        return ""
    kind, _, rest = re.sub(r"[:/]", "/", found["resource"]).partition("/")
    if kind != "accesspoint":
        return f"{location} is an ARN; write s3://{found['resource']}"
    name, _, prefix = rest.partition("/")
    below = f"/{prefix.removeprefix('object').strip('/')}".rstrip("/")
    return (
        f"{location} is the ARN of an access point; write its alias as the bucket: s3://ALIAS{below} (aws s3control "
        f"get-access-point --account-id {found['account'] or 'ACCOUNT'} --name {name} --query Alias)"
    )


def _check_location(location: str) -> str:
    if problem := arn_problem(location):
        raise ValueError(problem)
    return location


Location = Annotated[str, AfterValidator(_check_location)]
ByteSize = Annotated[int, BeforeValidator(parse_bytes), Field(gt=0)]
Names = Annotated[tuple[str, ...], BeforeValidator(parse_names)]


class FixedDict(dict[str, Any]):
    """An immutable dict; unlike a mapping proxy, it can be pickled and serialized."""

    def _refuse(self, *_: Any, **__: Any) -> NoReturn:
        raise TypeError("settings are frozen; load a configuration with other values")

    __setitem__ = __delitem__ = __ior__ = _refuse
    clear = pop = popitem = setdefault = update = _refuse

    def __reduce__(self) -> tuple[type[FixedDict], tuple[dict[str, Any]]]:
        return type(self), (dict(self),)


class Frozen(BaseModel):
    """An immutable record that rejects unknown keys."""

    # Defaults are validated too, so that a value has one type (20.0, not 20) whether it is given or not.
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, validate_default=True, allow_inf_nan=False)

    @model_validator(mode="after")
    def _fix_dicts(self) -> Self:
        # Done here for all fields, so that defaults are immutable too.
        for name, value in self:
            if type(value) is dict:
                self.__dict__[name] = FixedDict(value)
        return self
