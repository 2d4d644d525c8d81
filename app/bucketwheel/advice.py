"""Compose the advice after a failure: the command to run next, and what to fix first, if anything.

A failed run ends with one line:

* ``To resume: COMMAND`` or ``To start a new run: COMMAND``, if the command works as printed;
* ``FIX, then run again: COMMAND``, if something has to be fixed first.

The command is complete: the environment, the directory of the configuration, every setting from options and
environment variables, and the settings that the error advises. The terminal, logs, notifications, the summary, the
report and `submit` show the same line.
"""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Final

import yaml

from bucketwheel.errors import BucketwheelError, VerificationError
from bucketwheel.safe_text import one_line
from bucketwheel.settings.loading import Configuration
from bucketwheel.settings.secrets import secrets_in

RESUME: Final = "To resume: "
NEW_RUN: Final = "To start a new run: "
_AGAIN: Final = ", then run again: "
_ADVICE = re.compile(rf"(?s)({re.escape(RESUME)}|{re.escape(NEW_RUN)}|[A-Z][^\n]*?{re.escape(_AGAIN)})(.+)")

# Replaces the value of a secret setting, which logs and notifications must not contain.
_HIDDEN: Final = "…"
_FROM_ENVIRONMENT: Final = ("environment ",)
_GIVEN: Final = ("--", "override", *_FROM_ENVIRONMENT)
_DEFAULT_ENV: Final = "local"


@dataclass(frozen=True)
class Remedy:
    """The fix, settings and corrections with which a failed command can continue.

    Attributes:
        fix: the fix in the imperative; empty if the command works without one.
        accept: settings with which the command works, by dotted name.
        resumable: whether the run can be resumed after the fix; otherwise a new run is needed.
        instead: a wrong word of the command and its correction; empty if there is none.
        whole: whether all stages have to run, whatever stages were selected.
    """

    fix: str = ""
    accept: Mapping[str, str] = field(default_factory=dict)
    resumable: bool = True
    instead: tuple[str, ...] = ()
    whole: bool = False


def remedy_of(error: BaseException, rewrites: bool = True) -> Remedy:
    """Return the remedy of an error.

    Args:
        error: the error with which the run ended.
        rewrites: whether resuming the run writes its files again; if not, wrong files need a new run.
    """
    if not isinstance(error, BucketwheelError):
        return Remedy("" if isinstance(error, KeyboardInterrupt | SystemExit) else BucketwheelError.fix)
    first = _remedy_of_one(error, rewrites)
    others = [_remedy_of_one(other, rewrites) for other in error.others]
    fixes = dict.fromkeys(remedy.fix for remedy in (first, *others) if remedy.fix)
    return replace(
        first,
        fix=" and ".join(fix if n == 0 else fix[:1].lower() + fix[1:] for n, fix in enumerate(fixes)),
        accept={name: value for remedy in (first, *others) for name, value in remedy.accept.items()},
        resumable=all(remedy.resumable for remedy in (first, *others)),
        instead=next((remedy.instead for remedy in (first, *others) if remedy.instead), ()),
    )


def _remedy_of_one(error: BucketwheelError, rewrites: bool) -> Remedy:
    if isinstance(error, VerificationError) and not rewrites:
        return Remedy(resumable=False, whole=True)
    if error.accept or error.instead:
        return Remedy(accept=error.accept, instead=error.instead)
    return Remedy(error.fix, resumable=error.resumable)


def advice(remedy: Remedy, command: str, run_id: str = "") -> str:
    """Return the line of advice.

    Args:
        remedy: from `remedy_of`.
        command: the command line, without ``--resume``.
        run_id: the run to resume, if there is one.
    """
    words = shlex.split(command)
    if remedy.whole:
        words = list(_without(words, "--stages"))
    if remedy.instead:
        wrong, right = remedy.instead
        words = [_corrected(word, wrong, right) for word in words]
    for name, value in remedy.accept.items():
        words = [*_without(words, "--set", f"{name}="), *setting_words({name: value})]
    resumes = bool(run_id) and remedy.resumable
    words += ["--resume", run_id] if resumes else []
    hidden = [
        word.removeprefix("--set=").removesuffix(f"={_HIDDEN}") for word in words if word.endswith(f"={_HIDDEN}")
    ]
    fixes = [*([remedy.fix] if remedy.fix else []), *(f"fill in {name}" for name in hidden)]
    if fixes:
        text = " and ".join(fixes)
        return one_line(f"{text[:1].upper()}{text[1:]}{_AGAIN}{shlex.join(words)}")
    return one_line(f"{RESUME if resumes else NEW_RUN}{shlex.join(words)}")


def advice_of(error: BaseException) -> str:
    """Return the line of advice among the notes of an error, or an empty string."""
    return next((note for note in getattr(error, "__notes__", ()) if is_advice(note)), "")


def is_advice(text: str) -> bool:
    """Return whether a text is a line of advice."""
    return _ADVICE.fullmatch(text) is not None


def resume_command(line: str) -> str:
    """Return the command in a line of advice if it resumes a run as printed, otherwise an empty string."""
    return line.removeprefix(RESUME) if line.startswith(RESUME) else ""


def command(config: Configuration, start: Sequence[str], options: Sequence[str] = (), given: bool = False) -> str:
    """Return a command line that works in any shell in the same directory.

    Args:
        config: the configuration of the failed command.
        start: the command and its dataset.
        options: further options.
        given: whether `options` are the user's own arguments, which already contain the settings; otherwise the
            settings are added from options and overrides.
    """
    names = {word.partition("=")[0] for word in options}
    words = list(start)
    if config.env != _DEFAULT_ENV and "--env" not in names:
        words += ["--env", config.env]
    if config.directory is not None and "--conf" not in names:
        words += ["--conf", config.directory]
    settings = given_settings(config, _FROM_ENVIRONMENT if given else _GIVEN)
    words += setting_words({name: _yaml(value) for name, value in settings})
    return shlex.join([*words, *_masked(options)])


def given_settings(config: Configuration, origins: tuple[str, ...] = _GIVEN) -> Iterator[tuple[str, Any]]:
    """Yield (dotted name, value) of every setting from options, overrides and environment variables."""
    return ((name, value) for name, value, origin in config.rows() if origin.startswith(origins))


def selection(
    stages: Sequence[str] = (), snapshot_dt: str | None = None, tables: Sequence[str] = ()
) -> Iterator[str]:
    """Yield the options that select stages, a snapshot and tables."""
    if stages:
        yield from ("--stages", ",".join(stages))
    if snapshot_dt:
        yield from ("--snapshot-dt", snapshot_dt)
    if tables:
        yield from ("--tables-filter", ",".join(tables))


def setting_words(texts: Mapping[str, str]) -> list[str]:
    """Return the options that set these settings, given as YAML; the values of secrets are left out."""
    return [word for name, text in texts.items() for word in ("--set", f"{name}={_shown(name, text)}")]


def _shown(name: str, text: str) -> str:
    parent, _, last = name.rpartition(".")
    return _HIDDEN if any(secrets_in({last: text}, parent)) else text


def _yaml(value: Any) -> str:
    """Return the text that `--set` reads as this value."""
    if isinstance(value, str):
        try:
            if yaml.safe_load(value) == value or value == "":
                return value
        except (yaml.YAMLError, ValueError, RecursionError):
            pass
    return json.dumps(value, ensure_ascii=False)


def _masked(words: Iterable[str]) -> Iterator[str]:
    """Yield the words of a command line; the values of secret settings are left out."""
    before = ""
    for word in words:
        option, text = ("--set=", word[6:]) if word.startswith("--set=") else ("", word)
        name, equals, value = text.partition("=")
        is_setting = equals and (option or before == "--set")
        yield f"{option}{name}={_shown(name, value)}" if is_setting else word
        before = word


def _without(words: Sequence[str], option: str, start: str = "") -> Iterator[str]:
    """Yield the words without each occurrence of an option whose value begins with `start`."""
    index = 0
    while index < len(words):
        word = words[index]
        value = words[index + 1] if index + 1 < len(words) else ""
        if word == option and value.startswith(start):
            index += 2
        elif word.startswith(f"{option}={start}"):
            index += 1
        else:
            yield word
            index += 1


def _corrected(word: str, wrong: str, right: str) -> str:
    """Return the word with `wrong` replaced by `right`, as the whole value or in a comma-separated list."""
    option, equals, values = word.rpartition("=") if word.startswith("--") else ("", "", word)
    return f"{option}{equals}{','.join(right if part.strip() == wrong else part for part in values.split(','))}"
