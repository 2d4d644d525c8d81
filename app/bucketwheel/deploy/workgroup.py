"""The contents of an Athena workgroup; CloudFormation deletes only an empty one."""

from __future__ import annotations

from typing import NamedTuple

from botocore.exceptions import ClientError

from bucketwheel.aws import clients
from bucketwheel.aws.errors import code_of, wrap_aws_errors
from bucketwheel.errors import DeployError
from bucketwheel.settings import Settings

KIND = "AWS::Athena::WorkGroup"


class Contents(NamedTuple):
    """The number of saved queries, and whether queries ran in the workgroup."""

    saved_queries: int
    has_history: bool

    def __str__(self) -> str:
        saved = {0: "", 1: "1 saved query"}.get(self.saved_queries, f"{self.saved_queries:,} saved queries")
        return " and ".join(part for part in (saved, "the query history" if self.has_history else "") if part)


def contents(settings: Settings, name: str) -> Contents | None:
    """Return the contents of a workgroup; None if it is empty or does not exist."""
    with wrap_aws_errors(DeployError, f"workgroup {name}"):
        client = clients.client("athena", settings.aws)
        try:
            pages = client.get_paginator("list_named_queries").paginate(WorkGroup=name)
            saved = sum(len(page["NamedQueryIds"]) for page in pages)
            history = client.list_query_executions(WorkGroup=name, MaxResults=1)["QueryExecutionIds"]
        except ClientError as error:
            if code_of(error) == "InvalidRequestException" and "not found" in str(error):
                return None
            raise
    return Contents(saved, bool(history)) if saved or history else None


def delete(settings: Settings, name: str) -> None:
    """Delete a workgroup with its contents; CloudFormation then counts it as deleted."""
    with wrap_aws_errors(DeployError, f"workgroup {name}"):
        clients.client("athena", settings.aws).delete_work_group(WorkGroup=name, RecursiveDeleteOption=True)
