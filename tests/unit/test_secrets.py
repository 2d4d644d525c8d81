"""Credentials in settings, URLs, variables and messages are masked wherever they could be read."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest
import yaml
from pydantic import SecretStr

from bucketwheel import api, cli
from bucketwheel.advice import command
from bucketwheel.errors import ConfigError, StorageError
from bucketwheel.safe_text import MASK, without_credentials
from bucketwheel.settings.secrets import masked
from project import WIDE, Project, Result

SECRET = "Sesame0penZ"

COMMANDS = (
    ("config",),
    ("plan", WIDE),
    ("run", WIDE),
    ("runs",),
    ("show", "last"),
    ("report", "last"),
    ("doctor", "--timeout", "20"),
    ("config", "--set", f"trino.port={SECRET}", "--set", f"aws.token={SECRET}"),
    ("config", "--set", f"plugins.acme.password={SECRET}"),
    ("run", WIDE, "--set", f"target=s4://me:{SECRET}@x/y"),
    ("run", WIDE, "--set", f"datasets.{WIDE}.mapping=/no?token={SECRET}"),
    (
        "run",
        WIDE,
        "--set",
        f"datasets.{WIDE}.source=ftp://me:{SECRET}@x",
        "--set",
        f"glue.arguments.--secret={SECRET}",
    ),
    ("run", WIDE, "--set", "catalog.kind=glue", "--set", "aws.attempts=1", "--set", "aws.connect_seconds=0.1"),
)


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("http://me:%s@host:9000/x", f"http://me:{MASK}@host:9000/x"),
        ("http://me:%s@p@host/x@y", f"http://me:{MASK}@host/x@y"),
        ("https://%s@host", f"https://{MASK}@host"),
        ("/x?a=1&X-Amz-Signature=%s&X-Amz-Credential=%s", f"/x?a=1&X-Amz-Signature={MASK}&X-Amz-Credential={MASK}"),
        ("https://h/x?access_token=%s#top", f"https://h/x?access_token={MASK}#top"),
        ("AWS_SECRET_ACCESS_KEY=%s, x", f"AWS_SECRET_ACCESS_KEY={MASK}, x"),
        ("--set trino.password=%s", f"--set trino.password={MASK}"),
        ('{"db_password": "%s", "a": 1}', f'{{"db_password": "{MASK}", "a": 1}}'),
        ("{'apiKey': '%s'}", f"{{'apiKey': '{MASK}'}}"),
        (r'"{\"password\": \"%s\"}"', rf'"{{\"password\": \"{MASK}\"}}"'),
        ("CREATE SECRET s (KEY_ID '%s', SECRET '%s')", f"CREATE SECRET s (KEY_ID '{MASK}', SECRET '{MASK}')"),
        ("-----BEGIN RSA PRIVATE KEY-----\n%s\n-----END", f"-----BEGIN RSA PRIVATE KEY-----{MASK}-----END"),
        ("key AKIAIOSFODNN7EXAMPLE, tail", f"key AKIA{MASK}, tail"),
    ],
)
def test_credentials_are_masked_in_text(text: str, shown: str) -> None:
    given = text.replace("%s", SECRET)
    assert without_credentials(given, {}) == shown
    assert without_credentials(shown, {}) == shown
    assert str(StorageError(given)) == shown


@pytest.mark.parametrize(
    "text",
    [
        "s3://bucket/a@b",
        "http://host:9000/bucket",
        "mail me@example.com: http://x",
        "--set plugins.acme.password=…, then fill in plugins.acme.password",
        "plugins.acme.api_token: has the name of a secret; remove it",
        "run 1, token 0123456789abcdef; the same command with --token 0123456789abcdef",
        "arn:aws:secretsmanager:eu-west-1:123456789012:secret:x",
        "asiacustomerprofiles1",
        "column 'tokens' of table 'secrets'",
    ],
)
def test_other_text_is_kept(text: str) -> None:
    assert without_credentials(text, {}) == text


def test_values_of_secret_variables_are_masked() -> None:
    environ = {"TRINO_PASSWORD": SECRET, "AWS_SESSION_TOKEN": f"{SECRET}2", "AWS_CREDENTIALS_FILE": "/home/me/creds",
               "DB_PASSWORD": "short"}  # fmt: skip
    assert without_credentials(f"a {SECRET} b {SECRET}2 /home/me/creds short", environ) == (
        f"a {MASK} b {MASK}2 /home/me/creds short"
    )


def test_masked_settings_keep_their_form() -> None:
    given = {
        "a": [f"http://u:{SECRET}@h", 1],
        "token": SECRET,
        "tokenizer": "words",
        "kms_key": "arn:x",
        "passwords": (SECRET,),
        "pin": SecretStr(SECRET),
        "secret": None,
    }
    assert masked(given) == {
        "a": [f"http://u:{MASK}@h", 1],
        "token": MASK,
        "tokenizer": "words",
        "kms_key": "arn:x",
        "passwords": (MASK,),
        "pin": MASK,
        "secret": None,
    }


@pytest.mark.parametrize(
    ("text", "where"),
    [
        (f'a: 1\nplugins: {{x: {{password: "{SECRET}}}}}\n', "line 3, column 1"),
        (f"password: {SECRET}: x\n", "line 1, column 22"),
        (f"password: '{SECRET}\n", "line 2, column 1"),
    ],
)
def test_yaml_error_does_not_quote_the_file(tmp_path: Path, text: str, where: str) -> None:
    (tmp_path / "base.yaml").write_text(text)
    with pytest.raises(ConfigError) as caught:
        api.load("local", tmp_path, environ={})
    assert SECRET not in str(caught.value)
    assert where in str(caught.value)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("trino.port", f"http://u:{SECRET}@h"),
        ("buckets.password", SECRET),
        ("plugins.x.password", f"{{a: [{SECRET}"),
        ("trino.password", f"{SECRET}: x: y"),
    ],
)
def test_error_about_a_setting_does_not_quote_its_secret(name: str, value: str) -> None:
    for overrides, environ in (
        ({name: value}, {}),
        ({}, {f"BUCKETWHEEL__{name.upper().replace('.', '__')}": value}),
    ):
        with pytest.raises(ConfigError) as caught:
            api.load(overrides=overrides, environ=environ)
        assert SECRET not in str(caught.value)


def marked(project: Project) -> Project:
    """Put the secret into every setting and variable that could hold one."""
    url = f"http://me:{SECRET}@127.0.0.1:9/p?X-Amz-Signature={SECRET}"
    project.set(
        aws={"endpoint_url": url},
        storage={"endpoint_url": url},
        glue={"arguments": {"--db-password": SECRET, "--url": url}},
        trino={"host": f"https://me:{SECRET}@trino"},
        athena={"output_location": f"s3://bucket/x?token={SECRET}"},
    )
    return project


def outputs(project: Project, result: Result) -> dict[str, str]:
    """Return all that a person can read: both streams and the metadata of runs."""
    files = {str(path): path.read_text() for path in project.target.glob("_bucketwheel/**/*") if path.is_file()}
    files |= {str(path): path.read_text() for path in Path().glob("*.html")}
    return {**files, "stdout": result.stdout, "stderr": result.stderr}


@pytest.mark.parametrize("form", ["text", "json"])
def test_no_command_shows_a_secret(project: Project, monkeypatch: pytest.MonkeyPatch, form: str) -> None:
    for name in ("AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "TRINO_PASSWORD"):
        monkeypatch.setenv(name, SECRET)
    monkeypatch.setenv("BUCKETWHEEL__GLUE__ARGUMENTS", json.dumps({"--api_key": SECRET}))
    marked(project)
    for words in COMMANDS:
        result = project.cli(*words, *(() if words[0] == "report" else ("--output", form)))
        for name, text in outputs(project, result).items():
            assert SECRET not in text, (words, name, text)


def test_advised_command_leaves_secrets_out() -> None:
    config = api.load("local", None, {"aws.endpoint_url": f"http://me:{SECRET}@h"}, environ={})
    assert command(config, ["bucketwheel", "run", WIDE]) == f"bucketwheel run {WIDE} --set 'aws.endpoint_url=…'"
    assert yaml.safe_load(str(config.settings.aws.endpoint_url)) == f"http://me:{SECRET}@h"


def test_traceback_of_a_bug_masks_secrets(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "excepthook", sys.__excepthook__)
    with pytest.raises(SystemExit):
        cli.main(["--no-such-option"])
    capsys.readouterr()
    try:
        raise LookupError(f"http://me:{SECRET}@h \x1b[31m")
    except LookupError as error:
        sys.excepthook(type(error), error, error.__traceback__)
    text = capsys.readouterr().err
    assert text.startswith("Traceback")
    assert text.endswith(f"LookupError: http://me:{MASK}@h \\x1b[31m\n")
