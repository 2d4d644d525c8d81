"""Whether names that a stack would give are taken: CloudFormation would only find out half way, and undo it all."""

from __future__ import annotations

from typing import Any, NamedTuple

from botocore.exceptions import ClientError

from bucketwheel.aws import clients
from bucketwheel.aws.errors import code_of, wrap_aws_errors
from bucketwheel.deploy.cloudformation import Stack
from bucketwheel.errors import DeployError
from bucketwheel.settings.loading import Configuration


class _Look(NamedTuple):
    """How to ask for something by its name: the property that has it, the call, and the codes that say it is free."""

    named: str
    service: str
    call: str
    parameter: str
    free: tuple[str, ...]


# What accounts had before there was a stack, or what one has left when it went.
_LOOKS = {
    "AWS::Glue::Job": _Look("Name", "glue", "get_job", "JobName", ("EntityNotFoundException",)),
    "AWS::IAM::Role": _Look("RoleName", "iam", "get_role", "RoleName", ("NoSuchEntity", "NoSuchEntityException")),
    # To look at a bucket of somebody else is refused; its name is taken all the same.
    "AWS::S3::Bucket": _Look("BucketName", "s3", "head_bucket", "Bucket", ("404", "NoSuchBucket")),
}
_TAKEN = ("403", "301")
_WORKGROUP = "AWS::Athena::WorkGroup"
_WAYS = {
    "AWS::Glue::Job": "deploy.job_prefix",
    "AWS::IAM::Role": "glue.role",
    "AWS::S3::Bucket": "deploy.buckets=adopt, which leaves buckets as they are",
    _WORKGROUP: "athena.workgroup",
}


def refuse(config: Configuration, made: dict[str, Any], stack: Stack | None) -> None:
    """Refuse a template of which something exists already and is not the stack's.

    Args:
        config: says how AWS is reached.
        made: the template.
        stack: the stack, where it exists.

    Raises:
        DeployError: names all of it.
    """
    own = {name for _, name in stack.resources().values()} if stack else set()
    found = []
    for resource in made["Resources"].values():
        kind = resource["Type"]
        if kind not in _WAYS:
            continue
        name = resource["Properties"]["Name" if kind == _WORKGROUP else _LOOKS[kind].named]
        if name not in own and _exists(config, kind, name):
            found.append((kind, name))
    if found:
        ways = dict.fromkeys(_WAYS[kind] for kind, _ in found)
        raise DeployError(
            f"exists already and is not part of the stack: {', '.join(f'{kind} {name}' for kind, name in found)}. "
            f"Remove it, import it into the stack, or choose otherwise ({'; '.join(ways)}); see docs/deploy.md"
        )


def _exists(config: Configuration, kind: str, name: str) -> bool:
    with wrap_aws_errors(DeployError, f"{kind} {name}"):
        if kind == _WORKGROUP:
            return name in _workgroups(config)
        look = _LOOKS[kind]
        try:
            getattr(clients.client(look.service, config.settings.aws), look.call)(**{look.parameter: name})
        except ClientError as error:
            if code_of(error) in look.free:
                return False
            if code_of(error) not in _TAKEN:
                raise
    return True


def _workgroups(config: Configuration) -> set[str]:
    """Return the names of all; asked for one that there is not, Athena gives an error that it has for others too."""
    client, token = clients.client("athena", config.settings.aws), None
    names: set[str] = set()
    while True:
        page = client.list_work_groups(**({"NextToken": token} if token else {}))
        names |= {group["Name"] for group in page["WorkGroups"]}
        if (token := page.get("NextToken")) is None:
            return names
