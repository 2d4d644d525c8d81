"""The permissions of the jobs, derived from the configured prefixes, tables and workgroup.

No statement allows deleting from a source. Only actions that take no resource name have `Resource: "*"`, with a
condition if there is one.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from bucketwheel.deploy.template.deployment import Deployment, bucket_arn, object_arn, sub
from bucketwheel.executors.copy_store import TEMPORARY
from bucketwheel.monitoring import metrics
from bucketwheel.settings.layouts import iceberg_in_glue, table_prefixes
from bucketwheel.storage.locations import S3Location

Statement = dict[str, Any]

READ_PACKAGE = "ReadPackage"


def allow(sid: str, actions: Sequence[str], resources: Sequence[Any], condition: Any = None) -> Statement:
    """Return one statement of a policy."""
    statement: Statement = {
        "Sid": sid,
        "Effect": "Allow",
        "Action": sorted(actions),
        "Resource": list(resources) if len(resources) != 1 else resources[0],
    }
    if condition:
        statement["Condition"] = condition
    return statement


def document(statements: Iterable[Statement]) -> dict[str, Any]:
    """Return a policy."""
    return {"Version": "2012-10-17", "Statement": list(statements)}


def job_statements(deployment: Deployment) -> list[Statement]:
    """Return the statements of the jobs' policy."""
    return [
        *_read(deployment),
        *_listings(deployment),
        *_write(deployment),
        *_catalog(deployment),
        *_iceberg(deployment),
        *_athena(deployment),
        *_logs(deployment),
        *_metrics(deployment),
        allow("Notify", ["sns:Publish"], [deployment.topic]),
        *_key(deployment),
    ]


def _read(deployment: Deployment) -> Iterator[Statement]:
    sources = [object_arn(source, "/*") for source in _unique(deployment.sources().values())]
    sources += [object_arn(mapping) for mapping in _unique(deployment.mappings().values())]
    yield allow("ReadSource", ["s3:GetObject"], sources)
    yield allow(READ_PACKAGE, ["s3:GetObject"], [object_arn(deployment.package(), "/*")])


def _listings(deployment: Deployment) -> Iterator[Statement]:
    """Allow listing the known prefixes; without that, S3 reports a missing object as denied."""
    below = [*deployment.sources().values(), deployment.target(), deployment.package()]
    if deployment.uses_athena():
        below.append(deployment.query_results())
    prefixes = [(location.bucket, f"{location.prefix}/*" if location.prefix else "*") for location in below]
    prefixes += [(mapping.bucket, mapping.prefix) for mapping in deployment.mappings().values()]
    for number, bucket in enumerate(dict.fromkeys(name for name, _ in prefixes), start=1):
        yield allow(
            f"ListBucket{number}",
            ["s3:ListBucket"],
            [bucket_arn(bucket)],
            {"StringLike": {"s3:prefix": sorted({prefix for name, prefix in prefixes if name == bucket})}},
        )


def _write(deployment: Deployment) -> Iterator[Statement]:
    target, actions = deployment.target(), ["s3:GetObject", "s3:PutObject"]
    tables = [object_arn(target, f"/{dataset}/*") for dataset in deployment.settings.datasets]
    # A run deletes no table files, only those of failed copies; `expire` deletes the rest.
    failed = ["s3:AbortMultipartUpload", *(["s3:DeleteObject"] if deployment.copies_tables() else [])]
    yield allow("ReadTables", ["s3:GetObject", *failed], tables)
    yield from _create_files(deployment, tables)
    # The names of the published snapshots change with each publication.
    names = [object_arn(target, f"/{dataset}/metadata/*") for dataset in deployment.settings.datasets]
    yield allow("WriteSnapshotNames", ["s3:PutObject"], names)
    # Obsolete checkpoints are deleted. Run metadata is small: no multipart uploads.
    yield allow("WriteBooks", [*actions, "s3:DeleteObject"], [object_arn(target, "/_bucketwheel/*")])
    # This action cannot be limited to a prefix.
    yield allow("FindUploads", ["s3:ListBucketMultipartUploads"], [bucket_arn(target.bucket)])


def _create_files(deployment: Deployment, tables: Sequence[Any]) -> Iterator[Statement]:
    """Allow creating files of tables; only Athena, which sends no conditions, could also replace one."""
    if deployment.uses_athena():
        yield allow("WriteTables", ["s3:PutObject"], tables)
        return
    yield allow("CreateFiles", ["s3:PutObject"], tables, {"Null": {"s3:if-none-match": "false"}})
    # Parts of uploads create no object, and take no condition; the completion of an upload does.
    yield allow("UploadParts", ["s3:PutObject"], tables, {"Bool": {"s3:ObjectCreationOperation": "false"}})


def _catalog(deployment: Deployment) -> Iterator[Statement]:
    catalog = deployment.settings.catalog
    if catalog.kind != "glue":
        return
    base, database = "arn:${AWS::Partition}:glue:${AWS::Region}:${AWS::AccountId}:", catalog.database.lower()
    around = [sub(f"{base}catalog"), sub(f"{base}database/{database}")]
    owned = [sub(f"{base}table/{database}/{prefix}*") for prefix in table_prefixes(deployment.settings).values()]
    yield allow("ReadCatalog", ["glue:GetTable", "glue:GetTables"], [*around, sub(f"{base}table/{database}/*")])
    yield allow("Publish", ["glue:CreateTable", "glue:DeleteTable", "glue:UpdateTable"], [*around, *owned])
    # Allowed even if the setting is `none`: statistics of an earlier run must still be deleted.
    statistics = ["Delete", "Get", *(["Update"] if catalog.column_statistics != "none" else [])]
    actions = [f"glue:{action}ColumnStatisticsForTable" for action in statistics]
    yield allow("PublishStatistics", actions, [*around, *owned])
    if deployment.uses_athena():
        # Athena reads the database with the caller's permissions; a copy is created and dropped, never changed.
        yield allow("ReadDatabase", ["glue:GetDatabase"], around)
        copies = sub(f"{base}table/{database}/{TEMPORARY}*")
        yield allow("Copy", ["glue:CreateTable", "glue:DeleteTable"], [*around, copies])
    if catalog.lake_formation:
        # These actions take no resource and no condition.
        reads = ["lakeformation:GetDataAccess"] if deployment.uses_athena() else []
        yield allow("LakeFormation", ["lakeformation:ListPermissions", *reads], ["*"])
    if catalog.create_database:
        yield allow("CreateDatabase", ["glue:CreateDatabase"], around)


def _iceberg(deployment: Deployment) -> Iterator[Statement]:
    """Allow what PyIceberg calls: it reads the database before each commit, and no list of databases."""
    settings = deployment.settings
    if not iceberg_in_glue(settings):
        return
    database = (settings.iceberg.namespace or settings.catalog.database).lower()
    base = "arn:${AWS::Partition}:glue:${AWS::Region}:${AWS::AccountId}:"
    around = [sub(f"{base}catalog"), sub(f"{base}database/{database}")]
    owned = [sub(f"{base}table/{database}/{prefix}*") for prefix in table_prefixes(settings).values()]
    reads = ["glue:GetDatabase", "glue:GetTable", "glue:GetTables"]
    yield allow("ReadIcebergCatalog", reads, [*around, sub(f"{base}table/{database}/*")])
    changes = ["glue:CreateTable", "glue:DeleteTable", "glue:UpdateTable"]
    yield allow("PublishIceberg", changes, [*around, *owned])
    if settings.catalog.create_database:
        yield allow("CreateNamespace", ["glue:CreateDatabase"], around)


def _athena(deployment: Deployment) -> Iterator[Statement]:
    if not deployment.uses_athena():
        return
    workgroup = deployment.settings.athena.workgroup
    queries = ("GetQueryExecution", "GetQueryResults", "GetWorkGroup", "StartQueryExecution", "StopQueryExecution")
    yield allow(
        "Query",
        [f"athena:{action}" for action in queries],
        [sub(f"arn:${{AWS::Partition}}:athena:${{AWS::Region}}:${{AWS::AccountId}}:workgroup/{workgroup}")],
    )
    results = deployment.query_results()
    actions = ("AbortMultipartUpload", "DeleteObject", "GetObject", "ListMultipartUploadParts", "PutObject")
    yield allow("QueryResults", [f"s3:{action}" for action in actions], [object_arn(results, "/*")])
    buckets = dict.fromkeys((results.bucket, deployment.target().bucket))
    yield allow("QueryBuckets", ["s3:GetBucketLocation"], [bucket_arn(bucket) for bucket in buckets])


def _logs(deployment: Deployment) -> Iterator[Statement]:
    group = f"arn:${{AWS::Partition}}:logs:${{AWS::Region}}:${{AWS::AccountId}}:log-group:{deployment.log_prefix}/"
    groups = [sub(f"{group}{name}:*") for name in log_group_names(deployment)]
    actions = ["logs:CreateLogStream", "logs:PutLogEvents"]
    if deployment.on_glue:
        yield allow("Log", actions, groups)
        return
    yield allow("Log", [*actions, "logs:DescribeLogStreams"], groups)
    # This action takes no log group.
    yield allow("FindLogGroups", ["logs:DescribeLogGroups"], ["*"])


def log_group_names(deployment: Deployment) -> tuple[str, ...]:
    """Return the last parts of the names of the jobs' log groups, which Glue determines."""
    return ("output", "error") if deployment.on_glue else ("output",)


def _metrics(deployment: Deployment) -> Iterator[Statement]:
    monitoring, platform = deployment.settings.monitoring, deployment.settings.deploy.platform
    names = [monitoring.namespace] if metrics.route(monitoring.metrics, platform) == "put" else []
    # Glue publishes its own metrics with the job's role.
    names += ["Glue"] if deployment.on_glue else []
    if not names:
        return
    yield allow("PutMetrics", ["cloudwatch:PutMetricData"], ["*"], {"StringEquals": {"cloudwatch:namespace": names}})


def _key(deployment: Deployment) -> Iterator[Statement]:
    settings, use = deployment.settings, ["kms:Decrypt", "kms:GenerateDataKey"]
    keys: list[Any] = []
    for key in (deployment.key, settings.storage.kms_key, *settings.storage.kms_keys):
        if key is not None and key not in keys:
            keys.append(key)
    if keys:
        yield allow("UseKey", use, keys, _via("s3", keys))
    of_topic = settings.monitoring.topic_kms_key if settings.monitoring.topic_arn else deployment.key
    if of_topic is not None:
        yield allow("UseKeyOfTopic", use, [of_topic], _via("sns", [of_topic]))
    in_glue = settings.catalog.kind == "glue" or iceberg_in_glue(settings)
    if in_glue and settings.catalog.kms_key is not None:
        yield allow("UseKeyOfCatalog", [*use, "kms:Encrypt"], [settings.catalog.kms_key])


def _via(service: str, keys: Iterable[Any]) -> dict[str, Any]:
    """Return the condition that a service calls KMS, in the region of each key.

    A key encrypts in its own region only, which differs from the stack's for a bucket elsewhere.
    """
    names: list[Any] = []
    for key in keys:
        # The stack's own key has no ARN yet.
        name = f"{service}.{key.split(':')[3]}.amazonaws.com" if isinstance(key, str) else None
        name = name or sub(f"{service}.${{AWS::Region}}.amazonaws.com")
        if name not in names:
            names.append(name)
    return {"StringLike": {"kms:ViaService": names if len(names) > 1 else names[0]}}


def _unique(locations: Iterable[S3Location]) -> list[S3Location]:
    return list(dict.fromkeys(locations))
