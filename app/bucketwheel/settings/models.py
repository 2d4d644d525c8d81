"""Models of the settings: strict and frozen; every bad key is reported at once.

`loading.py` reads the values from files, environment and flags; these models check them.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BeforeValidator, Field, ValidationInfo, field_validator, model_validator

from bucketwheel.settings.base import (
    ByteSize,
    Frozen,
    Location,
    Names,
    parse_count,
    parse_list,
    parse_memory,
    parse_names,
)
from bucketwheel.settings.deploy import (
    CostSettings,
    DeploySettings,
    EmrServerlessSettings,
    GlueJobSettings,
    MonitoringSettings,
)
from bucketwheel.settings.iceberg import IcebergSettings
from bucketwheel.settings.layouts import BucketCount, BucketHash, LayoutSettings, Reader, layout_problem, resolve
from bucketwheel.settings.names import NamePrefix, PlainName
from bucketwheel.settings.partition import DEFAULT, check_partition
from bucketwheel.settings.types import TypeSettings

STAGES = ("discover", "split", "size", "bucket", "verify", "register", "ctas")

# Method of final tables without a SQL engine.
PROMOTE = "promote"

LakeFormationGrant = Literal["database", "tables", "locations"]
Policy = Literal["error", "warn", "allow"]
StatisticsLevel = Literal["none", "basic", "distinct"]


class BucketSettings(Frozen):
    """How rows are placed in files.

    Attributes:
        count: Buckets per table: a number, `auto` (the largest power of two for which each file of the largest
            table holds at least 100 MB of source; 1 for small tables) or `none` (a layout without buckets). Set the
            same number for datasets that are joined with each other.
        hash: `hive_v1` (Athena, Trino, Hive 2), `hive_v2` (Hive 3, `bucketing_version=2`), `spark` (Spark, with
            the parameters of `bucketBy`; Athena with `bucketing_format=spark`) or `iceberg` (the bucket transform of
            Iceberg).
        sort: Sort the rows of a bucket by key. NULL keys come first.
        max_file_bytes: A larger bucket continues in another file (`…_copy_1`; with `hash: spark` `….c001…`). Spark
            uses the order of rows only in buckets of one file.
    """

    count: BucketCount = "auto"
    hash: BucketHash = "hive_v1"
    sort: bool = True
    max_file_bytes: ByteSize = 2**30


class SizeSettings(Frozen):
    """Files per table of a layout without buckets, and the sizes of row groups and pages.

    Attributes:
        files_per_gb: Files of a table per GiB of source, if `buckets.count` is `none`.
        max_files: Maximum number of files of a table, if `buckets.count` is `none`.
        row_group_bytes: Approximate size of a row group; at most a quarter of `buckets.max_file_bytes`.
        page_bytes: Approximate size of a page before compression; small pages make point queries cheap.
    """

    files_per_gb: Annotated[float, Field(gt=0)] = 2
    max_files: Annotated[int, Field(ge=1)] = 256
    row_group_bytes: ByteSize = 128 * 2**20
    page_bytes: ByteSize = 256 * 2**10


class SplitSettings(Frozen):
    """Maximum number of columns of a table.

    Attributes:
        columns_over_limit: A table with more columns than the limit: `error`, `parts` (`<table>_part_1`, `_part_2`, …
            of even width) or `allow`.
        column_limit: Maximum number of columns of a table, the key not counted; null: no limit, but 100 if
            `columns_over_limit` is `parts`. AWS Clean Rooms takes 100.
    """

    columns_over_limit: Literal["error", "parts", "allow"] = "error"
    column_limit: Annotated[int, Field(ge=1)] | None = None

    @property
    def limit(self) -> int | None:
        """Return the maximum number of columns of a table; None if there is none."""
        return 100 if self.column_limit is None and self.columns_over_limit == "parts" else self.column_limit


class QualitySettings(Frozen):
    """Policies for NULL and duplicate keys, and limits for differences from the published snapshot.

    A snapshot beyond a limit is refused before its tables are published. Null removes a limit.

    Attributes:
        null_keys: Rows with a NULL key: `error`, `warn` or `allow`.
        duplicate_keys: Rows that repeat a key: `error`, `warn` or `allow`.
        drift: Comparison with the published snapshot: `off`, `counts` (from the manifests) or `keys` (also reads the
            keys of both). `off` switches off all limits below.
        schema_changes: Changes that break readers of published tables: a removed column, a changed type or key.
            `error` refuses them before anything is written, `warn` publishes with a warning, `allow` is silent.
        max_rows_changed_percent: Maximum change in the number of rows, in percent of the published ones.
        max_null_share_changed_points: Maximum change in the share of NULLs of any column, in percentage points.
        min_keys_kept_percent: Minimum share of the published keys that the snapshot has too; needs `drift: keys`.
    """

    null_keys: Policy = "error"
    duplicate_keys: Policy = "warn"
    # YAML reads `off` as false.
    drift: Annotated[
        Literal["off", "counts", "keys"], BeforeValidator(lambda value: "off" if value is False else value)
    ] = "keys"
    schema_changes: Policy = "error"
    max_rows_changed_percent: Annotated[float, Field(gt=0)] | None = 50
    max_null_share_changed_points: Annotated[float, Field(gt=0, lt=100)] | None = None
    min_keys_kept_percent: Annotated[float, Field(gt=0, le=100)] | None = None

    @property
    def limits_set(self) -> tuple[str, ...]:
        """The limits that the configuration sets; the defaults do not count."""
        return tuple(
            name
            for name in (
                "schema_changes",
                "max_rows_changed_percent",
                "max_null_share_changed_points",
                "min_keys_kept_percent",
            )
            if name in self.model_fields_set and getattr(self, name) not in (None, "warn", "allow")
        )

    @model_validator(mode="after")
    def _limits_are_compared(self) -> QualitySettings:
        if self.limits_set and self.drift == "off":
            raise ValueError(f"{self.limits_set[0]} is set, but drift is off; set drift to counts or keys")
        if self.min_keys_kept_percent is not None and self.drift != "keys":
            raise ValueError(f"min_keys_kept_percent is set, but drift is {self.drift}; set drift to keys")
        return self


class CatalogSettings(Frozen):
    """The catalog and the names of published tables.

    Attributes:
        kind: The catalog: `duckdb` (`catalog-duckdb.md`) is one file with a view per table, `glue`
            (`catalog-glue.md`) the AWS Glue Data Catalog, `iceberg` (`catalog-iceberg.md`) a catalog of Iceberg
            tables, which always has the tables with the hash `iceberg`.
        path: The file of the duckdb catalog.
        database: Database (in DuckDB: schema) of the tables.
        staged_prefix: Prefix of the names of staged tables.
        final_prefix: Prefix of the names of final tables; must differ from `staged_prefix`.
        adopt: Replace tables of these names that Bucketwheel did not create.
        create_database: Glue: create the database with the first table if it is missing.
        lake_formation: Glue: grants of Lake Formation that the jobs need: `database` (create tables), `tables`
            (change all tables of the database), `locations` (write to the target, if it is registered). The stack
            gives them, and every run checks them. The database must exist, so `create_database` must be off.
        kms_key: ARN of the customer key of the Glue Data Catalog; `deploy` gives the role of the jobs permission to
            use it, and finds it if it may look.
        retry_seconds: Seconds to retry throttled calls to Glue and Athena, beyond `aws.attempts`.
        column_statistics: Statistics of columns to collect and to publish in Glue: `none`; `basic`, with distinct
            values of the key and of columns with few values only; `distinct`, of all columns, estimated.
    """

    kind: str = "duckdb"
    path: str | None = "./out/catalog.duckdb"
    database: PlainName = "bucketwheel"
    staged_prefix: NamePrefix = "ext_"
    final_prefix: NamePrefix = "bucketed_"
    adopt: bool = False
    create_database: bool = True
    lake_formation: Annotated[tuple[LakeFormationGrant, ...], BeforeValidator(parse_names)] = ()
    kms_key: str | None = None
    retry_seconds: Annotated[float, Field(ge=0)] = 120
    column_statistics: StatisticsLevel = "basic"

    @model_validator(mode="after")
    def _prefixes_differ(self) -> CatalogSettings:
        if self.staged_prefix == self.final_prefix:
            raise ValueError(f"staged_prefix and final_prefix are both {self.final_prefix!r}; they must differ")
        return self

    @model_validator(mode="after")
    def _database_exists(self) -> CatalogSettings:
        if self.lake_formation and self.kind == "glue" and self.create_database:
            raise ValueError(
                f"lake_formation is set, but create_database is on; create the database {self.database} with "
                f"`aws glue create-database --database-input Name={self.database.lower()}` and set create_database "
                "to false: Lake Formation grants permissions on databases that exist"
            )
        return self


class CtasSettings(Frozen):
    """Creation of the final tables; settings other than `method` are for copies by a SQL engine.

    Attributes:
        method: `promote` points final tables to the files, which already are buckets; `athena`
            (`executor-athena.md`) and `trino` (`executor-trino.md`) copy them.
        concurrency: Number of concurrent copies.
        timeout_seconds: Time-out of one statement, in seconds.
        poll_seconds: Maximum interval between status checks of a query, in seconds; the first ones are shorter.
        attempts: Maximum attempts of a copy if the engine is throttled or full.
    """

    method: str = PROMOTE
    concurrency: Annotated[int, Field(ge=1, le=100)] = 4
    timeout_seconds: Annotated[float, Field(gt=0)] = 3600
    poll_seconds: Annotated[float, Field(gt=0)] = 10
    attempts: Annotated[int, Field(ge=1)] = 3


# A week; longer than any suspended process should block a dataset.
MAX_LEASE_SECONDS = 7 * 24 * 3600


class LeaseSettings(Frozen):
    """Take-over of datasets from processes that died.

    Attributes:
        ttl_seconds: Seconds without renewal after which a process on another machine counts as dead; at most a week.
    """

    ttl_seconds: Annotated[float, Field(gt=0, le=MAX_LEASE_SECONDS)] = 60


class ExpireSettings(Frozen):
    """Deletion of old runs.

    Attributes:
        min_age_hours: Hours for which `expire` keeps the files of a run after tables stopped showing it, so that no
            running query loses them.
    """

    min_age_hours: Annotated[float, Field(ge=0)] = 24


class AthenaSettings(Frozen):
    """Athena: the workgroup, the location of query results, and the name of the Glue catalog.

    Attributes:
        workgroup: Workgroup of statements; the stack creates any other than `primary`.
        output_location: Location of query results; required if the stack creates the workgroup.
        bytes_limit: Maximum bytes a query may scan, in a workgroup that the stack creates; at least 10 MB.
        catalog: Name of the Glue catalog in Athena.
    """

    workgroup: str = "primary"
    output_location: Location | None = None
    bytes_limit: Annotated[ByteSize, Field(ge=10 * 10**6)] = 10**12
    catalog: str = "AwsDataCatalog"


class TrinoSettings(Frozen):
    """Address of Trino and the catalog with the tables; the password comes from TRINO_PASSWORD.

    Attributes:
        host: Host of Trino.
        port: Port of Trino.
        user: User name; the password comes from the environment variable `TRINO_PASSWORD`.
        https: Use TLS; required with a password.
        catalog: Trino catalog (Hive connector) with the tables of `catalog.kind`.
        sorted: Let Trino sort the rows of a bucket; needs more memory.
    """

    host: str = "localhost"
    port: Annotated[int, Field(ge=1, le=65_535)] = 8080
    user: str = "bucketwheel"
    https: bool = False
    catalog: str = "hive"
    sorted: bool = False


class AwsSettings(Frozen):
    """Access to AWS services; null leaves the choice to the environment, as the AWS command line does.

    Attributes:
        region: Region of the services; null takes it from the environment or the machine, as the AWS command line
            does.
        endpoint_url: Endpoint for all services, for emulators; null takes AWS's own, or `AWS_ENDPOINT_URL` and
            `AWS_ENDPOINT_URL_<SERVICE>`.
        connect_seconds: Time-out of a connection, in seconds.
        read_seconds: Time-out of a response, in seconds; also for Trino and Iceberg REST catalogs.
        attempts: Maximum attempts per call (exponential backoff) if AWS throttles or fails.
    """

    region: str | None = None
    endpoint_url: str | None = None
    connect_seconds: Annotated[float, Field(gt=0)] = 10
    read_seconds: Annotated[float, Field(gt=0)] = 60
    attempts: Annotated[int, Field(ge=1)] = 8


class StorageSettings(Frozen):
    """Access to S3; null has the meaning described in `AwsSettings`. Local paths use only `spill_directory`.

    Attributes:
        endpoint_url: Endpoint of an S3-compatible store; null takes `aws.endpoint_url`, then `AWS_ENDPOINT_URL_S3`
            and `AWS_ENDPOINT_URL`, then AWS's own.
        region: Region of the buckets; null takes `aws.region`, then the environment's.
        path_style: `true` puts the bucket into the path of the URL, `false` into the host name; null does the first
            only if an endpoint is set.
        encryption: `SSE-S3` or `SSE-KMS` for everything that is written to S3; null leaves it to the bucket.
        kms_key: Id or ARN of the key for `SSE-KMS`; null takes the account's key for S3.
        kms_keys: ARNs of the customer keys of buckets that jobs read and write; `deploy` gives the role of the jobs
            permission to use them, and finds those that buckets use by default.
        requester_pays: Pay for requests to requester-pays buckets.
        connect_seconds: Time-out of a connection, in seconds; null takes `aws.connect_seconds`.
        read_seconds: Time-out of the next bytes of a response, in seconds; null takes `aws.read_seconds`.
        attempts: Maximum attempts per call (exponential backoff); null takes `aws.attempts`.
        spill_directory: Local directory for spilled shuffle blocks; null takes the system's temporary directory.
    """

    endpoint_url: str | None = None
    region: str | None = None
    path_style: bool | None = None
    encryption: Literal["SSE-S3", "SSE-KMS"] | None = None
    kms_key: str | None = None
    kms_keys: Names = ()
    requester_pays: bool = False
    connect_seconds: Annotated[float, Field(gt=0)] | None = None
    read_seconds: Annotated[float, Field(gt=0)] | None = None
    attempts: Annotated[int, Field(ge=1)] | None = None
    spill_directory: str | None = None

    @model_validator(mode="after")
    def _key_is_used(self) -> StorageSettings:
        if self.kms_key and self.encryption != "SSE-KMS":
            raise ValueError(f"kms_key is set, but encryption is {self.encryption}; set it to SSE-KMS")
        return self

    def filled(self, aws: AwsSettings) -> StorageSettings:
        """Return the settings with null values taken from `aws`."""
        names = ("endpoint_url", "region", "connect_seconds", "read_seconds", "attempts")
        taken = {name: getattr(aws, name) for name in names if getattr(self, name) is None}
        return self.model_copy(update=taken)


class PrivacySettings(Frozen):
    """Keys, which identify people, in run metadata, reports and catalogs.

    Attributes:
        show_keys: Record the smallest and the largest key of each bucket in the manifest, show them in the report,
            and publish the exact range of key columns in Glue. If `false`, manifests and reports hold no key, and
            Glue gets the range of a whole-number key rounded to powers of two, and none of other keys. Metadata of
            Iceberg tables always have the range of each file, like the files themselves.
    """

    show_keys: bool = False


class SnapshotSettings(Frozen):
    """Directories of snapshots.

    Attributes:
        partition: Directory of a snapshot below the source, with its date: `snapshot_dt=YYYY-MM-DD`, `dt=YYYYMMDD`,
            `YYYYMMDD` or `year=YYYY/month=MM/day=DD`. A name alone, such as `dt`, means `dt=YYYY-MM-DD`; a missing
            day or month counts as 1. `none`: the source itself is the snapshot of the date in `--snapshot-dt`, or of
            the day its newest file was written.
        files: Patterns of the names of data files, such as `part-*`, or `all`, for example for files that `UNLOAD` of
            Athena wrote; if empty, names that end in `.parquet` or `.parq`, in any case. Names that begin with `.` or
            `_` never count.
    """

    partition: Annotated[str, AfterValidator(check_partition)] = DEFAULT
    files: Names = ()


class DatasetSettings(Frozen):
    """One source with its key and, for a wide one, the mapping of columns to tables.

    The name of a dataset is part of paths: it must not contain slashes, backslashes or control characters, begin with
    a hyphen, or have more than 200 bytes.

    Attributes:
        source: The directory that holds the directories of snapshots.
        key: The key column, or several: `a,b` or a list. Names match exactly or, if only one column
            matches, regardless of case.
        mapping: CSV with the header `table,column`; null writes one table of all columns, named after the dataset.
            The names in the header may have a prefix, such as `NEW_TABLE,NEW_COLUMN`.
        partition: Directory of a snapshot below the source; null takes `snapshot.partition`.
        files: Patterns of the names of data files; if empty, `snapshot.files` applies.
        partitions: Directories `name=value` below a snapshot whose column is not in the files: `error` refuses them,
            `columns` adds the column as text, `ignore` leaves it out.
        binary_columns: Text columns to publish as binary, because their text is not UTF-8.
        complete_marker: Name of a file, such as `_SUCCESS`, that marks a complete snapshot; snapshots without it are
            skipped.
    """

    source: Location
    key: Annotated[Names, Field(min_length=1)]
    mapping: Location | None = None
    partition: Annotated[str, AfterValidator(check_partition)] | None = None
    files: Names = ()
    partitions: Literal["error", "columns", "ignore"] = "error"
    binary_columns: Names = ()
    complete_marker: PlainName | None = None


class Settings(Frozen):
    """All settings.

    Attributes:
        engine: Engine of the heavy stages; `arrow` runs in threads on this machine.
        memory: Budget of the arrow engine: `auto` (half the memory of machine or container), or a size such as
            `512MB`. Shuffle blocks beyond two fifths of it, less 64 MiB, spill to disk.
        threads: Threads of the arrow engine; `auto` takes every core this process may use.
        target: Location of tables and run metadata: a local path or `s3://bucket/prefix`.
        stages: The pipeline, in order. Stages of other packages are added here.
        layouts: Layouts of the tables, all written in one scan and published together: a list of `name`, `hash`,
            `buckets`, `sort`, `max_file_bytes` and `prefix`; omitted values come from `buckets`. Without any,
            `readers` decide.
        readers: Services that read the tables: `athena` and `trino` need the hash `hive_v1`; `spark`, `glue`, `emr`
            and `clean_rooms` need `spark`; `duckdb` needs none. Readers of both kinds get two layouts, `hive` and
            `spark`. Without any, `buckets` is the only layout.
        plugins: Settings of stages and backends of other packages, by name (`plugins.md`).
    """

    engine: str = "arrow"
    memory: Annotated[ByteSize | Literal["auto"], BeforeValidator(parse_memory)] = "auto"
    threads: Annotated[Annotated[int, Field(ge=1)] | Literal["auto"], BeforeValidator(parse_count)] = "auto"
    target: Location = "./out"
    stages: Annotated[Names, Field(min_length=1)] = STAGES
    buckets: BucketSettings = BucketSettings()
    size: SizeSettings = SizeSettings()
    split: SplitSettings = SplitSettings()
    types: TypeSettings = TypeSettings()
    quality: QualitySettings = QualitySettings()
    privacy: PrivacySettings = PrivacySettings()
    catalog: CatalogSettings = CatalogSettings()
    iceberg: IcebergSettings = IcebergSettings()
    layouts: Annotated[tuple[LayoutSettings, ...], BeforeValidator(parse_list)] = ()
    readers: Annotated[tuple[Reader, ...], BeforeValidator(parse_names)] = ()
    ctas: CtasSettings = CtasSettings()
    aws: AwsSettings = AwsSettings()
    storage: StorageSettings = StorageSettings()
    lease: LeaseSettings = LeaseSettings()
    expire: ExpireSettings = ExpireSettings()
    athena: AthenaSettings = AthenaSettings()
    trino: TrinoSettings = TrinoSettings()
    glue: GlueJobSettings = GlueJobSettings()
    emr_serverless: EmrServerlessSettings = EmrServerlessSettings()
    deploy: DeploySettings = DeploySettings()
    monitoring: MonitoringSettings = MonitoringSettings()
    cost: CostSettings = CostSettings()
    plugins: Mapping[str, Mapping[str, Any]] = {}
    snapshot: SnapshotSettings = SnapshotSettings()
    datasets: Mapping[PlainName, DatasetSettings] = {}

    @field_validator("layouts")
    @classmethod
    def _layouts_differ(cls, layouts: tuple[LayoutSettings, ...], info: ValidationInfo) -> tuple[LayoutSettings, ...]:
        _check_layouts(layouts, (), info)
        return layouts

    @field_validator("readers")
    @classmethod
    def _layouts_of_readers_differ(cls, readers: tuple[Reader, ...], info: ValidationInfo) -> tuple[Reader, ...]:
        if not info.data.get("layouts"):
            _check_layouts((), readers, info)
        return tuple(dict.fromkeys(readers))


def _check_layouts(layouts: tuple[LayoutSettings, ...], readers: tuple[Reader, ...], info: ValidationInfo) -> None:
    # A section with errors of its own is missing.
    if "buckets" in info.data and "catalog" in info.data:
        catalog: CatalogSettings = info.data["catalog"]
        if problem := layout_problem(resolve(layouts, readers, info.data["buckets"], catalog), catalog.staged_prefix):
            raise ValueError(problem)
