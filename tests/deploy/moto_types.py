"""Resource types that moto's CloudFormation lacks: jobs, workgroups, applications and grants of Lake Formation.

Each calls the service in moto as CloudFormation does, so that a stack owns real jobs, workgroups, applications and
grants.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, ClassVar
from unittest import mock

from moto.athena.models import athena_backends
from moto.cloudformation import parsing
from moto.emrserverless.models import emrserverless_backends
from moto_account import Account

from deploy_support import ACCOUNT, REGION


class _Resource:
    account: ClassVar[Account]

    def __init__(self, name: str) -> None:
        self.physical_resource_id = name

    @classmethod
    def has_cfn_attr(cls, attr: str) -> bool:
        return attr == "Arn"

    def get_cfn_attribute(self, _: str) -> str:
        return f"arn:aws:emr-serverless:us-east-1:123456789012:/applications/{self.physical_resource_id}"

    def is_created(self) -> bool:
        return True

    @classmethod
    def create_from_cloudformation_json(cls, _: str, resource: dict[str, Any], *__: Any, **___: Any) -> _Resource:
        return cls(cls.create(resource["Properties"]))

    @classmethod
    def update_from_cloudformation_json(
        cls, original_resource: _Resource, cloudformation_json: dict[str, Any], **_: Any
    ) -> _Resource:
        cls.update(original_resource.physical_resource_id, cloudformation_json["Properties"])
        return original_resource

    @classmethod
    def delete_from_cloudformation_json(cls, name: str, resource: dict[str, Any], *_: Any) -> None:
        cls.delete_by_name(name, resource["Properties"])

    @classmethod
    def create(cls, properties: dict[str, Any]) -> str:
        raise NotImplementedError

    @classmethod
    def update(cls, name: str, properties: dict[str, Any]) -> None:
        raise NotImplementedError

    @classmethod
    def delete_by_name(cls, name: str, properties: dict[str, Any]) -> None:
        raise NotImplementedError


class _Job(_Resource):
    @classmethod
    def create(cls, properties: dict[str, Any]) -> str:
        return str(cls.account.client("glue").create_job(**properties)["Name"])

    @classmethod
    def update(cls, name: str, properties: dict[str, Any]) -> None:
        # UpdateJob, which moto lacks, overwrites the whole definition.
        cls.delete_by_name(name, properties)
        cls.create(properties)

    @classmethod
    def delete_by_name(cls, name: str, properties: dict[str, Any]) -> None:
        cls.account.client("glue").delete_job(JobName=name)


class _WorkGroup(_Resource):
    @classmethod
    def create(cls, properties: dict[str, Any]) -> str:
        cls.account.client("athena").create_work_group(
            Name=properties["Name"], Configuration=properties["WorkGroupConfiguration"]
        )
        return str(properties["Name"])

    @classmethod
    def update(cls, name: str, properties: dict[str, Any]) -> None:
        # moto lacks UpdateWorkGroup.
        athena_backends[ACCOUNT][REGION].work_groups[name].configuration = properties["WorkGroupConfiguration"]

    @classmethod
    def delete_by_name(cls, name: str, properties: dict[str, Any]) -> None:
        client = cls.account.client("athena")
        if name not in {group["Name"] for group in client.list_work_groups()["WorkGroups"]}:
            return
        # Athena refuses; moto deletes it.
        if client.list_query_executions(WorkGroup=name)["QueryExecutionIds"]:
            assert properties.get("RecursiveDeleteOption"), f"WorkGroup {name} is not empty"
        client.delete_work_group(WorkGroup=name)


class _Application(_Resource):
    @classmethod
    def create(cls, properties: dict[str, Any]) -> str:
        client = cls.account.client("emr-serverless")
        created = client.create_application(
            name=properties["Name"], releaseLabel=properties["ReleaseLabel"], type=properties["Type"]
        )
        # moto lists the job runs of an application only after the first one.
        emrserverless_backends[ACCOUNT][REGION].job_runs[created["applicationId"]] = []
        return str(created["applicationId"])

    @classmethod
    def update(cls, name: str, properties: dict[str, Any]) -> None:
        minutes = properties["AutoStopConfiguration"]["IdleTimeoutMinutes"]
        cls.account.client("emr-serverless").update_application(
            applicationId=name, autoStopConfiguration={"enabled": True, "idleTimeoutMinutes": minutes}
        )

    @classmethod
    def delete_by_name(cls, name: str, properties: dict[str, Any]) -> None:
        cls.account.client("emr-serverless").delete_application(applicationId=name)


class _Grant(_Resource):
    @classmethod
    def create(cls, properties: dict[str, Any]) -> str:
        cls.account.client("lakeformation").grant_permissions(**cls._request(properties))
        # The identifiers of principal and resource.
        return "|".join(json.dumps(properties[name], sort_keys=True) for name in ("Principal", "Resource"))

    @classmethod
    def delete_by_name(cls, name: str, properties: dict[str, Any]) -> None:
        principal, resource = map(json.loads, name.split("|"))
        found = {**properties, "Principal": principal, "Resource": resource}
        cls.account.client("lakeformation").revoke_permissions(**cls._request(found))

    @staticmethod
    def _request(properties: dict[str, Any]) -> dict[str, Any]:
        names = ("Principal", "Resource", "Permissions", "PermissionsWithGrantOption")
        return {"CatalogId": ACCOUNT, **{name: properties[name] for name in names}}


MODELS: dict[str, type[_Resource]] = {
    "AWS::Glue::Job": _Job,
    "AWS::Athena::WorkGroup": _WorkGroup,
    "AWS::EMRServerless::Application": _Application,
    "AWS::LakeFormation::PrincipalPermissions": _Grant,
}


@contextmanager
def more_types(account: Account) -> Iterator[None]:
    """Let stacks of the account in moto have the types of this module."""
    known = parsing.get_model_map()
    with (
        mock.patch.object(_Resource, "account", account, create=True),
        mock.patch.object(parsing, "get_model_map", return_value={**known, **MODELS}),
    ):
        yield
