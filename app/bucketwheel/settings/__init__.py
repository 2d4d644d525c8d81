"""Settings: strict, frozen models, and the origin of each value."""

from bucketwheel.settings.deploy import (
    CostSettings,
    DeploySettings,
    EmrServerlessSettings,
    GlueJobSettings,
    MonitoringSettings,
)
from bucketwheel.settings.iceberg import IcebergSettings
from bucketwheel.settings.layouts import Layout, LayoutSettings, resolved_layouts
from bucketwheel.settings.models import (
    PROMOTE,
    STAGES,
    AthenaSettings,
    AwsSettings,
    BucketSettings,
    CatalogSettings,
    CtasSettings,
    DatasetSettings,
    LeaseSettings,
    Policy,
    QualitySettings,
    Settings,
    SizeSettings,
    SnapshotSettings,
    SplitSettings,
    StatisticsLevel,
    StorageSettings,
    TrinoSettings,
)
from bucketwheel.settings.types import TypeSettings

__all__ = [
    "AthenaSettings",
    "AwsSettings",
    "BucketSettings",
    "CatalogSettings",
    "CostSettings",
    "CtasSettings",
    "DatasetSettings",
    "DeploySettings",
    "EmrServerlessSettings",
    "GlueJobSettings",
    "IcebergSettings",
    "Layout",
    "LayoutSettings",
    "LeaseSettings",
    "MonitoringSettings",
    "PROMOTE",
    "Policy",
    "QualitySettings",
    "STAGES",
    "Settings",
    "SizeSettings",
    "SnapshotSettings",
    "SplitSettings",
    "StatisticsLevel",
    "StorageSettings",
    "TrinoSettings",
    "TypeSettings",
    "resolved_layouts",
]
