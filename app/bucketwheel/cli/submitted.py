"""A run as a job of AWS Glue, EMR Serverless or `spark-submit`: what `app/job.py` calls.

Takes what `bucketwheel run` takes, also by the names of earlier jobs. On success it returns: Glue takes any
exit, with 0 too, for a failure. Where the work failed it raises what operators will read.
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
from bucketwheel.cli import cli
from bucketwheel.cli.options import AUTOMATIC, Invocation
from bucketwheel.cli.pipeline import run
from bucketwheel.errors import BucketwheelError, ConfigError, JobFailedError
from bucketwheel.host import VARIABLE

if TYPE_CHECKING:
    from bucketwheel.monitoring.json_log import JsonLog

# Glue passes these to every script; only there.
_GLUE_MARKS = ("--JOB_RUN_ID", "--JOB_ID")
# Names for what cannot be given as `run` takes it: Glue keeps --conf for Spark and passes every name once.
_DATASET = ("--dataset", "--DATASET")
_CONF = ("--config-dir", "--CONFIG_DIR", "--conf")
_SETTINGS = ("--settings", "--SETTINGS")
_TOPIC = "--notices-topic"

# What a job takes beside what `run` takes.
ARGUMENTS: Mapping[tuple[str, ...], str] = {
    _DATASET: "the dataset, in place of the word; _NONE_ or nothing runs all",
    _CONF: "the directory of the configuration, also one on S3 with base.yaml and <env>.yaml",
    (_TOPIC,): "the topic for notices, monitoring.topic_arn; a setting given by hand wins",
    _SETTINGS: 'several settings at once, as JSON: {"buckets.count": 32}; Glue passes a name only once',
}


def main(arguments: Sequence[str]) -> None:
    """Run the pipeline with the arguments of a job; unless `--output` says otherwise, stdout gets JSON lines.

    Raises:
        JobFailedError: a stage failed, it was interrupted, or the arguments are wrong; the text says how to go on.
    """
    given = _pairs(arguments)
    if any(name in _GLUE_MARKS for name, _ in given):
        os.environ.setdefault(VARIABLE, "glue")
    # See cli.main; executors get it by the Spark session.
    os.environ.setdefault("MIMALLOC_ALLOW_THP", "0")
    from bucketwheel import api
    from bucketwheel.monitoring.json_log import JsonLog

    log = JsonLog(sys.stdout)
    called = Invocation(["run"])
    try:
        with _logged(called, log), tempfile.TemporaryDirectory(prefix="bucketwheel-conf-") as directory:
            words = run_words(
                given, lambda conf: api.local_directory(conf, directory), lambda text: log.say("INFO", text)
            )
            if not any(word.startswith("--output=") for word in words):
                words.append("--output=log")
                called.log = log
            called.words = ["run", *words]
            called.resuming = _resuming(given, host.detect(os.environ))
            cli.main(called.words, prog_name="bucketwheel", standalone_mode=False, obj=called)
    except BucketwheelError as error:
        # Platforms keep the text and nothing else: without its class, nobody could tell one failure from another.
        text = f"{type(error).__name__}: {error}"
        raise JobFailedError("\n".join([text, *getattr(error, "__notes__", [])])) from error
    except (click.Abort, KeyboardInterrupt) as error:
        # Click turns the interrupt that the run has noted something on into an error of its own.
        notes = getattr(error.__cause__ or error, "__notes__", [])
        raise JobFailedError("\n".join(["interrupted", *notes])) from error
    except click.ClickException as error:
        raise JobFailedError(error.format_message()) from error


@contextmanager
def _logged(called: Invocation, log: JsonLog) -> Iterator[None]:
    """Write a line of level ERROR where the block fails, whatever the reason: that line is what alarms look for."""
    try:
        yield
    except BaseException as error:
        interrupted = isinstance(error, click.Abort) and error.__cause__
        (called.log or log).failure(interrupted or error)
        raise


def _resuming(given: Sequence[tuple[str, str | None]], platform: str) -> str:
    """Return the beginning of the command with which a person resumes a run of this job; empty off the platforms.

    The job's own command line would be of no use elsewhere: its configuration is in a temporary directory.
    """
    if platform not in ("glue", "emr-serverless"):
        return ""
    words = ["bucketwheel", "submit", platform, "{dataset}"]
    for name, value in given:
        if name == "--env" and value:
            words += ["--env", value]
        elif name in _CONF and value and value.endswith("/conf") and platform == "emr-serverless":
            words += ["--package", value.removesuffix("/conf")]
        elif name in _SETTINGS and value:
            words += [word for key, text in _settings(value).items() for word in ("--set", f"{key}={text}")]
    return " ".join(word if word == "{dataset}" else shlex.quote(word) for word in words)


def _pairs(arguments: Sequence[str]) -> list[tuple[str, str | None]]:
    """Return (name, value) of each argument; a word that belongs to none comes as ("", word)."""
    found: list[tuple[str, str | None]] = []
    open_name = False
    for word in arguments:
        if word.startswith("--"):
            name, equals, value = word.partition("=")
            found.append((name, value if equals else None))
            open_name = not equals
        elif open_name:
            found[-1] = (found[-1][0], word)
            open_name = False
        else:
            found.append(("", word))
    return found


def run_words(
    given: Sequence[tuple[str, str | None]], local: Callable[[str], str], say: Callable[[str], None]
) -> list[str]:
    """Return the arguments as `bucketwheel run` takes them; `say` is told what is left out.

    Args:
        given: (name, value) pairs; a name with an empty name is a word by itself.
        local: makes the configuration's directory one on the local disk.
        say: gets a line for the log.

    Raises:
        ConfigError: `--settings` is not a JSON object.
    """
    known = {name for parameter in run.params if isinstance(parameter, click.Option) for name in parameter.opts}
    words: list[str] = []
    ignored: list[str] = []
    # First, so that a setting given by hand wins.
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
        say(f"arguments of the platform, not used here: {', '.join(sorted(set(ignored)))}")
    return words


def _settings(text: str) -> Mapping[str, str]:
    try:
        found = json.loads(text)
    except ValueError:
        found = None
    if not isinstance(found, dict):
        raise ConfigError(f'--settings {text}: expected a JSON object such as {{"buckets.count": 32}}')
    return {name: value if isinstance(value, str) else json.dumps(value) for name, value in found.items()}
