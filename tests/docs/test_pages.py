"""Every command of README.md and docs/ runs as written, in a fresh directory, and prints what the page shows.

The tests prepare what a page assumes its reader to have: `before` maps words of a block to what happens before it.
"""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import pytest

import bucketwheel
from aws_server import plain_client
from deploy_support import archive, rendered, statements
from deploy_support import checkout as write_checkout
from doctor_support import BLOCKED, DATA, RESULTS, ROLE, WORKGROUP, encrypted
from page_support import PAGES, ROOT, SHELL, Reader, blocks, matches
from submit_support import GROUP, JOB, fail

# moto has no metric filters.
pytestmark = pytest.mark.filterwarnings("ignore:Tried to parse AWS")
WIDE, NARROW = "infobase_attributes", "addressable_ids"
SAMPLE = "bucketwheel sample data --rows 20000 --tables 3 --columns 4"
SEPTEMBER = f"{SAMPLE} --snapshot-dt 2025-09-24"
# The pages that have a test here.
TESTED = (
    "README.md",
    "docs/deploy.md",
    "docs/getting-started.md",
    "docs/index.md",
    "docs/layouts.md",
    "docs/operations.md",
    "docs/reference/plugins.md",
    "docs/s3.md",
)
# The languages of blocks that a reader saves in a file.
FILES = ("csv", "python", "toml", "yaml")
START_AGAIN = "rm -rf out data"
Before = Mapping[str, Sequence[str | Callable[[], None]]]


def read(page: str, reader: Reader, before: Before) -> int:
    """Run the blocks of a page in order and return the number of commands."""
    left, commands = dict(before), 0
    for block in blocks(ROOT / page):
        if block.language not in SHELL or block.reason is not None:
            continue
        for words in [words for words in left if words in block.body]:
            for step in left.pop(words):
                if isinstance(step, str):
                    done = reader.run(step)
                    assert done.exit_code == 0, (step, done.terminal)
                else:
                    step()
        reader.read(block)
        commands += len(block.steps())
    assert not left, f"no block of {page} has these words: {list(left)}"
    return commands


def write_blocks(page: str, files: Mapping[str, str]) -> None:
    """Write the blocks that have the given words to files, as their reader does."""
    for name, words in files.items():
        (body,) = (block.body for block in blocks(ROOT / page) if words in block.body and block.language in FILES)
        Path(name).parent.mkdir(exist_ok=True)
        Path(name).write_text(body, "utf-8")


SAMPLE_FILES = {"conf/local.yaml": "infobase_attributes"}
README_FILES = {"mapping.csv": "table,column"}


def buckets(endpoint: str) -> None:
    """Create the buckets of conf/prod.yaml and the default grant, as in an account before the first deployment."""
    s3 = plain_client("s3", endpoint)
    for bucket in (DATA, RESULTS):
        s3.create_bucket(Bucket=bucket)
        encrypted(endpoint, bucket, "AES256")
        s3.put_public_access_block(Bucket=bucket, PublicAccessBlockConfiguration=BLOCKED)
    for key in (f"{name}/raw_input/snapshot_dt=2025-01-31/x.parquet" for name in (WIDE, NARROW)):
        s3.put_object(Bucket=DATA, Key=f"opus/{key}", Body=b"x")
    s3.put_object(Bucket=DATA, Key=f"opus/{WIDE}/mapping.csv", Body=b"x")
    # AWS does this in an account with the default settings of Lake Formation.
    plain_client("lakeformation", endpoint).grant_permissions(
        Principal={"DataLakePrincipalIdentifier": "IAM_ALLOWED_PRINCIPALS"},
        Resource={"Catalog": {}},
        Permissions=["CREATE_DATABASE"],
    )


def account(endpoint: str) -> None:
    """Create what conf/prod.yaml expects, with two faults: public access, and a role that may not write metadata."""
    buckets(endpoint)
    s3, athena, iam = (plain_client(name, endpoint) for name in ("s3", "athena", "iam"))
    s3.delete_public_access_block(Bucket=RESULTS)
    place = {"OutputLocation": f"s3://{RESULTS}/athena/", "EncryptionConfiguration": {"EncryptionOption": "SSE_S3"}}
    athena.create_work_group(Name=WORKGROUP, Configuration={"ResultConfiguration": place})
    template = rendered(deploy__package=f"s3://{RESULTS}/bucketwheel/some")
    trust = template["Resources"]["JobRole"]["Properties"]["AssumeRolePolicyDocument"]
    iam.create_role(RoleName=ROLE, AssumeRolePolicyDocument=json.dumps(trust))
    granted = [statement for statement in statements(template, "JobRole") if statement["Sid"] != "WriteBooks"]
    policy = json.dumps({"Version": "2012-10-17", "Statement": granted})
    iam.put_role_policy(RoleName=ROLE, PolicyName="jobs", PolicyDocument=policy)


def upload(endpoint: str, bucket: str) -> None:
    """Upload the sample data."""
    for path in sorted(Path("data").rglob("*")):
        if path.is_file():
            key = str(path.relative_to("data"))
            plain_client("s3", endpoint).put_object(Bucket=bucket, Key=key, Body=path.read_bytes())


def source_and_archive() -> None:
    """Write the code of the checkout, and a script in place of the one that builds the archive with Docker."""
    write_checkout(Path())
    Path("made").mkdir()
    shutil.copyfile(archive(Path("made"), Path()), "bucketwheel-venv.tar.gz")
    Path("docker").mkdir()
    Path("docker/build.sh").write_text("mkdir -p build && cp bucketwheel-venv.tar.gz build/\n", "utf-8")


def write_killed_run() -> None:
    """Write a program that runs the newest snapshot and is killed when it has written the first bucket."""
    script = (
        "import os, signal\n"
        "from bucketwheel import api\n"
        "def kill(step):\n"
        "    if step.stage == 'bucket' and step.state == 'done':\n"
        "        os.kill(os.getpid(), signal.SIGKILL)\n"
        f"api.run(api.load('local', 'conf'), '{WIDE}', progress=kill)\n"
    )
    Path("killed.py").write_text(script, "utf-8")


def test_pages_with_commands_have_a_test() -> None:
    shell = {block.page for page in PAGES for block in blocks(page) if block.language in SHELL and not block.reason}
    assert {str(page.relative_to(ROOT)) for page in shell} == {*TESTED}


def test_output_that_differs_does_not_match() -> None:
    shown = "run 2025-10-22-20261124T020026Z-c4a95a\n…\nibe_01  20,000  8  512.5 kB\n"
    assert matches("run 2025-10-22-20270101T000000Z-000000\nmore\nibe_01   20,000      8   1.0 MB\n", shown)
    for wrong in ("run 2025-10-23-20270101T000000Z-000000\nibe_01 20,000 8 1.0 MB", "ibe_01 20,000 8 1.0 MB"):
        assert not matches(wrong, shown)
    assert not matches("run 2025-10-22-20270101T000000Z-000000\nibe_01  19,999  8  1.0 MB", shown)


@pytest.mark.slow
def test_readme_commands_run_as_written(reader: Reader, cloud: str) -> None:
    def mapping() -> None:
        assert Path("mapping.csv").exists()
        write_blocks("README.md", README_FILES)

    def production() -> None:
        buckets(cloud)
        shutil.rmtree("conf")
        shutil.copytree(ROOT / "conf", "conf")
        source_and_archive()

    def next_month() -> None:
        # A rollback needs two published runs.
        shutil.copytree("people/snapshot_dt=2026-01-31", "people/snapshot_dt=2026-02-28")

    before: Before = {
        "$ bucketwheel run people": [mapping],
        "rollback --previous": [next_month],
        "doctor --env prod": [production],
    }
    assert read("README.md", reader, before) >= 9


@pytest.mark.slow
def test_start_page_commands_run_as_written(reader: Reader) -> None:
    assert read("docs/index.md", reader, {}) == 5


@pytest.mark.slow
def test_getting_started_commands_print_what_is_shown(reader: Reader, monkeypatch: pytest.MonkeyPatch) -> None:
    # With DuckDB's own program, the query to paste is another.
    monkeypatch.setenv("PATH", "/usr/bin:/bin")
    write_blocks("docs/getting-started.md", {"snapshot.py": "import duckdb"})
    assert read("docs/getting-started.md", reader, {}) == 17


@pytest.mark.slow
def test_layouts_commands_print_what_is_shown(reader: Reader) -> None:
    assert read("docs/layouts.md", reader, {}) == 5


@pytest.mark.slow
def test_operations_commands_print_what_is_shown(
    checkout: Reader, cloud: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_blocks("docs/operations.md", SAMPLE_FILES)
    failure = pytest.MonkeyPatch()
    october = f"{SAMPLE} --dirty null_keys"
    (message,) = re.findall(
        r"^error: (200 rows have a NULL key; .*)", (ROOT / "docs/operations.md").read_text("utf-8"), re.MULTILINE
    )

    def failing_job() -> None:
        plain_client("glue", cloud).create_job(
            Name=JOB, Role="r", Command={"Name": "glueetl", "ScriptLocation": "s3://x/y"}
        )
        plain_client("logs", cloud).create_log_group(logGroupName=GROUP)
        fail(failure, "FAILED", f"JobFailedError: QualityError: {message}")

    before: Before = {
        "$ bucketwheel doctor\n": [SEPTEMBER],
        "doctor --env prod": [lambda: account(cloud)],
        "quality.max_rows_changed_percent=20": [
            "bucketwheel sample data --rows 25000 --tables 3 --columns 4 --dirty null_keys"
        ],
        "error: 200 rows have a NULL key": [START_AGAIN, SEPTEMBER, f"bucketwheel run {WIDE}", october],
        "interrupted (": [START_AGAIN, SAMPLE, write_killed_run, "python killed.py || true"],
        "--SNAPSHOT_DT=2025-10-23": [
            SEPTEMBER,
            f"bucketwheel run {WIDE} --SNAPSHOT_DT=2025-09-24",
            f"bucketwheel run {WIDE}",
        ],
        "show 2 snapshots": [f"bucketwheel run {WIDE} --SNAPSHOT_DT=2025-10-22 --tables-filter ibe_01"],
        "--stages register": ["rm -r data/opus/*/raw_input/snapshot_dt=2025-10-22", f"{SAMPLE} --seed 2"],
        "$ bucketwheel rollback": [f"bucketwheel run {WIDE} --SNAPSHOT_DT=2025-09-24", f"bucketwheel run {WIDE}"],
        "bucketwheel show last --env prod": [
            lambda: upload(cloud, DATA),
            f"bucketwheel run {WIDE} --env prod --engine arrow --set buckets.count=4 --SNAPSHOT_DT=2025-09-24",
            f"bucketwheel run {WIDE} --env prod --engine arrow --set buckets.count=4",
        ],
        "$ bucketwheel submit glue": [failing_job],
        "--resume last --set quality.null_keys=warn": [failure.undo],
    }
    try:
        assert read("docs/operations.md", checkout, before) > 20
    finally:
        failure.undo()


@pytest.mark.slow
def test_deployment_commands_print_what_is_shown(
    checkout: Reader, cloud: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    buckets(cloud)
    source_and_archive()
    monkeypatch.setattr(bucketwheel, "__file__", str(Path("app/bucketwheel/__init__.py").absolute()))
    before: Before = {
        "$ bucketwheel deploy apply": [
            "bucketwheel deploy destroy --env prod --yes",
            lambda: plain_client("glue", cloud).delete_job(JobName=JOB),
        ]
    }
    assert read("docs/deploy.md", checkout, before) == 8


@pytest.mark.slow
def test_s3_commands_run_as_written(checkout: Reader, cloud: str) -> None:
    def bucket() -> None:
        plain_client("s3", cloud).create_bucket(Bucket="my-bucket")
        upload(cloud, "my-bucket")

    write_blocks("docs/operations.md", SAMPLE_FILES)
    before: Before = {"s3a://my-bucket": ["bucketwheel sample data --rows 2000 --tables 3 --columns 4", bucket]}
    assert read("docs/s3.md", checkout, before) == 1


@pytest.mark.slow
def test_plugin_commands_run_as_written(reader: Reader, monkeypatch: pytest.MonkeyPatch) -> None:
    files = {"json_catalog.py": "class JsonCatalog", "pyproject.toml": "[build-system]"}
    write_blocks("docs/reference/plugins.md", files)
    quick_start = next(block for block in blocks(ROOT / "README.md") if "COPY" in block.body)
    # As if in an environment of its own, and without a package index.
    options = {"TARGET": "installed", "NO_INDEX": "1", "NO_DEPS": "1", "NO_BUILD_ISOLATION": "0", "QUIET": "1"}
    for name, value in {**options, "DISABLE_PIP_VERSION_CHECK": "1"}.items():
        monkeypatch.setenv(f"PIP_{name}", value)
    reader.in_process = False
    before: Before = {"pip install .": [quick_start.body, "bucketwheel init --source people --key person_id"]}
    assert read("docs/reference/plugins.md", reader, before) == 2
    assert json.loads(Path("out/tables.json").read_text("utf-8"))
