"""Interfaces between the pipeline and its stages, engines, catalogs and SQL executors. Read this first.

::

    cli, api  ->  pipeline  ->  Stage  ->  Engine       scatters and gathers the data
                                       ->  Catalog      publishes tables
                                       ->  SqlExecutor  has a SQL engine copy a table, with some `ctas.method`

A stage gets the manifest with the results of earlier stages and a `Services` record; it returns its own result. It
never calls another stage. `plugins.py` finds backends by name and imports them when they are chosen.
"""

from bucketwheel.contracts.catalog import (
    AddressedCatalog,
    AtomicCatalog,
    Catalog,
    CatalogTable,
    DataFile,
    FileMetrics,
    HistoryCatalog,
    IcebergDefinition,
    RepairableCatalog,
    StatisticsCatalog,
    TableChange,
    TableHistory,
    TableStatistics,
)
from bucketwheel.contracts.engine import (
    BucketCheck,
    BucketJob,
    Engine,
    EngineStatistics,
    OtherLayout,
    ReadKeys,
    Slice,
    TableLayout,
)
from bucketwheel.contracts.executor import SqlExecutor, Statement, TableCopy
from bucketwheel.contracts.stage import (
    Checkpoints,
    Fence,
    Observer,
    Progress,
    Report,
    Services,
    Stage,
    of_run,
)

__all__ = [
    "AddressedCatalog",
    "AtomicCatalog",
    "BucketCheck",
    "BucketJob",
    "Catalog",
    "CatalogTable",
    "Checkpoints",
    "DataFile",
    "Engine",
    "EngineStatistics",
    "Fence",
    "HistoryCatalog",
    "FileMetrics",
    "IcebergDefinition",
    "Observer",
    "OtherLayout",
    "Progress",
    "ReadKeys",
    "RepairableCatalog",
    "Report",
    "Services",
    "Slice",
    "SqlExecutor",
    "Stage",
    "Statement",
    "StatisticsCatalog",
    "TableChange",
    "TableCopy",
    "TableHistory",
    "TableLayout",
    "TableStatistics",
    "of_run",
]
