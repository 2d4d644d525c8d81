"""What the tests of the deployment share: configurations, templates with their functions resolved, an evaluator."""

from __future__ import annotations

import re
import shutil
import tarfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

import bucketwheel
from bucketwheel import api
from bucketwheel.deploy.template.template import template

ROOT = Path(bucketwheel.__file__).parents[2]
ACCOUNT, REGION = "123456789012", "us-east-1"
PACKAGE = "s3://omc-flywheel-prod-analysis-data/bucketwheel/0123456789abcdef"
KEY_ARN = f"arn:aws:kms:{REGION}:{ACCOUNT}:key/11111111-2222-3333-4444-555555555555"
BUCKET_KEY, CATALOG_KEY, TOPIC_KEY = (f"{KEY_ARN[:-1]}{digit}" for digit in "678")
BUCKET_KEY_ABROAD = BUCKET_KEY.replace(REGION, "eu-west-1")
PSEUDO = {
    "AWS::AccountId": ACCOUNT,
    "AWS::Region": REGION,
    "AWS::Partition": "aws",
    "AWS::URLSuffix": "amazonaws.com",
}

JOBS = (
    "etl-omc-flywheel-prod-infobase-split-and-bucket",
    "etl-omc-flywheel-prod-addressable-bucket",
    "etl-omc-flywheel-prod-register-staged-tables",
    "etl-omc-flywheel-prod-create-athena-bucketed-tables",
    "etl-omc-flywheel-prod-pipeline",
)

# Every shape that a template can have.
VARIANTS: Mapping[str, Mapping[str, Any]] = {
    "glue": {},
    "glue-plain": {
        "deploy.schedule": None, "monitoring.watch_schedule": None, "athena.workgroup": "primary",
        "monitoring.long_job_minutes": None, "monitoring.long_run_minutes": None,
        "monitoring.error_lines_per_hour": None, "monitoring.null_keys": None,
        "monitoring.rows_changed_percent": None, "monitoring.null_share_changed_points": None,
        "monitoring.columns_changed": None, "monitoring.keys_kept_percent": None,
    },
    "glue-everything": {
        "deploy.buckets": "create", "deploy.kms_key": "create", "deploy.package": "s3://elsewhere-prod/bucketwheel/01",
        "monitoring.email": "oncall@example.com", "monitoring.duplicate_keys": 10, "monitoring.cost_usd": 50,
        "glue.execution_class": "FLEX", "glue.worker_type": "G.2X", "deploy.tags": {"team": "flywheel"},
        "catalog.create_database": False, "catalog.lake_formation": "database,tables,locations",
        "deploy.permissions_boundary": f"arn:aws:iam::{ACCOUNT}:policy/boundary",
    },
    "glue-own-key": {
        "deploy.kms_key": KEY_ARN, "deploy.buckets": "create", "deploy.access_log_bucket": "all-access-logs",
        "deploy.package": "s3://elsewhere-prod/bucketwheel/01", "monitoring.metrics": "emf",
        "monitoring.topic_arn": f"arn:aws:sns:{REGION}:{ACCOUNT}:oncall", "monitoring.topic_kms_key": TOPIC_KEY,
        "catalog.kms_key": CATALOG_KEY, "storage.kms_keys": (BUCKET_KEY, BUCKET_KEY_ABROAD),
    },
    "emr-archive": {"deploy.platform": "emr-serverless"},
    "emr-everything": {
        "deploy.platform": "emr-serverless", "deploy.kms_key": "create", "emr_serverless.image": "bucketwheel:1.0",
        "emr_serverless.initial_executors": 2, "emr_serverless.subnets": "subnet-0123456789abcdef0",
        "emr_serverless.security_groups": "sg-0123456789abcdef0", "emr_serverless.role": "emr-prod-role",
    },
}  # fmt: skip


def configuration(env: str = "prod", **overrides: Any) -> api.Configuration:
    """The project's own configuration of an environment; `__` in a name stands for a dot."""
    named = {name.replace("__", "."): value for name, value in overrides.items()}
    return api.load(env, ROOT / "conf", {"deploy.package": PACKAGE, **named}, environ={})


def rendered(variant: str = "glue", **more: Any) -> dict[str, Any]:
    """The template of a variant."""
    config = configuration(**dict(VARIANTS[variant]), **more)
    return template(config.settings, config.env)


def of_type(template: Mapping[str, Any], kind: str) -> dict[str, dict[str, Any]]:
    """The properties of every resource of a type, by logical id."""
    resources = template["Resources"].items()
    return {name: resource["Properties"] for name, resource in resources if resource["Type"] == kind}


def resolved(value: Any, resources: Mapping[str, Any]) -> Any:
    """A part of a template with the functions replaced by what they would give."""
    if isinstance(value, list):
        return [resolved(part, resources) for part in value]
    if not isinstance(value, Mapping):
        return value
    if set(value) == {"Ref"}:
        return PSEUDO.get(value["Ref"]) or reference(value["Ref"], resources)
    if set(value) == {"Fn::GetAtt"}:
        return arn(value["Fn::GetAtt"][0], resources)
    if set(value) == {"Fn::Sub"}:
        return re.sub(r"\$\{([^}]+)\}", lambda found: _filled(found[1], resources), value["Fn::Sub"])
    return {key: resolved(part, resources) for key, part in value.items()}


def _filled(name: str, resources: Mapping[str, Any]) -> str:
    if name in PSEUDO:
        return PSEUDO[name]
    logical_id, _, attribute = name.partition(".")
    return arn(logical_id, resources) if attribute else reference(logical_id, resources)


def reference(name: str, resources: Mapping[str, Any]) -> str:
    """What `Ref` gives: an ARN for state machines and topics, a name for the rest."""
    kind = resources[name]["Type"]
    return arn(name, resources) if kind in ("AWS::StepFunctions::StateMachine", "AWS::SNS::Topic") else name


def arn(name: str, resources: Mapping[str, Any]) -> str:
    """An ARN as the resource would get."""
    kind, properties = resources[name]["Type"], resources[name]["Properties"]
    own = f"{REGION}:{ACCOUNT}"
    if kind == "AWS::KMS::Key":
        return KEY_ARN
    pattern = {
        "AWS::IAM::Role": f"arn:aws:iam::{ACCOUNT}:role/{{RoleName}}",
        "AWS::S3::Bucket": "arn:aws:s3:::{BucketName}",
        "AWS::SNS::Topic": f"arn:aws:sns:{own}:{{TopicName}}",
        "AWS::Logs::LogGroup": f"arn:aws:logs:{own}:log-group:{{LogGroupName}}:*",
        "AWS::EMRServerless::Application": f"arn:aws:emr-serverless:{own}:/applications/00fa",
        "AWS::StepFunctions::StateMachine": f"arn:aws:states:{own}:stateMachine:{{StateMachineName}}",
    }[kind]
    return pattern.format(**properties)


def statements(template: Mapping[str, Any], role: str) -> list[dict[str, Any]]:
    """The statements of a role, resolved."""
    resources = template["Resources"]
    policies = resources[role]["Properties"]["Policies"]
    policy_statements = [part for policy in policies for part in policy["PolicyDocument"]["Statement"]]
    return [resolved(statement, resources) for statement in policy_statements]


def allows(granted: Iterable[Mapping[str, Any]], action: str, resource: str, context: Mapping[str, str]) -> list[str]:
    """The Sids of the statements that allow a call; as IAM evaluates them, without Deny, which ours have not."""
    return [
        statement["Sid"]
        for statement in granted
        if statement["Effect"] == "Allow"
        and any(fnmatchcase(action.lower(), pattern.lower()) for pattern in _list(statement["Action"]))
        and any(fnmatchcase(resource, pattern) for pattern in _list(statement["Resource"]))
        and _holds(statement.get("Condition", {}), context)
    ]


def _holds(condition: Mapping[str, Any], context: Mapping[str, str]) -> bool:
    for operator, patterns in condition.items():
        assert operator in ("Bool", "Null", "StringEquals", "StringLike")
        for key, values in patterns.items():
            if operator == "Null":
                if (values == "true") == (key in context):
                    return False
                continue
            # No pattern in a value that has to be equal holds a star.
            if key not in context or not any(fnmatchcase(context[key], value) for value in _list(values)):
                return False
    return True


def denied(granted: Sequence[Mapping[str, Any]], calls: Iterable[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """Those of the calls that no statement allows."""
    return [call for call in calls if not allows(granted, call["action"], call["resource"], call.get("context", {}))]


def unused(granted: Sequence[Mapping[str, Any]], calls: Iterable[Mapping[str, Any]]) -> set[tuple[str, str]]:
    """Each (Sid, action and resource) and (Sid, value of a condition) that no call needs.

    An action that is needed on one resource of a statement is not needed on the others for that.
    """
    left = {(statement["Sid"], part) for statement in granted for part in _parts(statement)}
    by_sid = {statement["Sid"]: statement for statement in granted}
    assert len(by_sid) == len(granted)
    for call in calls:
        context = call.get("context", {})
        for sid in allows(granted, call["action"], call["resource"], context):
            left -= {(sid, part) for part in _used(by_sid[sid], call["action"], call["resource"], context)}
    return left


def _parts(statement: Mapping[str, Any]) -> Iterator[str]:
    for action in _list(statement["Action"]):
        yield from (f"{action} on {resource}" for resource in _list(statement["Resource"]))
    yield from _values(statement)


def _used(statement: Mapping[str, Any], action: str, resource: str, context: Mapping[str, str]) -> Iterator[str]:
    for allowed in _list(statement["Action"]):
        if fnmatchcase(action.lower(), allowed.lower()):
            named = (pattern for pattern in _list(statement["Resource"]) if fnmatchcase(resource, pattern))
            yield from (f"{allowed} on {pattern}" for pattern in named)
    for value in _values(statement):
        if any(fnmatchcase(actual, value) for actual in context.values()):
            yield value


def _values(statement: Mapping[str, Any]) -> Iterator[str]:
    for operator, keys in statement.get("Condition", {}).items():
        # `Null` compares no value.
        for values in keys.values() if operator != "Null" else ():
            yield from _list(values)


def _list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]


def checkout(directory: Path) -> Path:
    """A checkout with this code and a script, as `package` needs one."""
    directory.mkdir(exist_ok=True)
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copyfile(ROOT / name, directory / name)
    shutil.copytree(ROOT / "app" / "bucketwheel", directory / "app" / "bucketwheel")
    script = directory / "app" / "job.py"
    script.write_text('"""The script that platforms start."""\n')
    return directory


def archive(directory: Path, source: Path, **more: bytes) -> Path:
    """An archive as the container makes one: an environment with this code in it, and times of its own."""
    site = directory / "environment" / "lib/python3.11/site-packages"
    shutil.copytree(source / "app/bucketwheel", site / "bucketwheel", ignore=shutil.ignore_patterns("__pycache__"))
    for name, content in more.items():
        (site / name.replace("__", ".")).write_bytes(content)
    (directory / "environment/bin").mkdir()
    (directory / "environment/bin/python").symlink_to("/usr/bin/python3.11")
    environment_archive = directory / "environment.tar.gz"
    with tarfile.open(environment_archive, "w:gz") as written:
        written.add(directory / "environment", ".")
    return environment_archive
