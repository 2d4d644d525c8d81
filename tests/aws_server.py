"""Serve AWS on 127.0.0.1 with moto, for tests that use boto3 over HTTP.

moto's Glue is less strict than AWS: it accepts stale versions, keeps the case of names, counts versions from 1 and
returns every list on one page. `strict_glue` corrects this as the AWS documentation describes it.
"""

from __future__ import annotations

import json
import logging
import sys
import threading
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any
from unittest import mock

import boto3
from moto.athena.models import AthenaBackend
from moto.athena.responses import AthenaResponse
from moto.core.exceptions import JsonRESTError
from moto.core.responses import ActionResult
from moto.glue.models import FakeTable, GlueBackend
from moto.glue.responses import GlueResponse
from moto.server import ThreadedMotoServer
from moto.servicequotas.exceptions import NoSuchResource
from moto.servicequotas.responses import ServiceQuotasResponse
from werkzeug.serving import ThreadedWSGIServer

import aws_shapes
from glue_statistics import glue_statistics

REGION = "us-east-1"
CREDENTIALS = {
    "AWS_ACCESS_KEY_ID": "testing",
    "AWS_SECRET_ACCESS_KEY": "testing",
    "AWS_DEFAULT_REGION": REGION,
    "AWS_EC2_METADATA_DISABLED": "true",
}
PAGE = 3
# vCPUs of EMR Serverless; DPUs and concurrent runs of Glue jobs, DPUs with FLEX.
APPLIED_QUOTAS = {"L-D05C8A75": 4000.0, "L-08F3B322": 1000.0, "L-5E4153CA": 200.0, "L-096DBB95": 500.0}


@contextmanager
def served() -> Iterator[str]:
    """Serve AWS on a free port and yield the endpoint."""
    # The server logs requests to a logger of the whole process.
    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    with _untraced(), account_quotas(), glue_statistics(), _missing_workgroups(), _prepared_statements():
        server.start()
        try:
            host, port = server.get_host_and_port()
            yield f"http://{host}:{port}"
        finally:
            server.stop()


@contextmanager
def _untraced() -> Iterator[None]:
    """Answer requests without the trace function of coverage, which measures nothing here and slows all code down."""
    real = ThreadedWSGIServer.process_request_thread

    def process(self: ThreadedWSGIServer, request: Any, client_address: Any) -> None:
        sys.settrace(None)
        real(self, request, client_address)

    with mock.patch.object(ThreadedWSGIServer, "process_request_thread", process):
        yield


@contextmanager
def _missing_workgroups() -> Iterator[None]:
    """Make moto's Athena refuse a workgroup that does not exist, instead of returning none."""
    real = AthenaBackend.get_work_group

    def get(self: AthenaBackend, name: str) -> dict[str, Any]:
        group = real(self, name)
        if group is None:
            raise JsonRESTError("InvalidRequestException", f"WorkGroup {name} is not found.")
        return group

    with mock.patch.object(AthenaBackend, "get_work_group", get):
        yield


@contextmanager
def _prepared_statements() -> Iterator[None]:
    """Let moto's Athena list prepared statements, one per page."""

    def answer(self: AthenaResponse) -> str:
        asked = json.loads(self.body)
        workgroup, first = asked["WorkGroup"], int(asked.get("NextToken", 0))
        self.athena_backend.get_work_group(workgroup)
        prepared = [one for one in self.athena_backend.prepared_statements.values() if one.workgroup == workgroup]
        page = [
            {"StatementName": one.statement_name, "LastModifiedTime": one.last_modified_time.timestamp()}
            for one in prepared[first : first + 1]
        ]
        more = {"NextToken": str(first + 1)} if len(prepared) > first + 1 else {}
        return json.dumps(
            aws_shapes.response("athena", "ListPreparedStatements", {"PreparedStatements": page, **more})
        )

    with mock.patch.object(AthenaResponse, "list_prepared_statements", answer, create=True):
        yield


@contextmanager
def account_quotas(
    applied: Mapping[str, float] = APPLIED_QUOTAS, defaults: Mapping[str, float] | None = None
) -> Iterator[None]:
    """Give the account these quotas, by quota code; moto only knows those of VPC.

    Args:
        applied: answers of `GetServiceQuota`; it fails with `NoSuchResourceException` for other codes.
        defaults: the same for `GetAWSDefaultServiceQuota`.
    """

    def answer(values: Mapping[str, float]) -> Callable[[ServiceQuotasResponse], str]:
        def get(self: ServiceQuotasResponse) -> str:
            asked = json.loads(self.body)
            if asked["QuotaCode"] not in values:
                raise NoSuchResource
            return json.dumps({"Quota": {**asked, "Value": values[asked["QuotaCode"]], "Adjustable": True}})

        return get

    with (
        mock.patch.object(ServiceQuotasResponse, "get_service_quota", answer(applied)),
        mock.patch.object(
            ServiceQuotasResponse, "get_aws_default_service_quota", answer(defaults or {}), create=True
        ),
    ):
        yield


def reset(endpoint: str) -> None:
    """Delete everything in moto; all servers of this process share its state."""
    with urllib.request.urlopen(urllib.request.Request(f"{endpoint}/moto-api/reset", method="POST")) as response:
        assert response.status == 200


def plain_client(service: str, endpoint: str) -> Any:
    """Return a client that is independent of the one under test."""
    create: Callable[..., Any] = boto3.client
    return create(
        service,
        endpoint_url=endpoint,
        region_name=REGION,
        aws_access_key_id="testing",
        aws_secret_access_key="testing",
    )


@contextmanager
def strict_glue() -> Iterator[None]:
    """Make moto's Glue refuse stale versions, fold names to lower case, count from 0 and page its lists."""
    lock = threading.Lock()
    real_create, real_get, real_delete = GlueBackend.create_table, GlueBackend.get_table, GlueBackend.delete_table
    real_update, real_list, real_dict = GlueResponse.update_table, GlueResponse.get_tables, FakeTable.as_dict

    def create(self: GlueBackend, database: str, name: str, given: dict[str, Any], *more: Any) -> FakeTable:
        with lock:
            return real_create(self, database, name.lower(), {**given, "Name": name.lower()}, *more)

    def get(self: GlueBackend, database: str, name: str) -> FakeTable:
        return real_get(self, database, name.lower())

    def delete(self: GlueBackend, database: str, name: str) -> None:
        real_delete(self, database, name.lower())

    def update(self: GlueResponse) -> Any:
        expected = self.parameters.get("VersionId")
        with lock:
            table = self.glue_backend.get_table(
                self.parameters["DatabaseName"], self.parameters["TableInput"]["Name"]
            )
            if expected not in (None, table.as_dict()["VersionId"]):
                raise JsonRESTError("ConcurrentModificationException", "Update table failed")
            return real_update(self)

    def as_dict(self: FakeTable, version: str | None = None) -> dict[str, Any]:
        table = real_dict(self, version)
        return {**table, "VersionId": str(int(table["VersionId"]) - 1)}

    def pages(self: GlueResponse) -> ActionResult:
        result: Any = real_list(self).result
        tables = result["TableList"]
        start = int(self.parameters.get("NextToken") or 0)
        response: dict[str, Any] = {"TableList": tables[start : start + PAGE]}
        if start + PAGE < len(tables):
            response["NextToken"] = str(start + PAGE)
        return ActionResult(response)

    with (
        mock.patch.object(GlueBackend, "create_table", create),
        mock.patch.object(GlueBackend, "get_table", get),
        mock.patch.object(GlueBackend, "delete_table", delete),
        mock.patch.object(GlueResponse, "update_table", update),
        mock.patch.object(GlueResponse, "get_tables", pages),
        mock.patch.object(FakeTable, "as_dict", as_dict),
    ):
        yield
