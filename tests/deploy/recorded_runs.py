"""Run the jobs of the prod configuration on moto, by their script and with the arguments that Glue passes.

Only the engine, the number of buckets and the endpoint of AWS differ from production. Buckets, databases and
workgroups have their real names, so that tests can compare the recorded calls with the rendered role.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from unittest import mock

import pytest
from botocore.retries.standard import ExponentialBackoff
from recorder import Call, Recorder

from aws_faults import Faults, refusal
from aws_server import CREDENTIALS, plain_client
from bucketwheel import host
from bucketwheel.aws import clients
from bucketwheel.catalogs.glue import GlueCatalog
from bucketwheel.cli import cli
from bucketwheel.cli import job as job_cli
from bucketwheel.deploy.template.deployment import TOPIC, Deployment
from bucketwheel.errors import JobFailedError
from bucketwheel.runs.store import RunStore
from bucketwheel.sample import Sample
from bucketwheel.settings import AwsSettings, StorageSettings
from bucketwheel.storage import Storage, s3_client, s3_upload
from deploy_support import REGION, ROOT, configuration
from fake_athena import FakeAthena, athena_served
from fake_sql import Plan, TinySql
from project import NARROW, WIDE

# Smaller than any file, so that files are sent in parts.
_PART = 4096
_SMALL = {"engine": "arrow", "buckets.count": 4, "threads": 2, "monitoring.metrics": "put"}
_OF_GLUE = ("--JOB_NAME", "any", "--JOB_ID", "j_1", "--JOB_RUN_ID", "jr_1", "--TempDir", "s3://elsewhere/temporary")
_RESULTS = "s3://omc-flywheel-data-us-east-1-prod/omc_cleanroom_data/_athena"
ATHENA = {"ctas__method": "athena", "athena__output_location": _RESULTS}
_REGISTER, _CTAS = "register-staged-tables", "create-athena-bucketed-tables"


@dataclass
class Account:
    """The account of the jobs: buckets, input, configuration of the package, and workgroup."""

    endpoint: str
    recorder: Recorder
    calls: dict[str, list[Call]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        prod = configuration()
        self.deployment = Deployment(prod.settings, prod.env)
        self.s3, athena = (plain_client(service, self.endpoint) for service in ("s3", "athena"))
        for place in (self.deployment.target(), self.deployment.package()):
            self.s3.create_bucket(Bucket=place.bucket)
        package = self.deployment.package()
        content = (ROOT / "conf" / "prod.yaml").read_bytes()
        self.s3.put_object(Bucket=package.bucket, Key=f"{package.prefix}/conf/prod.yaml", Body=content)
        sns = plain_client("sns", self.endpoint)
        self.topic = sns.create_topic(Name=self.deployment.topic_name)["TopicArn"]
        sns.close()
        athena.create_work_group(Name=self.deployment.settings.athena.workgroup, Configuration={})
        athena.close()

    def deliver(self, sample: Sample, but: str = "none") -> None:
        """Upload the snapshot of a month and the mapping as the source systems do, without files of suffix `but`."""
        for path in sorted(sample.directory.rglob("*")):
            if path.is_file() and path != sample.configuration and path.suffix != but:
                key = str(path.relative_to(sample.directory))
                self.s3.put_object(Bucket=self.deployment.target().bucket, Key=key, Body=path.read_bytes())

    def job(self, name: str, dataset: str, *more: str, **settings: Any) -> None:
        """Run a job of `deploy.jobs` for a dataset with the arguments that the state machine passes to Glue."""
        arguments = self.deployment.arguments(self.deployment.jobs()[name], dataset, (), {"--SNAPSHOT_DT": None})
        changed = json.dumps({**_SMALL, **{key.replace("__", "."): value for key, value in settings.items()}})
        given = [word for pair in {**arguments, TOPIC: self.topic}.items() for word in pair]
        job_cli.main([*_OF_GLUE, *given, "--settings", changed, *more])

    def command(self, *arguments: str) -> None:
        """Run a command as an operator with full permissions."""
        cli.main([*arguments, "--env", "prod", "--conf", str(ROOT / "conf")], standalone_mode=False, obj=[])

    @contextmanager
    def recorded(self, name: str) -> Iterator[None]:
        """Record the calls of a block under a name."""
        with self.recorder.chapter() as calls:
            yield
        self.calls[name] = calls


def record(endpoint: str, places: Path, months: tuple[Sample, Sample]) -> dict[str, list[Call]]:
    """Return the calls of each job in an initially empty account, of failed jobs, and of an operator.

    Args:
        endpoint: endpoint of moto.
        places: an empty directory, without credentials.
        months: samples of two months, the earlier one first.
    """
    environment = {
        **CREDENTIALS,
        "AWS_ENDPOINT_URL": endpoint,
        # A job on Glue refuses the arrow engine, which runs on one machine.
        host.VARIABLE: "container",
        "AWS_CONFIG_FILE": str(places / "config"),
        "AWS_SHARED_CREDENTIALS_FILE": str(places / "credentials"),
    }
    faults, recorder = Faults(), Recorder()
    with (
        mock.patch.dict(os.environ, environment),
        mock.patch.object(ExponentialBackoff, "delay_amount", return_value=0.001),
        mock.patch.object(s3_upload, "_PART", _PART),
        mock.patch("moto.s3.models.S3_UPLOAD_PART_MIN_SIZE", 1),
        _fresh_clients(),
    ):
        account = Account(endpoint, recorder)
        with athena_served(_fake_athena(account)) as athena:
            recorder.listen(clients.session())
            clients.session().events.register("before-send", faults.intercept)
            account.deliver(months[0], but=".csv")
            with (
                account.recorded("no mapping yet"),
                pytest.raises(JobFailedError, match=r"mapping .* does not exist"),
            ):
                account.job("pipeline", WIDE)
            account.deliver(months[0])
            _monthly(account, faults)
            account.deliver(months[1])
            _in_one_job(account, faults)
            _by_athena(account, athena)
            _by_hand(account)
        account.s3.close()
    return account.calls


def _monthly(account: Account, faults: Faults) -> None:
    for name, dataset in (("infobase-split-and-bucket", WIDE), ("addressable-bucket", NARROW)):
        with account.recorded(name):
            account.job(name, dataset)
    # The tables that were made before the one that is refused have to go again.
    faults.plan("CreateTable", None, None, refusal("AccessDeniedException"))
    with account.recorded("a table is refused"), pytest.raises(JobFailedError, match="CreateTable was denied"):
        account.job(_REGISTER, WIDE)
    for name in (_REGISTER, _CTAS):
        if name == _CTAS:
            faults.plan("CreateTable", None, None, refusal("AccessDeniedException"))
            with account.recorded("a final table is refused"), pytest.raises(JobFailedError, match="was denied"):
                account.job(_CTAS, WIDE)
        with account.recorded(name):
            account.job(name, WIDE)
            account.job(name, NARROW)


def _in_one_job(account: Account, faults: Faults) -> None:
    faults.plan("CompleteMultipartUpload", None, None, None, refusal("AccessDenied", 403))
    with account.recorded("a file is refused"), pytest.raises(JobFailedError, match="PutObject"):
        account.job("pipeline", WIDE)
    faults.plan("CompleteMultipartUpload", None, refusal("AccessDenied", 403))
    with account.recorded("a file of the other dataset is refused"), pytest.raises(JobFailedError, match="PutObject"):
        account.job("pipeline", NARROW)
    with account.recorded("resumed"):
        account.job("pipeline", WIDE, "--resume", "last")
    with account.recorded("pipeline"):
        account.job("pipeline", WIDE, "--TABLES_FILTER", "ibe_01")
        account.job("pipeline", NARROW)


def _by_athena(account: Account, athena: FakeAthena) -> None:
    athena.sql.plan("CREATE TABLE", Plan("HIVE_TOO_MANY_OPEN_PARTITIONS", "Exceeded limit"))
    athena.sql.plan("CREATE TABLE", Plan(hang=True))
    with account.recorded("by athena"):
        for trouble in ("HIVE_TOO_MANY_OPEN_PARTITIONS", "did not end within 1 s"):
            with pytest.raises(JobFailedError, match=trouble):
                account.job(_CTAS, NARROW, ctas__attempts=1, ctas__timeout_seconds=1, **ATHENA)
        athena.sql.plan("CREATE TABLE", Plan("HIVE_TOO_MANY_OPEN_PARTITIONS", "Exceeded limit"))
        with pytest.raises(JobFailedError, match="HIVE_TOO_MANY_OPEN_PARTITIONS"):
            account.job(_CTAS, WIDE, ctas__attempts=1, **ATHENA)
        account.job(_CTAS, WIDE, ctas__poll_seconds=0.05, **ATHENA)
        account.job(_CTAS, NARROW, ctas__poll_seconds=0.05, **ATHENA)


def _by_hand(account: Account) -> None:
    first = RunStore.of(account.deployment.settings).ids(WIDE)[0]
    with account.recorded("rollback"):
        account.command("rollback", first)
    with account.recorded("expire"):
        account.command("expire", "--yes", "--keep", "1")


def _fake_athena(account: Account) -> FakeAthena:
    """Install a fake Athena; its clients are created before recording starts, so their calls are not recorded."""
    own: dict[str, Any] = {"region": REGION, "endpoint_url": account.endpoint}
    settings = account.deployment.settings.model_copy(update={"aws": AwsSettings(**own)})
    catalog, storage = GlueCatalog(settings), Storage(StorageSettings(**own))
    storage.exists(settings.target)
    return FakeAthena(TinySql(catalog, storage), _RESULTS)


@contextmanager
def _fresh_clients() -> Iterator[None]:
    """Use new clients in the block and discard them after it."""
    _forget_clients()
    try:
        yield
    finally:
        _forget_clients()


def _forget_clients() -> None:
    for client in s3_client._clients.values():
        client.close()
    s3_client._clients.clear()
    clients._client.cache_clear()
    clients.session.cache_clear()
