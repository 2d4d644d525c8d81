"""Find the database of a SQL catalog of Iceberg tables; needs no PyIceberg."""

from __future__ import annotations

from bucketwheel.errors import ConfigError
from bucketwheel.settings import Settings
from bucketwheel.storage import Storage, is_s3, join

# Rows of a SQL catalog belong to the catalog of this name; clients have to use the same.
CATALOG_NAME = "bucketwheel"
_DATABASE = "iceberg.db"


def sql_uri(settings: Settings) -> str:
    """Return the SQLAlchemy URI of the SQL catalog; by default a SQLite file in the target directory.

    Raises:
        ConfigError: it is empty, and the target is on S3.
    """
    if settings.iceberg.uri:
        return settings.iceberg.uri
    if is_s3(settings.target):
        raise ConfigError(
            f"iceberg.uri is empty and target is {settings.target}; a SQL catalog needs a database, such as "
            "iceberg.uri=sqlite:////var/lib/bucketwheel/iceberg.db; or set iceberg.catalog=glue"
        )
    return f"sqlite:///{join(Storage.of(settings).absolute(settings.target), _DATABASE)}"


def sqlite_path(uri: str) -> str:
    """Return the path of the SQLite file that a SQLAlchemy URI names; an empty text for other databases."""
    scheme, _, rest = uri.partition(":///")
    return rest.partition("?")[0] if scheme.partition("+")[0] == "sqlite" else ""
