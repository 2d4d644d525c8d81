"""Record the AWS calls of this process together with the permissions that each of them needs."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from deploy_support import ACCOUNT, REGION

Call = dict[str, Any]

_ON_OBJECT = {
    "GetObject": "s3:GetObject",
    "HeadObject": "s3:GetObject",
    "PutObject": "s3:PutObject",
    "CreateMultipartUpload": "s3:PutObject",
    "UploadPart": "s3:PutObject",
    "CompleteMultipartUpload": "s3:PutObject",
    "AbortMultipartUpload": "s3:AbortMultipartUpload",
    "DeleteObject": "s3:DeleteObject",
}
_ON_TABLE = {"GetTable", "CreateTable", "UpdateTable", "DeleteTable"}
_ON_STATISTICS = {f"{action}ColumnStatisticsForTable" for action in ("Get", "Update", "Delete")}
_ON_DATABASE = {"GetDatabase", "CreateDatabase"}
_ON_QUERY = {"GetQueryExecution", "GetQueryResults", "StopQueryExecution"}
_GLUE = f"arn:aws:glue:{REGION}:{ACCOUNT}:"
_WORKGROUP = f"arn:aws:athena:{REGION}:{ACCOUNT}:workgroup/"


@dataclass
class Recorder:
    """Records the calls of clients of a boto3 session that are created after `listen`."""

    _calls: dict[str, Call] = field(default_factory=dict)
    _workgroups: dict[str, str] = field(default_factory=dict)
    _unknown: list[LookupError] = field(default_factory=list)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def listen(self, session: Any) -> None:
        session.events.register("provide-client-params", self._begun)
        session.events.register("after-call", self._ended)

    @contextmanager
    def chapter(self) -> Iterator[list[Call]]:
        """Fill a list with the distinct calls of a block when it ends.

        Raises:
            LookupError: the permission for a call is not known, even if the block turned the error into a warning.
        """
        calls: list[Call] = []
        with self._lock:
            self._calls.clear()
            self._unknown.clear()
        yield calls
        if self._unknown:
            raise self._unknown[0]
        calls += self._calls.values()

    def _begun(self, params: Mapping[str, Any], context: dict[str, Any], **_: Any) -> None:
        context["as asked"] = dict(params)

    def _ended(self, http_response: Any, parsed: Any, model: Any, context: dict[str, Any], **_: Any) -> None:
        service, operation = model.service_model.service_name, model.name
        params = context["as asked"]
        with self._lock:
            if operation == "StartQueryExecution" and http_response.status_code == 200:
                self._workgroups[parsed["QueryExecutionId"]] = params["WorkGroup"]
            try:
                for call in self._needed(service, operation, params, http_response.status_code):
                    self._calls.setdefault(str(call), call)
            except LookupError as error:
                self._unknown.append(error)
                raise

    def _needed(self, service: str, operation: str, params: Mapping[str, Any], status: int) -> Iterator[Call]:
        if service == "s3":
            yield from _of_s3(operation, params, status)
        elif service == "glue":
            yield from _of_glue(operation, params)
        elif service == "athena":
            group = self._workgroups[params["QueryExecutionId"]] if operation in _ON_QUERY else params["WorkGroup"]
            yield _call(f"athena:{operation}", f"{_WORKGROUP}{group}")
        elif (service, operation) == ("sns", "Publish"):
            yield _call("sns:Publish", params["TopicArn"])
        elif (service, operation) == ("cloudwatch", "PutMetricData"):
            yield _call("cloudwatch:PutMetricData", "*", {"cloudwatch:namespace": params["Namespace"]})
        elif (service, operation) != ("sts", "GetCallerIdentity"):
            raise LookupError(f"{service} {operation}: add here what a policy has to allow for it")


def _of_s3(operation: str, params: Mapping[str, Any], status: int) -> Iterator[Call]:
    bucket = f"arn:aws:s3:::{params['Bucket']}"
    if operation == "ListObjectsV2":
        yield _call("s3:ListBucket", bucket, {"s3:prefix": params.get("Prefix", "")})
    elif operation == "ListMultipartUploads":
        yield _call("s3:ListBucketMultipartUploads", bucket)
    elif operation == "DeleteObjects":
        for deleted in params["Delete"]["Objects"]:
            yield _call("s3:DeleteObject", f"{bucket}/{deleted['Key']}")
    elif operation in _ON_OBJECT:
        yield _call(_ON_OBJECT[operation], f"{bucket}/{params['Key']}", _of_put(operation, params))
        if status == 404:
            # S3 answers 404 only to callers that may list the bucket, and 403 to all others.
            yield _call("s3:ListBucket", bucket, {"s3:prefix": params["Key"]})
    else:
        raise LookupError(f"s3 {operation}: add here what a policy has to allow for it")


def _of_put(operation: str, params: Mapping[str, Any]) -> dict[str, str]:
    """What conditions of a policy see of a call that writes."""
    if _ON_OBJECT[operation] != "s3:PutObject":
        return {}
    condition = {"s3:if-none-match": params["IfNoneMatch"]} if "IfNoneMatch" in params else {}
    creates = operation in ("PutObject", "CompleteMultipartUpload")
    return {**condition, "s3:ObjectCreationOperation": str(creates).lower()}


def _of_glue(operation: str, params: Mapping[str, Any]) -> Iterator[Call]:
    database = params.get("DatabaseName") or params.get("DatabaseInput", {}).get("Name") or params["Name"]
    resources = ["catalog", f"database/{database}"]
    if operation in _ON_TABLE:
        resources.append(f"table/{database}/{params.get('Name') or params['TableInput']['Name']}")
    elif operation in _ON_STATISTICS:
        resources.append(f"table/{database}/{params['TableName']}")
    elif operation == "GetTables":
        # As a resource, not as a pattern: who lists has to be allowed to see every table.
        resources.append(f"table/{database}/*")
    elif operation not in _ON_DATABASE:
        raise LookupError(f"glue {operation}: add here what a policy has to allow for it")
    for resource in resources:
        yield _call(f"glue:{operation}", f"{_GLUE}{resource}")


def _call(action: str, resource: str, context: Mapping[str, str] | None = None) -> Call:
    return {"action": action, "resource": resource, **({"context": dict(context)} if context else {})}
