"""The settings and their rules: strict, frozen, every bad key reported at once.

`config.py` gathers the values from files, environment and flags; this module says what they may be.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Literal

from pydantic import BeforeValidator, Field, model_validator

from bucketwheel.settings_base import ByteSize, Frozen, Names, parse_count, parse_memory
from bucketwheel.settings_deploy import (
    CostSettings,
    DeploySettings,
    EmrServerlessSettings,
    GlueJobSettings,
    MonitoringSettings,
)

STAGES = ("discover", "split", "size", "bucket", "verify", "register", "ctas")

# The way to make final tables that needs no SQL engine.
PROMOTE = "promote"

Policy = Literal["error", "warn", "allow"]


class BucketSettings(Frozen):
    """How rows are placed in files."""

    count: Annotated[
        Annotated[int, Field(ge=1, le=100_000)] | Literal["auto", "none"], BeforeValidator(parse_count)
    ] = 256
    hash: Literal["hive_v1", "hive_v2", "spark"] = "hive_v1"
    sort: bool = True
    max_file_bytes: ByteSize = 2**30


class SizeSettings(Frozen):
    """Files per table where the layout has no buckets, and the size of row groups and pages."""

    files_per_gb: Annotated[float, Field(gt=0)] = 2
    max_files: Annotated[int, Field(ge=1)] = 256
    row_group_bytes: ByteSize = 128 * 2**20
    page_bytes: ByteSize = 256 * 2**10


class SplitSettings(Frozen):
    """What happens to a table wider than a Clean Rooms allow-list."""

    columns_over_limit: Literal["error", "parts", "allow"] = "error"
    column_limit: Annotated[int, Field(ge=1)] = 100


class QualitySettings(Frozen):
    """Policies for keys that cannot join, or join more than once, and for snapshots unlike the published one."""

    null_keys: Policy = "error"
    duplicate_keys: Policy = "warn"
    # YAML takes off for false.
    drift: Annotated[
        Literal["off", "counts", "keys"], BeforeValidator(lambda value: "off" if value is False else value)
    ] = "keys"
    max_rows_changed_percent: Annotated[float, Field(gt=0)] | None = None

    @model_validator(mode="after")
    def _rows_are_compared(self) -> QualitySettings:
        if self.max_rows_changed_percent is not None and self.drift == "off":
            raise ValueError("max_rows_changed_percent is set, but drift is off; set drift to counts or keys")
        return self


class CatalogSettings(Frozen):
    """Where tables are published and under which names."""

    kind: str = "duckdb"
    path: str | None = "./out/catalog.duckdb"
    database: str = "omc_flywheel_local"
    staged_prefix: str = "ext_"
    final_prefix: str = "bucketed_"
    adopt: bool = False
    create_database: bool = True
    retry_seconds: Annotated[float, Field(ge=0)] = 120

    @model_validator(mode="after")
    def _prefixes_differ(self) -> CatalogSettings:
        if self.staged_prefix == self.final_prefix:
            raise ValueError(f"staged_prefix and final_prefix are both {self.final_prefix!r}; they must differ")
        return self


class CtasSettings(Frozen):
    """How the final tables come to be; all but `method` is for methods that have a SQL engine copy the tables."""

    method: str = PROMOTE
    concurrency: Annotated[int, Field(ge=1, le=100)] = 4
    timeout_seconds: Annotated[float, Field(gt=0)] = 3600
    poll_seconds: Annotated[float, Field(gt=0)] = 10
    attempts: Annotated[int, Field(ge=1)] = 3


class AwsSettings(Frozen):
    """How AWS's services are reached; null leaves the choice to the environment, as the AWS command line does."""

    region: str | None = None
    endpoint_url: str | None = None
    connect_seconds: Annotated[float, Field(gt=0)] = 10
    read_seconds: Annotated[float, Field(gt=0)] = 60
    attempts: Annotated[int, Field(ge=1)] = 8


class StorageSettings(Frozen):
    """How S3 is reached, null as in `AwsSettings`; local paths need none of it but the place to spill to."""

    endpoint_url: str | None = None
    region: str | None = None
    path_style: bool | None = None
    encryption: Literal["SSE-S3", "SSE-KMS"] | None = None
    kms_key: str | None = None
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
        """Return the settings with what is null taken from those of AWS's other services."""
        names = ("endpoint_url", "region", "connect_seconds", "read_seconds", "attempts")
        taken = {name: getattr(aws, name) for name in names if getattr(self, name) is None}
        return self.model_copy(update=taken)


class LeaseSettings(Frozen):
    """How long a writer may be silent before another one takes over."""

    ttl_seconds: Annotated[float, Field(gt=0)] = 60


class AthenaSettings(Frozen):
    """The workgroup, the place for query results, and the catalog that Athena knows Glue by."""

    workgroup: str = "primary"
    output_location: str | None = None
    bytes_limit: Annotated[ByteSize, Field(ge=10 * 10**6)] = 10**12
    catalog: str = "AwsDataCatalog"


class TrinoSettings(Frozen):
    """Where Trino is and which of its catalogs shows the tables; the password comes from TRINO_PASSWORD."""

    host: str = "localhost"
    port: Annotated[int, Field(ge=1, le=65_535)] = 8080
    user: str = "bucketwheel"
    https: bool = False
    catalog: str = "hive"
    sorted: bool = False


class DatasetSettings(Frozen):
    """One source with its key and, for a wide one, the mapping of columns to tables."""

    source: str
    key: Annotated[Names, Field(min_length=1)]
    mapping: str | None = None
    complete_marker: str | None = None


class Settings(Frozen):
    """Everything a run turns on."""

    engine: str = "arrow"
    memory: Annotated[ByteSize | Literal["auto"], BeforeValidator(parse_memory)] = "auto"
    threads: Annotated[Annotated[int, Field(ge=1)] | Literal["auto"], BeforeValidator(parse_count)] = "auto"
    target: str = "./out"
    stages: Annotated[Names, Field(min_length=1)] = STAGES
    buckets: BucketSettings = BucketSettings()
    size: SizeSettings = SizeSettings()
    split: SplitSettings = SplitSettings()
    quality: QualitySettings = QualitySettings()
    catalog: CatalogSettings = CatalogSettings()
    ctas: CtasSettings = CtasSettings()
    aws: AwsSettings = AwsSettings()
    storage: StorageSettings = StorageSettings()
    lease: LeaseSettings = LeaseSettings()
    athena: AthenaSettings = AthenaSettings()
    trino: TrinoSettings = TrinoSettings()
    glue: GlueJobSettings = GlueJobSettings()
    emr_serverless: EmrServerlessSettings = EmrServerlessSettings()
    deploy: DeploySettings = DeploySettings()
    monitoring: MonitoringSettings = MonitoringSettings()
    cost: CostSettings = CostSettings()
    datasets: Mapping[str, DatasetSettings] = {}

    @model_validator(mode="after")
    def _engine_sees_catalog(self) -> Settings:
        method, kind = self.ctas.method, self.catalog.kind
        if method == "athena" and kind != "glue":
            raise ValueError(
                f"ctas.method is athena, catalog.kind {kind}; Athena copies tables of Glue: set catalog.kind=glue"
            )
        if method != PROMOTE and kind == "duckdb":
            raise ValueError(
                f"ctas.method is {method}, catalog.kind duckdb, which no SQL engine shares; set catalog.kind=glue"
            )
        return self
