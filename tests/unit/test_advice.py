"""The line of advice after a failure."""

from __future__ import annotations

import shlex
from pathlib import Path

import pytest

from bucketwheel import api
from bucketwheel.advice import Remedy, advice, advice_of, command, is_advice, remedy_of, resume_command
from bucketwheel.errors import (
    BucketwheelError,
    LeaseError,
    MappingError,
    QualityError,
    ResumeError,
    SelectionError,
    VerificationError,
)

RUN = "2025-01-31-20251101T041109Z-0a1b2c"
COMMAND = "bucketwheel run people --set quality.null_keys=error --tables-filter ibe_1,ibe_2"


@pytest.mark.parametrize(
    ("error", "line"),
    [
        (KeyboardInterrupt(), f"To resume: {COMMAND} --resume {RUN}"),
        (LeaseError("x"), f"Wait until the other process has finished, then run again: {COMMAND} --resume {RUN}"),
        (
            QualityError("x", accept={"quality.null_keys": "warn"}),
            "To resume: bucketwheel run people --tables-filter ibe_1,ibe_2 --set quality.null_keys=warn "
            f"--resume {RUN}",
        ),
        (QualityError("x"), f"Correct the snapshot, then run again: {COMMAND}"),
        (MappingError("x"), f"Fix the mapping, then run again: {COMMAND}"),
        (ResumeError("x"), f"To start a new run: {COMMAND}"),
        (
            SelectionError("x", instead=("ibe_1", "ibe_01")),
            f"To resume: {COMMAND.replace('ibe_1', 'ibe_01')} --resume {RUN}",
        ),
        (BucketwheelError("x", fix="Pay the bill"), f"Pay the bill, then run again: {COMMAND} --resume {RUN}"),
        (ZeroDivisionError(), f"Fix the cause, then run again: {COMMAND} --resume {RUN}"),
    ],
)
def test_advice_depends_on_the_error(error: BaseException, line: str) -> None:
    assert advice(remedy_of(error), COMMAND, RUN) == line
    assert is_advice(line)
    assert resume_command(line) == (line.removeprefix("To resume: ") if line.startswith("To resume") else "")


def test_advice_without_run_never_resumes() -> None:
    assert advice(Remedy(), "bucketwheel run people") == "To start a new run: bucketwheel run people"


def test_wrong_files_without_bucket_stage_need_a_whole_new_run() -> None:
    remedy = remedy_of(VerificationError("x"), rewrites=False)
    line = advice(remedy, "bucketwheel run people --stages register --conf c", RUN)
    assert line == "To start a new run: bucketwheel run people --conf c"


def test_advice_is_found_among_other_notes() -> None:
    error = QualityError("x")
    error.add_note("worker 1 died")
    assert advice_of(error) == ""
    error.add_note("To resume: bucketwheel run people")
    assert advice_of(error) == "To resume: bucketwheel run people"
    assert not is_advice("then run again")


@pytest.fixture
def conf(tmp_path: Path) -> Path:
    directory = tmp_path / "my conf"
    directory.mkdir()
    (directory / "base.yaml").write_text("datasets: {people: {source: data, key: id}}")
    (directory / "prod.yaml").write_text("threads: 3")
    return directory


def test_command_has_environment_directory_and_settings(conf: Path) -> None:
    environ = {"BUCKETWHEEL__BUCKETS__COUNT": "8", "BUCKETWHEEL__CATALOG__DATABASE": '"2025"'}
    config = api.load("prod", conf, {"quality.null_keys": "warn", "deploy.tags": {"a b": "c"}}, environ)
    text = command(config, ["bucketwheel", "run", "people"], ["--stages", "discover"])
    words = shlex.split(text)
    assert words == [
        *("bucketwheel", "run", "people", "--env", "prod", "--conf", str(conf)),
        *("--set", "buckets.count=8", "--set", "quality.null_keys=warn", "--set", 'catalog.database="2025"'),
        *("--set", "deploy.tags.a b=c", "--stages", "discover"),
    ]
    given = [tuple(word.split("=", 1)) for word in words if "=" in word]
    again = api.load("prod", conf, [(name, value, "--set") for name, value in given], {})
    assert again.settings == config.settings


def test_command_of_given_words_adds_what_the_environment_set(conf: Path) -> None:
    config = api.load("prod", conf, [("threads", "2", "--set")], {"BUCKETWHEEL__BUCKETS__COUNT": "8"})
    words = ["--conf", str(conf), "--set", "threads=2"]
    text = command(config, ["bucketwheel", "run", "people"], words, given=True)
    assert shlex.split(text) == [
        *("bucketwheel", "run", "people", "--env", "prod", "--set", "buckets.count=8", *words),
    ]


@pytest.mark.parametrize("joined", [True, False])
def test_secret_is_left_out_of_the_command(conf: Path, joined: bool) -> None:
    words = ["--set=trino.user=AKIAABCDEFGHIJKLMNOP"] if joined else ["--set", "trino.user=AKIAABCDEFGHIJKLMNOP"]
    text = command(api.load("local", None, {}, {}), ["bucketwheel", "run", "people"], words, given=True)
    line = advice(Remedy(), text, RUN)
    assert "AKIA" not in line
    assert line.startswith("Fill in trino.user, then run again: ")
    assert line.endswith(f"--resume {RUN}")


def test_secret_from_the_environment_is_left_out_of_the_command() -> None:
    config = api.load("local", None, {}, {"BUCKETWHEEL__TRINO__USER": "AKIAABCDEFGHIJKLMNOP"})
    line = advice(Remedy("Fix it"), command(config, ["bucketwheel", "run", "people"]), RUN)
    assert line == (
        f"Fix it and fill in trino.user, then run again: bucketwheel run people --set 'trino.user=…' --resume {RUN}"
    )
