"""Wide monthly Parquet snapshots into narrow, Hive-bucketed, catalogued tables."""

__version__ = "0.2.0"
