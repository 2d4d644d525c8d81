"""Checks on AWS: credentials, region, buckets, database, workgroup, role and permissions."""

from __future__ import annotations

import functools
from collections.abc import Iterator
from typing import TYPE_CHECKING

from bucketwheel import plugins
from bucketwheel.aws import clients
from bucketwheel.aws.errors import code_of, wrap_aws_errors
from bucketwheel.deploy.keys import find as find_keys
from bucketwheel.deploy.keys import merged
from bucketwheel.deploy.template.deployment import Deployment
from bucketwheel.doctor import buckets, image, keys, lake_formation, permissions, quotas, stack, trust
from bucketwheel.doctor.checks import Check, CheckResult, failed, ok, warning
from bucketwheel.errors import BucketwheelError, CatalogError, ExecutorError
from bucketwheel.settings import Settings
from bucketwheel.storage import is_s3
from bucketwheel.storage.locations import s3_location

if TYPE_CHECKING:
    from mypy_boto3_athena.type_defs import WorkGroupTypeDef


def checks(settings: Settings, env: str) -> Iterator[Check]:
    """Yield the checks that apply to these settings."""
    deployment = Deployment(settings, env)
    yield Check("credentials", lambda: _credentials(settings))
    yield Check("region", lambda: _region(settings))
    yield from buckets.checks(settings)
    if settings.catalog.kind == "glue":
        yield Check("database", lambda: _database(settings))
        if is_s3(settings.target):
            yield Check("Lake Formation", lambda: lake_formation.look(deployment))
    if settings.ctas.method == "athena" or (deployment.makes_workgroup and settings.catalog.kind == "glue"):
        yield Check("workgroup", lambda: _workgroup(deployment))
    if permissions.applies(deployment):
        yield Check("role", lambda: trust.look(deployment))
        found = functools.cache(lambda: find_keys(deployment))
        yield Check("keys", lambda: keys.look(deployment, found()))
        if settings.deploy.kms_key and not deployment.makes_key:
            yield Check("key policy", lambda: keys.look_at_policy(deployment))
        yield Check("permissions", lambda: permissions.look(Deployment(merged(settings, found()), env)))
        if settings.emr_serverless.image and not deployment.on_glue:
            yield Check("image", lambda: image.look(deployment))
        yield Check("quotas", lambda: quotas.look(deployment))
        yield Check("template", lambda: quotas.stack_size(deployment))
        yield Check("stack", lambda: stack.look(deployment))
        yield Check("archive", lambda: stack.archive(deployment))


def _credentials(settings: Settings) -> CheckResult:
    with wrap_aws_errors(BucketwheelError, "credentials"):
        who = clients.client("sts", settings.aws).get_caller_identity()
    return ok(f"account {who['Account']}, {who['Arn']}")


def _region(settings: Settings) -> CheckResult:
    region = settings.aws.region or clients.session().region_name
    if not region:
        return failed("no region is known", "set aws.region, or AWS_REGION in the environment")
    origin = "aws.region" if settings.aws.region else "the environment"
    if settings.storage.region and settings.storage.region != region:
        return warning(
            f"{region} (from {origin}), but storage.region is {settings.storage.region}",
            "set both to the same region: Glue, Athena and the jobs read buckets of their own region",
        )
    return ok(f"{region} (from {origin})")


def _database(settings: Settings) -> CheckResult:
    name = settings.catalog.database.lower()
    # The grants of Lake Formation are those of the caller here; `lake_formation.look` checks the role of the jobs.
    catalog = settings.catalog.model_copy(update={"lake_formation": ()})
    plugins.catalog(settings.model_copy(update={"catalog": catalog})).check()
    try:
        with wrap_aws_errors(CatalogError, f"database {name}"):
            clients.client("glue", settings.aws).get_database(Name=name)
    except CatalogError as error:
        # If the role may not create it, the catalog's own check failed above.
        if code_of(error.__cause__ or error) != "EntityNotFoundException":
            raise
        return ok(f"{name} does not exist yet; the first run creates it (catalog.create_database)")
    return ok(f"{name} exists")


def _workgroup(deployment: Deployment) -> CheckResult:
    settings, athena = deployment.settings, deployment.settings.athena
    if deployment.uses_athena():
        # The same check that jobs do before they begin.
        plugins.executor(settings).check()
    try:
        with wrap_aws_errors(ExecutorError, f"workgroup {athena.workgroup}"):
            group = clients.client("athena", settings.aws).get_work_group(WorkGroup=athena.workgroup)["WorkGroup"]
    except ExecutorError as error:
        if code_of(error.__cause__ or error) != "InvalidRequestException":
            raise
        return warning(f"workgroup {athena.workgroup} does not exist", "`bucketwheel deploy apply` creates it")
    return _workgroup_result(group, athena.workgroup, athena.output_location)


def _workgroup_result(group: WorkGroupTypeDef, name: str, wanted: str | None) -> CheckResult:
    if group.get("State") == "DISABLED":
        return failed(f"{name} is disabled", "enable it, or set athena.workgroup to another one")
    configuration = group.get("Configuration", {})
    results = configuration.get("ResultConfiguration", {})
    location = results.get("OutputLocation")
    encryption = results.get("EncryptionConfiguration", {}).get("EncryptionOption", "by the bucket")
    description = f"{name} is enabled, writes results to {location or wanted}, encryption {encryption}"
    if location is None and wanted is None:
        return failed(f"{name} has no location for results", "set athena.output_location to an s3:// location")
    if location and wanted and s3_location("", location) != s3_location("", wanted):
        return warning(description, f"athena.output_location is {wanted}: set both to the same location")
    return ok(description)
