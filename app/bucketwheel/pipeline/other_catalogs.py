"""Find the catalogs, other than the configured one, that show runs of a dataset."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Sequence
from pathlib import Path
from typing import Any

from bucketwheel import plugins
from bucketwheel.catalogs.publish import catalog_address, configured_catalogs
from bucketwheel.contracts import CatalogTable, Services
from bucketwheel.errors import BucketwheelError, CatalogError
from bucketwheel.formatting import counted, listed
from bucketwheel.runs.publications import CatalogRecord, publications
from bucketwheel.runs.store import RunStore
from bucketwheel.settings import Settings
from bucketwheel.settings.layouts import catalog_kinds
from bucketwheel.system import system

_READERS = 8
# Maximum number of tables or runs that a message names.
_LISTED = 3


class OtherCatalogs:
    """The other catalogs in which the runs of a dataset were published.

    Args:
        services: the services of the command.
        forgotten: ids of catalogs to ignore.
    """

    def __init__(self, services: Services, forgotten: Collection[str] = ()) -> None:
        self._services = services
        self.forgotten = forgotten
        self._all: list[CatalogRecord] | None = None
        self._tables: dict[str, Sequence[CatalogTable] | BucketwheelError] = {}

    def of(self, run_id: str) -> list[CatalogRecord]:
        """Return the catalogs in which a run was published; for a run without a manifest, those of all runs.

        Raises:
            StorageError: a record cannot be read or is damaged.
        """
        own, runs, dataset = configured_catalogs(self._services), self._services.runs, self._services.dataset
        records = publications(runs, dataset, run_id) if runs.has_manifest(dataset, run_id) else self._of_all()
        others = [record for record in records if not any(map(record.matches, own))]
        return [record for record in others if record.id not in self.forgotten]

    def _of_all(self) -> list[CatalogRecord]:
        if self._all is None:
            runs, dataset = self._services.runs, self._services.dataset
            every = [each for run_id in runs.all_run_ids(dataset) for each in publications(runs, dataset, run_id)]
            self._all = list({record.id: record for record in every}.values())
        return self._all

    def showing(
        self, run_ids: Iterable[str], shown: Callable[[Iterable[CatalogTable]], set[str]]
    ) -> dict[str, CatalogRecord]:
        """Return the runs that another catalog shows, with that catalog; `shown` returns the run ids of tables.

        Raises:
            CatalogError: a catalog in which one of the runs was published cannot be read.
            StorageError: a record cannot be read or is damaged.
        """
        showing: dict[str, CatalogRecord] = {}
        unreadable: dict[str, tuple[CatalogRecord, list[str]]] = {}
        for run_id in run_ids:
            for record in self.of(run_id):
                tables = self._read(record)
                if isinstance(tables, BucketwheelError):
                    unreadable.setdefault(record.id, (record, []))[1].append(run_id)
                elif run_id in shown(tables):
                    showing[run_id] = record
        if unreadable:
            raise CatalogError("; ".join(self._refusal(record, ids) for record, ids in unreadable.values()))
        return showing

    def _read(self, record: CatalogRecord) -> Sequence[CatalogTable] | BucketwheelError:
        if record.id not in self._tables:
            try:
                own = configured_catalogs(self._services)
                self._tables[record.id] = _tables(self._services.settings, record, own)
            except BucketwheelError as error:
                self._tables[record.id] = error
        return self._tables[record.id]

    def _refusal(self, record: CatalogRecord, run_ids: Sequence[str]) -> str:
        more = f" and {counted(len(run_ids) - 1, 'other run')}" if len(run_ids) > 1 else ""
        return (
            f"{self._services.dataset}: not deleted: run {run_ids[0]}{more}, also published in {record.text}, which "
            f"cannot be read: {self._tables[record.id]}. Make that catalog readable, or if it no longer shows any "
            f"run, add --forget-catalog {record.id}"
        )


def left_behind(settings: Settings, runs: RunStore, dataset: str) -> list[str]:
    """Return a message for each catalog that shows tables of a dataset, but has no configured layout any more.

    These are the Iceberg catalog, if no layout has the hash `iceberg`, or the other one, if all have. Other catalogs
    may be those of other configurations.

    Raises:
        StorageError: a record of a catalog cannot be read or is damaged.
    """
    iceberg = {kind == "iceberg" for kind in catalog_kinds(settings)}
    with system().pool(_READERS) as pool:
        found = list(pool.map(lambda run_id: publications(runs, dataset, run_id), runs.all_run_ids(dataset)))
    records = {record.id: record for each in found for record in each}
    records = {key: record for key, record in records.items() if (record.kind == "iceberg") not in iceberg}
    texts = []
    for record in records.values():
        try:
            tables = [table for table in _tables(settings, record, ()) if table.dataset == dataset]
        except BucketwheelError as error:
            texts.append(
                f"{dataset}: runs were published in {record.text}, which is no longer configured and cannot be read: "
                f"{error}. Make it readable, or if it is gone, add --forget-catalog {record.id} to the next expire"
            )
            continue
        if tables:
            run_ids = sorted({table.run_id or "" for table in tables})
            texts.append(
                f"{dataset}: {record.text} is no longer configured, but {counted(len(tables), 'table')} in it still "
                f"{'shows' if len(tables) == 1 else 'show'} {listed(run_ids, _LISTED)}: "
                f"{listed([table.name for table in tables], _LISTED)}; no run updates them: configure the layout "
                "again, or remove them from that catalog"
            )
    return texts


def _tables(settings: Settings, record: CatalogRecord, own: Sequence[CatalogRecord]) -> Sequence[CatalogTable]:
    """Return the tables of a recorded catalog; `own` are the configured ones.

    Raises:
        BucketwheelError: it cannot be read, or the configuration leads to another one.
    """
    path, region = record.address.get("path"), record.address.get("region")
    if path and not Path(path).exists():
        raise CatalogError(f"{path} does not exist")
    aws = settings.aws.model_copy(update={"region": region}) if region else settings.aws
    chosen = settings.model_copy(update={**_database(settings, record), "aws": aws})
    catalog = plugins.catalog_of_kind(chosen, record.kind)
    tables = catalog.tables()
    # The same credentials lead to the same account, which an empty database does not tell.
    known = next((each.address for each in own if each.kind == record.kind), {})
    address = {**known, **{name: value for name, value in catalog_address(catalog).items() if value}}
    for name, value in record.address.items():
        if value and address.get(name) != value:
            raise CatalogError(f"this command reads {name} {address.get(name) or 'unknown'}")
    return tables


def _database(settings: Settings, record: CatalogRecord) -> dict[str, Any]:
    """Return the sections of the settings that lead to a recorded database."""
    address, path = record.address, record.address.get("path")
    if record.kind != "iceberg":
        update = {"kind": record.kind, "database": record.database, "path": path or settings.catalog.path}
        return {"catalog": settings.catalog.model_copy(update=update)}
    kind = "rest" if "warehouse" in address else "glue" if "region" in address else "sql"
    uri = f"sqlite:///{path}" if path else address.get("uri")
    iceberg: dict[str, str | None] = {"catalog": kind, "namespace": address.get("namespace") or record.database}
    # The recorded address of a SQL database lacks the password.
    if uri and not (kind == "sql" and settings.iceberg.catalog == "sql" and not path):
        iceberg["uri"] = uri
    if kind == "rest":
        iceberg["warehouse"] = address.get("warehouse") or None
    return {"iceberg": settings.iceberg.model_copy(update=iceberg)}
