"""Find tables that several datasets of a configuration would publish under one name."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from bucketwheel.contracts import Services
from bucketwheel.errors import BucketwheelError
from bucketwheel.formatting import counted, listed
from bucketwheel.kernel.layout import standard_name
from bucketwheel.runs.manifest import TableColumns
from bucketwheel.settings import DatasetSettings
from bucketwheel.stages.split import mapped_tables, read_mapping
from bucketwheel.storage import Storage

# Maximum number of tables in a message, and of datasets whose mappings are read.
_SHOWN, _MOST = 5, 10


def shared_tables(services: Services, tables: Sequence[TableColumns]) -> Iterator[str]:
    """Yield a message for each other dataset that has tables of the same names; prefixes are those of all datasets.

    A mapping that cannot be read is left out: it has an error of its own.
    """
    own = {table.name for table in tables}
    others = {name: given for name, given in services.settings.datasets.items() if name != services.dataset}
    for name, given in list(others.items())[:_MOST]:
        try:
            shared = sorted(own & _tables(services.storage, name, given))
        except BucketwheelError:
            continue
        if shared:
            yield (
                f"dataset {name!r} has {counted(len(shared), 'table')} of the same name: {listed(shared, _SHOWN)}; "
                "after one dataset is published, runs of the other are refused. Rename the "
                f"{'table' if len(shared) == 1 else 'tables'} in one of the mappings"
            )


def _tables(storage: Storage, dataset: str, given: DatasetSettings) -> set[str]:
    if given.mapping is None:
        return {standard_name(dataset)}
    return mapped_tables(given.mapping, read_mapping(storage, given.mapping))
