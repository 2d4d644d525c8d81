"""Read and write the metadata files of Iceberg tables through `Storage`, and connect to Iceberg catalogs.

PyIceberg has file access of its own. This one has the endpoint, credentials, time-outs, retries and encryption of the
settings `storage`, creates files on S3 only if they do not exist yet, and works with every supported pyarrow.
"""

from __future__ import annotations

import io
from collections.abc import Mapping
from typing import Any, Self, cast

from pyiceberg.catalog import Catalog
from pyiceberg.catalog.rest import RestCatalog
from pyiceberg.catalog.sql import SqlCatalog
from pyiceberg.io import FileIO, InputFile, InputStream, OutputFile, OutputStream
from requests import Session
from requests.adapters import HTTPAdapter
from sqlalchemy.exc import SQLAlchemyError
from urllib3.exceptions import ReadTimeoutError
from urllib3.util import Retry

from bucketwheel.catalogs.iceberg_database import CATALOG_NAME, sql_uri, sqlite_path
from bucketwheel.errors import ConfigError, MissingDependencyError, StorageError
from bucketwheel.optional import aws_module
from bucketwheel.settings import Settings, StorageSettings
from bucketwheel.storage import Storage

# Property of PyIceberg's catalogs with the settings `storage` in JSON.
_STORAGE = "bucketwheel.storage"
_LOCK_SECONDS = 60
# Packages of SQLAlchemy's drivers, where they differ from the names of their modules.
_DRIVERS = {"MySQLdb": "mysqlclient", "psycopg": "'psycopg[binary]'", "psycopg2": "psycopg2-binary"}
_TEMPORARY = (429, 502, 503, 504)


class StorageIO(FileIO):
    """PyIceberg's interface to files, on `Storage`."""

    def __init__(self, properties: Mapping[str, Any]) -> None:
        super().__init__(dict(properties))
        self._storage = Storage(StorageSettings.model_validate_json(properties[_STORAGE]))

    def new_input(self, location: str) -> InputFile:
        """Return a file to read."""
        return _File(self._storage, location)

    def new_output(self, location: str) -> OutputFile:
        """Return a file to write."""
        return _File(self._storage, location)

    def delete(self, location: str | InputFile | OutputFile) -> None:
        """Delete one file; a missing one is no error."""
        self._storage.delete(location if isinstance(location, str) else location.location)


class _File(InputFile, OutputFile):
    """A file to read or write; it is read and written as a whole."""

    def __init__(self, storage: Storage, location: str) -> None:
        super().__init__(location)
        self._storage = storage
        self._bytes: int | None = None

    def __len__(self) -> int:
        if self._bytes is None:
            self._bytes = len(self._read())
        return self._bytes

    def exists(self) -> bool:
        """Return whether the file exists."""
        return self._storage.exists(self.location)

    def open(self, seekable: bool = True) -> InputStream:
        """Return the content; raises FileNotFoundError or StorageError."""
        return cast(InputStream, io.BytesIO(self._read()))

    def to_input_file(self) -> InputFile:
        """Return the same file to read."""
        return self

    def create(self, overwrite: bool = False) -> OutputStream:
        """Return a stream whose content becomes the file when it is closed.

        PyIceberg allows itself to overwrite manifests. Their names are unique, and jobs may only create files.
        """
        return cast(OutputStream, _Content(self))

    def finish(self, content: bytes) -> None:
        """Create the file."""
        self._storage.replace(self.location, content, None)
        self._bytes = len(content)

    def _read(self) -> bytes:
        try:
            return self._storage.read(self.location)
        except StorageError as error:
            if isinstance(error.__cause__, FileNotFoundError):
                raise FileNotFoundError(self.location) from error
            raise


class _Content(io.BytesIO):
    """The content of a new file; an exception in its `with` block leaves no file."""

    def __init__(self, file: _File) -> None:
        super().__init__()
        self._file = file

    def close(self) -> None:
        """Write the file."""
        if not self.closed:
            content = self.getvalue()
            super().close()
            self._file.finish(content)

    def __exit__(self, kind: Any, *rest: object) -> None:
        if kind is None:
            self.close()
        else:
            super().close()

    def __del__(self) -> None:
        # The inherited method would write an abandoned file.
        super().close()


class _OwnFiles(Catalog):
    """Reads files only through `StorageIO`, whatever properties a table has: they may name any Python class."""

    def _load_file_io(self, properties: Mapping[str, Any] = {}, location: str | None = None) -> FileIO:
        return StorageIO(self.properties)


class _Sql(_OwnFiles, SqlCatalog):
    """A catalog in a SQL database."""


class _Rest(_OwnFiles, RestCatalog):
    """A catalog behind Iceberg's REST interface; PyIceberg's own requests have no time-out."""

    def _create_session(self) -> Session:
        session = super()._create_session()
        adapter = _Adapter(self.properties["connect-seconds"], self.properties["read-seconds"])
        session.mount("http://", adapter)
        session.mount("https://", adapter)
        return session


class _Attempts(Retry):
    """Repeats a request after a lost connection or a temporary error, but not after it timed out.

    A server that tries for long to read damaged metadata would otherwise be waited for four times.
    """

    def increment(
        self,
        method: str | None = None,
        url: str | None = None,
        response: Any = None,
        error: Exception | None = None,
        _pool: Any = None,
        _stacktrace: Any = None,
    ) -> Self:
        """Return the remaining attempts; raise the error of the request if there are none."""
        if isinstance(error, ReadTimeoutError):
            raise error
        return super().increment(method, url, response, error, _pool, _stacktrace)


class _Adapter(HTTPAdapter):
    """Gives every request a time-out, and repeats those that only read."""

    def __init__(self, connect: str, read: str) -> None:
        attempts = _Attempts(
            total=3,
            status_forcelist=_TEMPORARY,
            allowed_methods=("GET", "HEAD"),
            backoff_factor=0.5,
            raise_on_status=False,
        )
        super().__init__(max_retries=attempts)
        self._timeout = (float(connect), float(read))

    def send(self, request: Any, *arguments: Any, **options: Any) -> Any:
        """Send a request."""
        return super().send(request, *arguments, **{**options, "timeout": options.get("timeout") or self._timeout})


def connect(settings: Settings) -> Catalog:
    """Return PyIceberg's catalog of the settings `iceberg`.

    Raises:
        ConfigError: the settings lack a value.
        MissingDependencyError: the driver of the database is not installed.
        Exception: the catalog cannot be reached; PyIceberg raises what its libraries raise.
    """
    given, storage = settings.iceberg, Storage.of(settings)
    properties = {
        **given.properties,
        "py-io-impl": f"{StorageIO.__module__}.{StorageIO.__name__}",
        _STORAGE: storage.settings.model_dump_json(),
    }
    if given.warehouse:
        properties["warehouse"] = given.warehouse
    if given.catalog == "rest":
        if not given.uri:
            raise ConfigError(
                "iceberg.uri is empty; set it to the address of the REST catalog, such as https://catalog.example.com"
            )
        seconds = {
            "connect-seconds": str(settings.aws.connect_seconds),
            "read-seconds": str(settings.aws.read_seconds),
        }
        return _Rest(CATALOG_NAME, **{**properties, **seconds, "uri": given.uri})
    if given.catalog == "glue":
        glue = aws_module("pyiceberg.catalog.glue", "iceberg.catalog=glue")
        client = aws_module("bucketwheel.aws.clients", "iceberg.catalog=glue").client("glue", settings.aws)
        return cast(Catalog, type("_Glue", (_OwnFiles, glue.GlueCatalog), {})(CATALOG_NAME, client, **properties))
    uri = sql_uri(settings)
    if path := sqlite_path(uri):
        storage.make_directory(path.rpartition("/")[0] or "/")
        uri += ("&" if "?" in uri else "?") + f"timeout={_LOCK_SECONDS}" if "timeout=" not in uri else ""
    try:
        return _Sql(CATALOG_NAME, **{**properties, "uri": uri})
    except ModuleNotFoundError as error:
        module = error.name or ""
        raise MissingDependencyError(
            f"iceberg.uri: databases {uri.partition(':')[0]!r} need the package {module!r}: "
            f"pip install {_DRIVERS.get(module, module)}"
        ) from error
    except SQLAlchemyError as error:
        if "already exists" not in str(error):
            raise
        # Another process created the tables of the catalog meanwhile.
        return _Sql(CATALOG_NAME, **{**properties, "uri": uri})
