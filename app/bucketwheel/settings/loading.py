"""Load settings from files, environment and options, and record the origin of each value.

Each source overrides the ones before it: built-in defaults, `base.yaml`, `<env>.yaml`, variables such as
`BUCKETWHEEL__BUCKETS__COUNT=32`, then `--set` and flags in the order given. A value of false, 0 or "" counts as
given.
"""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml
from pydantic import BaseModel, ValidationError

from bucketwheel.errors import BucketwheelError, ConfigError, did_you_mean
from bucketwheel.formatting import counted, html_table, table
from bucketwheel.safe_text import one_line
from bucketwheel.settings import DatasetSettings, LayoutSettings, Settings
from bucketwheel.settings.base import FixedDict
from bucketwheel.settings.documents import MAX_BYTES, parse_yaml
from bucketwheel.settings.names import name_problem
from bucketwheel.settings.secrets import masked

if TYPE_CHECKING:
    from pydantic_core import ErrorDetails

ENVIRONMENT_PREFIX = "BUCKETWHEEL__"
# pathlib turns the two slashes into one.
_URI = re.compile(r"(?P<scheme>[A-Za-z][A-Za-z0-9+.-]+):/{1,2}(?P<rest>.*)")
# Pydantic lists the accepted values as 'a', 'b' or 'c'.
_QUOTED = re.compile(r"'([^']*)'")
# Signs with a meaning of their own at the start of a YAML value.
_NO_TEXT = "*&!%@`[{|>"
# Environment of commands without --env.
DEFAULT_ENV = "local"

# Clearer messages than Pydantic's for the most frequent mistakes.
_TEXTS = {
    "missing": "is missing",
    "model_type": "expected settings below this name",
    "too_short": "must not be empty",
    "tuple_type": "expected a name or a list of names",
    "string_pattern_mismatch": "should be a lowercase letter, then up to 31 lowercase letters, digits and _",
}

# Settings whose values are models, by name or in a list.
_PARTS: Mapping[str, type[BaseModel]] = {"datasets": DatasetSettings, "layouts": LayoutSettings}

# The text of a configuration has at most this many lines, and values of this many characters.
_SHOWN, _WIDEST = 18, 40


def _short(value: Any) -> str:
    text = json.dumps(value, default=str)
    return text if len(text) <= _WIDEST else f"{text[: _WIDEST - 1]}…"


@dataclass(frozen=True, repr=False)
class Configuration:
    """The settings of one environment and the origin of every value, by dotted name.

    `directory` is the directory of the files as it was given; None if it was not.
    """

    settings: Settings
    env: str
    origins: Mapping[str, str]
    directory: str | None = None

    def rows(self) -> list[tuple[str, Any, str]]:
        """Return (dotted name, value, origin) of every setting, in the order of the documentation."""
        document = self.settings.model_dump()
        # Models of other packages may hold anything.
        document["plugins"] = self.settings.model_dump(mode="json", include={"plugins"})["plugins"]
        values = flatten(masked(document))
        return [(name, value, self._origin(name)) for name, value in values]

    def __str__(self) -> str:
        """Return the settings that differ from the defaults, with their origins; at most a screen."""
        rows = self.rows()
        given = [(name, _short(value), origin) for name, value, origin in rows if origin != "default"]
        more = [f"and {counted(len(given) - _SHOWN, 'more setting')}: config.rows()"] if len(given) > _SHOWN else []
        head = f"env {self.env}: {counted(len(given), 'setting')} given, {len(rows) - len(given):,} by default"
        return "\n".join([head, *([table(("setting", "value", "origin"), given[:_SHOWN])] if given else []), *more])

    def __repr__(self) -> str:
        """Return the environment and the number of given settings."""
        return f"<Configuration {str(self).splitlines()[0]}>"

    def _repr_html_(self) -> str:
        """Return `str` for a notebook."""
        rows = [(name, _short(value), origin) for name, value, origin in self.rows() if origin != "default"]
        return html_table(("setting", "value", "origin"), rows, str(self).splitlines()[0])

    def _origin(self, name: str) -> str:
        while name:
            if name in self.origins:
                return self.origins[name]
            name = name.rpartition(".")[0]
        return "default"


def flatten(values: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Yield (dotted name, value) of every leaf."""
    for key, value in values.items():
        name = f"{prefix}{key}"
        if isinstance(value, Mapping) and value:
            yield from flatten(value, f"{name}.")
        else:
            yield name, value


def load(
    env: str = "local",
    directory: Path | str | None = None,
    overrides: Sequence[tuple[str, Any, str]] = (),
    environ: Mapping[str, str] | None = None,
    plugin_model: Callable[[str], type[BaseModel] | None] | None = None,
    read_files: bool = True,
) -> Configuration:
    """Return the checked configuration.

    Args:
        env: name of the file beside `base.yaml`.
        directory: directory of the files; if None, `./conf` if it exists, otherwise only built-in defaults.
        overrides: (dotted name, value, origin) of flags, applied in order; text is read as YAML.
        environ: environment variables; if None, no variables are read.
        plugin_model: returns the model of a plug-in's settings, or None if it has no settings, and raises ConfigError
            for an unknown plug-in; without it, the settings of plug-ins are not checked here.
        read_files: if False, only the defaults, `environ` and `overrides` are used.

    Raises:
        ConfigError: lists every unknown key and wrong value with its origin.
    """
    merged: dict[str, Any] = {}
    origins: dict[str, str] = {}
    problems: list[str] = []
    for path in _files(env, directory) if read_files else ():
        with _collected(problems):
            _merge(merged, origins, _read(path), str(path))
    for name, text in sorted((environ or {}).items()):
        if name.startswith(ENVIRONMENT_PREFIX):
            dotted = name.removeprefix(ENVIRONMENT_PREFIX).lower().replace("__", ".")
            with _collected(problems):
                _assign(merged, origins, dotted, _scalar(text, name), f"environment {name}")
    for dotted, value, origin in overrides:
        with _collected(problems):
            read = _scalar(value, f"{origin} {dotted}") if isinstance(value, str) else value
            _assign(merged, origins, dotted, read, origin)
    try:
        settings = Settings.model_validate(merged)
        if plugin_model:
            settings = _with_plugins(settings, plugin_model, origins, problems)
    except ValidationError as error:
        problems += _described(error, origins)
    if problems:
        raise ConfigError("\n".join(problems))
    return Configuration(settings, env, origins, None if directory is None else str(directory))


def plugin_settings(
    name: str, model: type[BaseModel], values: Mapping[str, Any], origins: Mapping[str, str] | None = None
) -> BaseModel:
    """Return the settings of a plug-in, checked by its own model.

    Raises:
        ConfigError: lists every unknown key and wrong value.
    """
    try:
        return model.model_validate(dict(values))
    except ValidationError as error:
        raise ConfigError("\n".join(_described(error, origins or {}, model, f"plugins.{name}."))) from error


def _with_plugins(
    settings: Settings,
    plugin_model: Callable[[str], type[BaseModel] | None],
    origins: Mapping[str, str],
    problems: list[str],
) -> Settings:
    """Return the settings after checking those of plug-ins and adding their defaults."""
    chosen = (settings.engine, settings.catalog.kind, settings.ctas.method, *settings.stages)
    checked: dict[str, Any] = {}
    for name in dict.fromkeys((*settings.plugins, *chosen)):
        given = settings.plugins.get(name)
        try:
            model = plugin_model(name)
        except BucketwheelError as error:
            # A backend that is chosen but not installed is reported when it is needed.
            if given is not None:
                problems.append(f"plugins.{name} ({_source(f'plugins.{name}', origins)}): {error}")
            continue
        if model is None:
            if given is not None:
                problems.append(
                    f"plugins.{name} ({_source(f'plugins.{name}', origins)}): {name!r} has no settings of its own"
                )
            continue
        with _collected(problems):
            checked[name] = FixedDict(plugin_settings(name, model, given or {}, origins).model_dump(by_alias=True))
    return settings.model_copy(update={"plugins": FixedDict(checked)})


@contextmanager
def _collected(problems: list[str]) -> Iterator[None]:
    """Collect the errors of one source of settings, so that the other sources are checked too."""
    try:
        yield
    except ConfigError as error:
        problems.append(str(error))


def _files(env: str, directory: Path | str | None) -> list[Path]:
    if problem := name_problem(env):
        raise ConfigError(f"--env {env!r}: the name {problem}; it names a file beside base.yaml")
    try:
        return _chosen_files(env, directory)
    except ConfigError as error:
        raise ConfigError(one_line(error)) from error


def _chosen_files(env: str, directory: Path | str | None) -> list[Path]:
    if directory is not None and (uri := _URI.match(str(directory))):
        raise ConfigError(
            f"--conf {uri['scheme']}://{uri['rest']}: not a local directory; download it first, for example: "
            f"aws s3 cp --recursive {uri['scheme']}://{uri['rest']} conf (jobs read it from S3: --config-dir)"
            if uri["scheme"].lower().startswith("s3")
            else f"--conf {uri['scheme']}://{uri['rest']}: not a local directory; name its path, such as --conf conf"
        )
    folder = Path(directory) if directory is not None else Path("conf")
    if not folder.is_dir():
        if directory is not None:
            raise ConfigError(f"--conf {folder}: no such directory")
        if env != DEFAULT_ENV:
            raise ConfigError(f"--env {env}: no directory ./conf here; name one with --conf DIR")
        return []
    base, chosen = folder / "base.yaml", folder / f"{env}.yaml"
    files = [path for path in (base, chosen) if path.is_file()]
    for path in (base, chosen):
        if path.exists() and not path.is_file():
            raise ConfigError(f"{path}: is not a regular file; replace it by one")
    if base.is_symlink() and not base.exists():
        raise ConfigError(
            f"{base}: is a link to {base.readlink()}, which does not exist; restore it, or delete the link"
        )
    known = _environments(folder)
    # The default environment needs no file of its own.
    if chosen not in files and (env != DEFAULT_ENV or chosen.is_symlink()):
        raise ConfigError(f"--env {env}: {chosen} does not exist; {_hint(env, sorted({*known, DEFAULT_ENV}))}")
    if directory is not None and not files and not known:
        raise ConfigError(f"--conf {folder}: no .yaml files; put base.yaml and <env>.yaml there")
    return files


def _environments(folder: Path) -> list[str]:
    try:
        return sorted(path.stem for path in folder.glob("*.yaml") if path.name != "base.yaml")
    except OSError as error:
        raise ConfigError(f"--conf {folder}: cannot be listed: {error.strerror}") from error


def _read(path: Path) -> Mapping[str, Any]:
    try:
        with path.open("rb") as file:
            # One byte more than the limit is enough to refuse it.
            content = parse_yaml(file.read(MAX_BYTES + 1), str(path))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: is not YAML: {_reason(error)}") from None
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read: {error.strerror}") from error
    if content is None:
        return {}
    if not isinstance(content, Mapping):
        raise ConfigError(f"{path}: expected settings, found {type(content).__name__}")
    return content


def _reason(error: Exception) -> str:
    """Return why a text is not YAML and the line, but not the line itself, which may hold a password."""
    mark = getattr(error, "problem_mark", None)
    if not isinstance(error, yaml.MarkedYAMLError) or mark is None:
        return str(error)
    parts = (error.context, error.problem)
    return f"line {mark.line + 1}, column {mark.column + 1}: {': '.join(part for part in parts if part)}"


def _merge(
    merged: dict[str, Any], origins: dict[str, str], new: Mapping[str, Any], origin: str, prefix: str = ""
) -> None:
    for key, value in new.items():
        name = f"{prefix}{key}"
        if isinstance(value, Mapping) and isinstance(merged.get(key), dict):
            _merge(merged[key], origins, value, origin, f"{name}.")
        elif isinstance(value, Mapping):
            merged[key] = {}
            _merge(merged[key], origins, value, origin, f"{name}.")
        else:
            merged[key] = value
            origins[name] = origin


def _assign(merged: dict[str, Any], origins: dict[str, str], dotted: str, value: Any, origin: str) -> None:
    *parents, last = dotted.split(".")
    if not all((*parents, last)):
        raise ConfigError(f"{origin}: {dotted!r} is not the name of a setting")
    node = merged
    for parent in parents:
        node = node.setdefault(parent, {})
        if not isinstance(node, dict):
            raise ConfigError(f"{origin}: {dotted!r}: {parent!r} is a single value, it has no settings below it")
    _merge(node, origins, {last: value}, origin, "".join(f"{parent}." for parent in parents))


def _scalar(text: str, origin: str) -> Any:
    try:
        return parse_yaml(text, origin) if text else ""
    except yaml.YAMLError as error:
        name = origin.rpartition(".")[2].rpartition("__")[2]
        value = masked(text, name)
        fix = f"; {_yaml_fix(text)}" if text[0] in _NO_TEXT and value == text else ""
        raise ConfigError(f"{origin}: {value!r} is not a YAML value: {_reason(error)}{fix}") from None


def _yaml_fix(text: str) -> str:
    """Return how to write a text such as the pattern *.pq, which YAML takes for something else."""
    if text.startswith("[") and text.endswith("]"):
        return "put quotes around each text of the list"
    return f"for this text, put quotes inside those of the shell: {shlex.quote(json.dumps(text, ensure_ascii=False))}"


def _described(
    error: ValidationError, origins: Mapping[str, str], root: type[BaseModel] = Settings, prefix: str = ""
) -> list[str]:
    """Return a line for each wrong setting; Pydantic reports one problem per type that a setting accepts."""
    texts: dict[str, list[str]] = {}
    values: dict[str, str] = {}
    for problem in error.errors():
        # Pydantic adds the names of union members to a location, and [key] to that of a name in a mapping; settings
        # are strings of their own case.
        path = [str(part) for part in problem["loc"] if part != "[key]"]
        name = (prefix + _known_part(path, root)).rstrip(".")
        text = problem["msg"].removeprefix("Value error, ").replace("Input should be", "should be")
        if problem["type"] == "extra_forbidden":
            text = f"unknown setting; {_hint(path[-1], _siblings(path, root))}"
        elif problem["type"] in _TEXTS:
            text = _TEXTS[problem["type"]]
        if problem["type"] not in ("extra_forbidden", "missing") and not _holds_mappings(problem["input"]):
            values[name] = f", not {masked(problem['input'], path[-1])!r}{_guess(problem)}"
        known = texts.setdefault(name, [])
        known.append(text.removeprefix("should be ") if known else text)
    return [
        one_line(f"{name} ({_source(name, origins)}): {' or '.join(messages)}{values.get(name, '')}")
        for name, messages in texts.items()
    ]


def _holds_mappings(value: Any) -> bool:
    return isinstance(value, Mapping) or (isinstance(value, list) and any(map(_holds_mappings, value)))


def _guess(problem: ErrorDetails) -> str:
    """Return the closest of the values that a setting accepts, as a question; empty if none is close."""
    accepted = _QUOTED.findall(str(problem.get("ctx", {}).get("expected", "")))
    guess = did_you_mean(str(problem["input"]), accepted).rstrip()
    return f"; {guess}" if guess else ""


def _source(name: str, origins: Mapping[str, str]) -> str:
    """Return the origin of a setting, otherwise of the first known setting in it or in a section around it."""
    while name:
        for known, origin in origins.items():
            if known == name or known.startswith(f"{name}."):
                return origin
        name = name.rpartition(".")[0]
    return "the configuration"


def _model(path: Sequence[str], root: type[BaseModel]) -> tuple[type[BaseModel] | None, int]:
    """Follow a location through the models; return the last model reached and how deep that was."""
    model: type[BaseModel] | None = root
    depth = 0
    for index, part in enumerate(path):
        if model is None or part not in model.model_fields:
            break
        depth = index + 1
        if part in _PARTS and model is Settings:
            return (_PARTS[part] if len(path) > 2 else None), min(len(path), index + 2)
        kind = model.model_fields[part].annotation
        model = kind if isinstance(kind, type) and issubclass(kind, BaseModel) else None
    return model, depth


def _known_part(path: Sequence[str], root: type[BaseModel]) -> str:
    model, depth = _model(path, root)
    return ".".join(path[: depth + 1] if model is not None else path[: max(depth, 1)])


def _siblings(path: Sequence[str], root: type[BaseModel]) -> list[str]:
    model, _ = _model(path, root)
    return sorted(model.model_fields) if model is not None else []


def _hint(name: str, known: Sequence[str]) -> str:
    choices = f"known: {', '.join(known)}" if known else "there are none"
    guess = did_you_mean(name, known)
    return f"{guess}({choices})" if guess else choices
