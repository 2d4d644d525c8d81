"""The layout `iceberg`: Iceberg tables of a SQL catalog in a SQLite file, and the settings of Spark to read them."""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping
from contextlib import closing
from pathlib import Path
from typing import Any

from integration.interop.maven import jar

# The catalog's name in its database, and the one that Spark knows it by.
CATALOG = "bucketwheel"
# The catalog's SQLite file in the directory of the layout.
DATABASE = "iceberg.db"
_VERSION = "1.12.0"
_RUNTIMES = {"3.5": "iceberg-spark-runtime-3.5_2.12", "4.1": "iceberg-spark-runtime-4.1_2.13"}
_SQLITE = "org.xerial:sqlite-jdbc:3.50.3.0"


def spark_settings(version: str, database: Path) -> dict[str, str]:
    """Return the settings of a session that reads and writes the tables; downloads the jars.

    Raises:
        NotInstalledError: Maven is missing, or a download failed.
    """
    jars = [jar(f"org.apache.iceberg:{_RUNTIMES[version]}:{_VERSION}"), jar(_SQLITE)]
    catalog = f"spark.sql.catalog.{CATALOG}"
    return {
        "spark.jars": ",".join(map(str, jars)),
        "spark.sql.extensions": "org.apache.iceberg.spark.extensions.IcebergSparkSessionExtensions",
        catalog: "org.apache.iceberg.spark.SparkCatalog",
        f"{catalog}.type": "jdbc",
        f"{catalog}.uri": f"jdbc:sqlite:{database}",
        f"{catalog}.warehouse": f"file://{database.parent}",
        f"{catalog}.jdbc.schema-version": "V1",
    }


def metadata_files(database: Path) -> dict[str, str]:
    """Return table → location of its metadata file, as the catalog has it."""
    with closing(sqlite3.connect(database)) as connection:
        rows = connection.execute("SELECT table_name, metadata_location FROM iceberg_tables").fetchall()
    return dict(rows)


def directory(metadata: str) -> Path:
    """Return the directory of a table."""
    return Path(metadata.removeprefix("file:").replace("//", "/")).parent.parent


def glue_tables(metadata: Mapping[str, str]) -> list[dict[str, Any]]:
    """Return the tables as the Glue catalog would have them."""
    return [
        {
            "Name": name,
            "TableType": "EXTERNAL_TABLE",
            "Parameters": {"table_type": "ICEBERG", "metadata_location": location},
            "StorageDescriptor": {"Location": f"file://{directory(location)}", "Columns": []},
        }
        for name, location in metadata.items()
    ]
