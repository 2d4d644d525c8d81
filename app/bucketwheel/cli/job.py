"""Run the pipeline as a job of AWS Glue, EMR Serverless or `spark-submit`; called by `app/job.py`.

It accepts the arguments of `bucketwheel run`, also by the names of earlier jobs. On success it returns, because Glue
treats any exit as a failure, even exit code 0. On failure it raises the error that operators will read.
"""

from __future__ import annotations

import json
import os
import shlex
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

import click

from bucketwheel import host
from bucketwheel.advice import selection, setting_words
from bucketwheel.cli import cli
from bucketwheel.cli.options import AUTOMATIC, OLD_NAMES, Invocation
from bucketwheel.cli.pipeline import run
from bucketwheel.cli.signals import terminate_cleanly
from bucketwheel.cli.terminal import mask_tracebacks
from bucketwheel.errors import BucketwheelError, ConfigError, JobFailedError
from bucketwheel.host import VARIABLE

if TYPE_CHECKING:
    from bucketwheel.monitoring.json_log import JsonLog

PLATFORMS = ("glue", "emr-serverless")
# Only Glue passes these, and it passes them to every script.
_GLUE_MARKS = ("--JOB_RUN_ID", "--JOB_ID")
# Arguments that jobs spell differently from `run`: Glue keeps --conf for Spark and passes each name only once.
_DATASET = ("--dataset", "--DATASET")
_CONF = ("--config-dir", "--CONFIG_DIR", "--conf")
_ON_S3 = ("s3://", "s3a://", "s3n://")
_SETTINGS = ("--settings", "--SETTINGS")
_TOPIC = "--notices-topic"

# The arguments of a job beyond those of `run`.
ARGUMENTS: Mapping[tuple[str, ...], str] = {
    _DATASET: "the dataset; _NONE_ or an empty value means all datasets",
    _CONF: "the directory with base.yaml and <env>.yaml, local or on S3",
    (_TOPIC,): "the SNS topic for notifications (monitoring.topic_arn); an explicit setting takes precedence",
    _SETTINGS: 'several settings as one JSON object: {"buckets.count": 32}; Glue passes each name only once',
}


def main(arguments: Sequence[str]) -> None:
    """Run the pipeline with the arguments of a job; write JSON lines to stdout unless `--output` is given.

    Raises:
        JobFailedError: a stage failed, the job was interrupted, or the arguments are wrong; says how to continue.
    """
    mask_tracebacks()
    given = _pairs(arguments)
    if any(name in _GLUE_MARKS for name, _ in given):
        os.environ.setdefault(VARIABLE, "glue")
    # See cli.main; executors get it through the Spark session.
    os.environ.setdefault("MIMALLOC_ALLOW_THP", "0")
    from bucketwheel import api
    from bucketwheel.monitoring.json_log import JsonLog

    log = JsonLog(sys.stdout)
    invocation = Invocation(["run"])
    try:
        with (
            terminate_cleanly(),
            _logged(invocation, log),
            tempfile.TemporaryDirectory(prefix="bucketwheel-conf-") as directory,
        ):
            words = run_words(
                given, lambda conf: api.local_directory(conf, directory), lambda text: log.write("INFO", text)
            )
            if not any(word.startswith("--output=") for word in words):
                words.append("--output=log")
                invocation.log = log
            invocation.words = ["run", *words]
            platform = host.detect(os.environ)
            invocation.platform = platform if platform in PLATFORMS else ""
            invocation.again = _again(given, invocation.platform)
            cli.main(invocation.words, prog_name="bucketwheel", standalone_mode=False, obj=invocation)
    except BucketwheelError as error:
        # Platforms keep only the text: the class name tells operators which kind of failure it is.
        text = f"{type(error).__name__}: {error}"
        raise JobFailedError("\n".join([text, *getattr(error, "__notes__", [])])) from error
    except (click.Abort, KeyboardInterrupt) as error:
        # Click replaces the interrupt, to which the run added notes, by an error of its own.
        interrupt = error.__cause__ or error
        notes = getattr(interrupt, "__notes__", [])
        raise JobFailedError("\n".join([str(interrupt) or "interrupted", *notes])) from error
    except click.ClickException as error:
        raise JobFailedError(error.format_message()) from error


@contextmanager
def _logged(invocation: Invocation, log: JsonLog) -> Iterator[None]:
    """Log a line of level ERROR if the block fails for any reason; alarms look for that line."""
    try:
        yield
    except BaseException as error:
        interrupted = isinstance(error, click.Abort) and error.__cause__
        (invocation.log or log).failure(interrupted or error)
        raise


def _again(given: Sequence[tuple[str, str | None]], platform: str) -> str:
    """Return the command that starts this job again, for one dataset; empty if `bucketwheel run` does.

    `run` does not read a configuration on S3, and the job's copy of it is in a temporary directory.
    """
    filled = [(name, value) for name, value in given if value is not None and value not in AUTOMATIC]
    if platform:
        words = ["bucketwheel", "submit", platform, "{dataset}"]
        words += [word for name, value in filled for word in _submitted(name, value, platform)]
    elif any(name in _CONF and value.lower().startswith(_ON_S3) for name, value in filled):
        words = ["spark-submit", sys.argv[0], "--dataset", "{dataset}"]
        words += [word for name, value in filled for word in _repeated(name, value)]
    else:
        return ""
    return " ".join(word if word == "{dataset}" else shlex.quote(word) for word in words)


def _repeated(name: str, value: str) -> Sequence[str]:
    """Return the arguments of a job that stand for one of its arguments."""
    if name in (*_DATASET, "--resume", ""):
        return ()
    if name in _SETTINGS:
        return setting_words(_settings(value))
    if name == "--set" and "=" in value:
        key, _, text = value.partition("=")
        return setting_words({key: text})
    return (name, value)


def _submitted(name: str, value: str, platform: str) -> Sequence[str]:
    """Return the options of `submit` that stand for an argument of the job."""
    if name in ("--env", "--stages", "--engine"):
        return (name, value)
    if name in ("--snapshot-dt", "--SNAPSHOT_DT"):
        return tuple(selection(snapshot_dt=value))
    if name in ("--tables-filter", "--TABLES_FILTER"):
        return tuple(selection(tables=[value]))
    if name in _CONF and value.endswith("/conf") and platform == "emr-serverless":
        return ("--package", value.removesuffix("/conf"))
    if name in _SETTINGS:
        return setting_words(_settings(value))
    if name == "--set" and "=" in value:
        key, _, text = value.partition("=")
        return setting_words({key: text})
    if name in OLD_NAMES:
        return setting_words({OLD_NAMES[name]: json.dumps(value, ensure_ascii=False)})
    return ()


def _pairs(arguments: Sequence[str]) -> list[tuple[str, str | None]]:
    """Return (name, value) of each argument; a word without a name is returned as ("", word)."""
    pairs: list[tuple[str, str | None]] = []
    open_name = False
    for word in arguments:
        if word.startswith("--"):
            name, equals, value = word.partition("=")
            pairs.append((name, value if equals else None))
            open_name = not equals
        elif open_name:
            pairs[-1] = (pairs[-1][0], word)
            open_name = False
        else:
            pairs.append(("", word))
    return pairs


def run_words(
    given: Sequence[tuple[str, str | None]], local: Callable[[str], str], log: Callable[[str], None]
) -> list[str]:
    """Return the arguments in the form of `bucketwheel run`; `log` gets the ignored ones.

    Args:
        given: (name, value) pairs; a pair with an empty name is a word by itself.
        local: returns a local copy of the configuration's directory.
        log: gets one line of text.

    Raises:
        ConfigError: `--settings` is not a JSON object.
    """
    known = {name for parameter in run.params if isinstance(parameter, click.Option) for name in parameter.opts}
    words: list[str] = []
    ignored: list[str] = []
    # First, so that an explicit setting takes precedence.
    topics = [value for name, value in given if name == _TOPIC and value not in (None, *AUTOMATIC)]
    words += [word for topic in topics for word in ("--set", f"monitoring.topic_arn={json.dumps(topic)}")]
    for name, value in given:
        if name == _TOPIC:
            continue
        if name in _DATASET or name == "":
            words += [] if value in (None, *AUTOMATIC) else [value or ""]
        elif name in _CONF and value and not value.startswith("spark."):
            words += ["--conf", local(value)]
        elif name in _SETTINGS and value:
            words += [word for key, text in _settings(value).items() for word in ("--set", f"{key}={text}")]
        elif name in known and name not in _CONF and value is not None:
            words.append(f"{name}={value}")
        else:
            ignored.append(name)
    if ignored:
        log(f"arguments of the platform, ignored: {', '.join(sorted(set(ignored)))}")
    return words


def _settings(text: str) -> Mapping[str, str]:
    try:
        settings = json.loads(text)
    except (ValueError, RecursionError):
        settings = None
    if not isinstance(settings, dict):
        raise ConfigError(f'--settings {text}: expected a JSON object such as {{"buckets.count": 32}}')
    return {name: value if isinstance(value, str) else json.dumps(value) for name, value in settings.items()}
