"""Settings of catalogs of Iceberg tables."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

from bucketwheel.settings.base import Frozen


class IcebergSettings(Frozen):
    """The catalog of tables with the hash `iceberg`.

    Attributes:
        catalog: `sql` is a SQL database, `rest` a server with Iceberg's REST interface, `glue` the AWS Glue Data
            Catalog (`catalog-iceberg.md`).
        uri: SQL: the database in SQLAlchemy's form; null takes `iceberg.db`, a SQLite file, in the local directory
            `target`. REST: the address of the server.
        warehouse: REST: the warehouse, if the server has several.
        namespace: Namespace of the tables; null takes `catalog.database`.
        properties: Further properties of PyIceberg's catalog, such as `rest.sigv4-enabled: "true"`.
        null_keys: Rows without a key: `error` refuses them; `partition` puts them into a partition of their own, on
            which bucketed joins of Trino can fail. `quality.null_keys` has to accept them, too.
    """

    catalog: Literal["sql", "rest", "glue"] = "sql"
    uri: str | None = None
    warehouse: str | None = None
    namespace: str | None = None
    properties: Mapping[str, str] = {}
    null_keys: Literal["error", "partition"] = "error"
