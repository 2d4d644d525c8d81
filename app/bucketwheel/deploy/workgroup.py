"""The contents of an Athena workgroup; CloudFormation deletes only an empty one."""

from __future__ import annotations

from typing import Any, NamedTuple

from botocore.exceptions import ClientError

from bucketwheel.aws import clients
from bucketwheel.aws.errors import code_of, wrap_aws_errors
from bucketwheel.errors import DeployError
from bucketwheel.formatting import counted
from bucketwheel.settings import Settings

KIND = "AWS::Athena::WorkGroup"


class Contents(NamedTuple):
    """The numbers of saved queries and prepared statements, and whether queries ran in the workgroup."""

    saved_queries: int
    prepared_statements: int
    has_history: bool

    def __str__(self) -> str:
        parts = []
        if self.saved_queries:
            parts.append("1 saved query" if self.saved_queries == 1 else f"{self.saved_queries:,} saved queries")
        if self.prepared_statements:
            parts.append(counted(self.prepared_statements, "prepared statement"))
        if self.has_history:
            parts.append("the query history")
        return " and ".join(filter(None, (", ".join(parts[:-1]), *parts[-1:])))


def contents(settings: Settings, name: str) -> Contents | None:
    """Return the contents of a workgroup; None if it is empty or does not exist."""
    with wrap_aws_errors(DeployError, f"workgroup {name}"):
        client = clients.client("athena", settings.aws)
        try:
            pages = client.get_paginator("list_named_queries").paginate(WorkGroup=name)
            saved = sum(len(page["NamedQueryIds"]) for page in pages)
            prepared = _prepared_statements(client, name)
            history = client.list_query_executions(WorkGroup=name, MaxResults=1)["QueryExecutionIds"]
        except ClientError as error:
            if code_of(error) == "InvalidRequestException" and "not found" in str(error):
                return None
            raise
    return Contents(saved, prepared, bool(history)) if saved or prepared or history else None


def _prepared_statements(client: Any, name: str) -> int:
    # botocore has no paginator for this call.
    request, number = {"WorkGroup": name}, 0
    while True:
        answer = client.list_prepared_statements(**request)
        number += len(answer["PreparedStatements"])
        if not answer.get("NextToken"):
            return number
        request["NextToken"] = answer["NextToken"]


def delete(settings: Settings, name: str) -> None:
    """Delete a workgroup with its contents; CloudFormation then counts it as deleted."""
    with wrap_aws_errors(DeployError, f"workgroup {name}"):
        clients.client("athena", settings.aws).delete_work_group(WorkGroup=name, RecursiveDeleteOption=True)
