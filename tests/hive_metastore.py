"""A Hive metastore in the memory of a Spark session. Imports neither Bucketwheel nor what it needs, for any Spark."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

_DERBY = "jdbc:derby:memory:metastore;create=true"
# Settings of a session whose catalog is this metastore.
METASTORE_SETTINGS = {
    "spark.hadoop.javax.jdo.option.ConnectionURL": _DERBY,
    "spark.sql.catalogImplementation": "hive",
    # Otherwise it writes a file into the current directory.
    "spark.driver.extraJavaOptions": "-Dderby.stream.error.file=/dev/null",
    "spark.driver.bindAddress": "127.0.0.1",
    "spark.driver.host": "127.0.0.1",
    "spark.ui.enabled": "false",
}


class Metastore:
    """A client of the metastore, which knows nothing of Spark, as Glue's client for Hive does not."""

    def __init__(self, session: SparkSession) -> None:
        # Spark creates the tables of the metastore itself when it first asks it.
        session.sql("SHOW DATABASES").collect()
        assert session._jvm is not None
        self._java: Any = session._jvm.java
        hadoop: Any = session._jvm.org.apache.hadoop
        self._api = hadoop.hive.metastore.api
        conf = hadoop.hive.conf.HiveConf()
        conf.set("javax.jdo.option.ConnectionURL", _DERBY)
        self._client = hadoop.hive.metastore.HiveMetaStoreClient(conf)

    def create(self, database: str, given: dict[str, Any]) -> None:
        """Create a table from Glue's `TableInput`."""
        storage = given["StorageDescriptor"]
        serde = self._api.SerDeInfo()
        serde.setSerializationLib(storage["SerdeInfo"]["SerializationLibrary"])
        serde.setParameters(storage["SerdeInfo"]["Parameters"])
        descriptor = self._api.StorageDescriptor()
        descriptor.setCols(self._list(self._api.FieldSchema(c["Name"], c["Type"], None) for c in storage["Columns"]))
        descriptor.setLocation(storage["Location"])
        descriptor.setInputFormat(storage["InputFormat"])
        descriptor.setOutputFormat(storage["OutputFormat"])
        descriptor.setSerdeInfo(serde)
        descriptor.setNumBuckets(storage["NumberOfBuckets"])
        descriptor.setBucketCols(self._list(storage["BucketColumns"]))
        orders = (self._api.Order(column["Column"], column["SortOrder"]) for column in storage["SortColumns"])
        descriptor.setSortCols(self._list(orders))
        table = self._api.Table()
        table.setDbName(database)
        table.setTableName(given["Name"])
        table.setTableType(given["TableType"])
        table.setParameters(given["Parameters"])
        table.setSd(descriptor)
        self._client.createTable(table)

    def parameters(self, database: str, name: str) -> dict[str, str]:
        """Return the parameters of a table."""
        return dict(self._client.getTable(database, name).getParameters())

    def _list(self, values: Iterable[Any]) -> Any:
        # Thrift changes the lists that it gets; those of Python cannot be changed.
        items = self._java.util.ArrayList()
        for value in values:
            items.add(value)
        return items
