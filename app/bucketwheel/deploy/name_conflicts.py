"""Check that the names for new resources are free; CloudFormation finds out late and rolls everything back."""

from __future__ import annotations

from typing import Any, NamedTuple

from botocore.exceptions import ClientError

from bucketwheel.aws import clients
from bucketwheel.aws.errors import code_of, wrap_aws_errors
from bucketwheel.deploy import existing
from bucketwheel.deploy.cloudformation import Stack
from bucketwheel.errors import DeployError
from bucketwheel.settings.loading import Configuration


class _ExistenceProbe(NamedTuple):
    """How to look up a resource by name: the call, and the error codes for a free name."""

    service: str
    call: str
    parameter: str
    free: tuple[str, ...]


# Resources that may exist from before the stack, or that an earlier stack retained.
_PROBES = {
    "AWS::Glue::Job": _ExistenceProbe("glue", "get_job", "JobName", ("EntityNotFoundException",)),
    "AWS::IAM::Role": _ExistenceProbe("iam", "get_role", "RoleName", ("NoSuchEntity", "NoSuchEntityException")),
    # S3 refuses access to a bucket of another account; its name is taken, too.
    "AWS::S3::Bucket": _ExistenceProbe("s3", "head_bucket", "Bucket", ("404", "NoSuchBucket")),
}
_TAKEN = ("403", "301")
_WORKGROUP = "AWS::Athena::WorkGroup"
_LOG_GROUP = "AWS::Logs::LogGroup"
# The types that are checked, and the settings that change their names.
SETTINGS = {
    "AWS::Glue::Job": "deploy.job_prefix",
    "AWS::IAM::Role": "glue.role",
    "AWS::S3::Bucket": "deploy.buckets=adopt, which leaves buckets as they are",
    _WORKGROUP: "athena.workgroup",
    _LOG_GROUP: "deploy.stack",
}


def check_name_conflicts(config: Configuration, template: dict[str, Any], stack: Stack | None) -> None:
    """Refuse a template that creates a resource which already exists outside the stack.

    Args:
        config: has the settings for access to AWS.
        template: the template.
        stack: the stack, if it exists.

    Raises:
        DeployError: names all of them.
    """
    own = {name for _, name in stack.resources().values()} if stack else set()
    conflicts = []
    for resource in template["Resources"].values():
        kind = resource["Type"]
        if kind not in SETTINGS:
            continue
        name = resource["Properties"][existing.KINDS[kind].identifier]
        if name not in own and _exists(config, kind, name):
            conflicts.append((kind, name))
    if conflicts:
        settings = dict.fromkeys(SETTINGS[kind] for kind, _ in conflicts)
        names = ", ".join(f"{kind} {name}" for kind, name in conflicts)
        package = config.settings.deploy.package or "LOCATION"
        raise DeployError(
            f"already exists outside the stack: {names}. Import it: bucketwheel deploy import --env {config.env} "
            f"--package {package}; or remove it, or choose another name "
            f"({'; '.join(settings)}); see docs/deploy.md"
        )


def _exists(config: Configuration, kind: str, name: str) -> bool:
    with wrap_aws_errors(DeployError, f"{kind} {name}"):
        if kind == _LOG_GROUP:
            return existing.read(config.settings.aws, kind, name) is not None
        if kind == _WORKGROUP:
            return name in _workgroups(config)
        probe = _PROBES[kind]
        try:
            getattr(clients.client(probe.service, config.settings.aws), probe.call)(**{probe.parameter: name})
        except ClientError as error:
            if code_of(error) in probe.free:
                return False
            if code_of(error) not in _TAKEN:
                raise
    return True


def _workgroups(config: Configuration) -> set[str]:
    """Return the names of all workgroups; Athena's error for a missing one is not specific."""
    client = clients.client("athena", config.settings.aws)
    names: set[str] = set()
    more: dict[str, Any] = {}
    while True:
        page = client.list_work_groups(**more)
        names |= {group["Name"] for group in page["WorkGroups"]}
        if (token := page.get("NextToken")) is None:
            return names
        more = {"NextToken": token}
