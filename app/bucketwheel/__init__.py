"""Wide monthly Parquet snapshots into narrow, Hive-bucketed, catalogued tables."""

import logging

__version__ = "0.3.0"

# Programs that use the Python interface add handlers; without them nothing is printed.
logging.getLogger(__name__).addHandler(logging.NullHandler())
