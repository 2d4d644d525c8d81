"""Split: resolve the mapping to tables with standard column names."""

from __future__ import annotations

import csv
import hashlib
import io
import math
import re
from collections.abc import Iterator, Sequence

from bucketwheel.catalogs.definitions import DATASET
from bucketwheel.catalogs.field_names import field_problem
from bucketwheel.catalogs.hive_types import hive_type
from bucketwheel.catalogs.routed import member_class
from bucketwheel.catalogs.spark_table import unreadable_field
from bucketwheel.contracts import Catalog, Services
from bucketwheel.errors import (
    BucketwheelError,
    MappingError,
    MissingDependencyError,
    SchemaError,
    SelectionError,
    StorageError,
    correction,
    did_you_mean,
)
from bucketwheel.formatting import counted, shortened
from bucketwheel.kernel.layout import standard_name
from bucketwheel.runs.manifest import ColumnMapping, DiscoverResult, Manifest, SplitResult, TableColumns
from bucketwheel.safe_text import one_line
from bucketwheel.settings import Settings, SplitSettings
from bucketwheel.settings.layouts import resolved_layouts, table_prefixes
from bucketwheel.stages.iceberg_checks import check_columns, check_null_keys, existing_tables, iceberg_layouts
from bucketwheel.storage import Storage

# Header names of a mapping: any letter case, either order, optionally with a prefix.
_HEADER = ("table", "column")
_SHOWN = 20


class Split:
    """Assigns source columns to tables and names them."""

    name = "split"
    requires = ("discover",)

    def run(self, manifest: Manifest, services: Services) -> SplitResult:
        """See `contracts.Stage.run`.

        Raises:
            MappingError: rows of the mapping do not fit the snapshot; the message lists them. Or two tables would be
                published under one name.
            SchemaError: two columns of a table have the same name, or the catalog does not support a type or name.
            SelectionError: the table filter matches nothing.
            QualityError: the snapshot has NULL keys, which the configuration refuses in Iceberg tables.
            CatalogError: the catalog of Iceberg tables cannot be read.
        """
        discovered = manifest.discover
        names = [column.name for column in discovered.columns]
        keys = _named("key", discovered.keys, ()).columns
        warnings: list[str] = []
        if services.source.mapping is None:
            values = [name for name in names if name not in discovered.keys]
            tables, digest = {_table_name(services.dataset): values}, None
        else:
            content = read_mapping(services.storage, services.source.mapping)
            digest = hashlib.sha256(content).hexdigest()
            tables = _resolve(services.source.mapping, content, names, discovered.keys, warnings)
        used = {column for columns in tables.values() for column in columns}
        unmapped = tuple(name for name in names if name not in used and name not in discovered.keys)
        if unmapped:
            warnings.append(
                f"{len(unmapped)} source {_are(unmapped)} not in the mapping: {shortened(unmapped, _SHOWN)}"
            )
        whole = [_named(table, columns, keys) for table, columns in tables.items()]
        narrow = [part for table in whole for part in _within_limit(table, services.settings.split)]
        chosen = _filtered(narrow, services)
        _check_published_names(narrow, services.settings)
        # Check now: publishing would fail only after all of the work.
        warnings += _check_catalog(services, keys, chosen, discovered)
        check_null_keys(discovered, services.settings)
        existing = existing_tables(services, keys, chosen, discovered.schema())
        return SplitResult(
            keys=keys,
            tables=chosen,
            unmapped=unmapped,
            mapping_sha256=digest,
            warnings=(*warnings, *existing.warnings),
            field_ids=existing.field_ids,
            bucket_counts=existing.bucket_counts,
            replaced_columns=existing.replaced,
        )


def _check_published_names(tables: Sequence[TableColumns], settings: Settings) -> None:
    """Raise an error if the prefix of a layout or stage and a table name make the name of another table."""
    owners: dict[str, str] = {}
    for setting, prefix in table_prefixes(settings).items():
        for table in tables:
            # Catalogs do not distinguish names by letter case.
            name, owner = f"{prefix}{table.name}".lower(), f"{table.name!r} with {setting} {prefix!r}"
            if name in owners:
                raise MappingError(
                    f"tables {owners[name]} and {owner} would both be published as {name!r}; rename one in the "
                    "mapping, or change one of these prefixes"
                )
            owners[name] = owner


def _check_catalog(
    services: Services, keys: Sequence[ColumnMapping], tables: Sequence[TableColumns], discovered: DiscoverResult
) -> list[str]:
    """Raise an error if the catalog does not support a type or a name; return warnings about readers."""
    settings, schema = services.settings.catalog, discovered.schema()
    warnings: list[str] = []
    try:
        catalog: type[Catalog] | None = services.catalog_class()
    except MissingDependencyError:
        # A run that does not publish does not need the packages of the catalog; publishing checks the types again.
        catalog = None
    others = [layout for layout in resolved_layouts(services.settings) if layout.hash != "iceberg"]
    exact = catalog is not None and bool(others) and member_class(catalog, iceberg=False).typed
    _check_supported(discovered, (*keys, *(column for table in tables for column in table.columns)), bool(others))
    if iceberg_layouts(services.settings):
        check_columns(schema, (column.source for table in tables for column in (*keys, *table.columns)))
    for table in tables:
        if catalog and catalog.longest_name:
            _check_lengths(services.settings, catalog.longest_name, table, keys)
        for column in table.columns:
            kind = hive_type(schema.field(column.source).type, column.source, exact)
            if catalog and catalog.longest_type and len(kind) > catalog.longest_type:
                raise SchemaError(
                    f"{table.name}: the Hive type of column {column.source!r} has {len(kind)} characters, but "
                    f"catalog {settings.kind} accepts at most {catalog.longest_type}; leave it unmapped, or "
                    "ask the supplier of the snapshot for fewer nested fields"
                )
            if exact and (field := unreadable_field(schema.field(column.source).type)):
                warnings.append(
                    f"{table.name}: column {column.source!r} has a nested field {field!r}, so Spark (Glue, EMR, "
                    "Clean Rooms) rejects the whole table; use letters a to z, digits and _, or leave it unmapped"
                )
    return warnings


def _check_supported(discovered: DiscoverResult, columns: Sequence[ColumnMapping], hive: bool) -> None:
    """Raise an error for all columns that cannot be written, or with names that readers reject."""
    known, schema = discovered.unsupported, discovered.schema()
    each = dict.fromkeys(column.source for column in columns)
    found = (known.get(name) or field_problem(schema.field(name).type, name, hive) for name in each)
    problems = [problem for problem in found if problem]
    if problems:
        more = f"\nand {len(problems) - _SHOWN} more" if len(problems) > _SHOWN else ""
        raise SchemaError("\n".join(problems[:_SHOWN]) + more)


def _check_lengths(settings: Settings, longest: int, table: TableColumns, keys: Sequence[ColumnMapping]) -> None:
    kind = settings.catalog.kind
    for setting, prefix in table_prefixes(settings).items():
        name = f"{prefix}{table.name}"
        if len(name) > longest:
            raise MappingError(
                f"the name of table {table.name!r} has {len(name)} characters with {setting}, but catalog "
                f"{kind} accepts at most {longest}; shorten the name in the mapping, or that setting"
            )
    for column in (*keys, *table.columns):
        if len(column.name) > longest:
            raise SchemaError(
                f"{table.name}: the name of column {column.source!r} has {len(column.name)} characters, but "
                f"catalog {kind} accepts at most {longest}; leave it unmapped, or "
                "ask the supplier of the snapshot for a shorter name"
            )


def read_mapping(storage: Storage, location: str) -> bytes:
    """Return the content of the mapping file.

    Raises:
        MappingError: it cannot be read.
    """
    try:
        return storage.read(location)
    except StorageError as error:
        raise MappingError(f"mapping {error}; set datasets.<name>.mapping") from error


def mapped_tables(location: str, content: bytes) -> set[str]:
    """Return the names of the tables of a mapping.

    Raises:
        MappingError: it is not a mapping.
    """
    return {standard_name(table) for _, table, _ in _rows(location, content)}


def _rows(location: str, content: bytes) -> Iterator[tuple[int, str, str]]:
    """Yield (line, table, column) of every row that is not blank."""
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise MappingError(
            f"{one_line(location)}: is not UTF-8 text ({error.reason} at byte {error.start}); save it as UTF-8"
        ) from error
    lines = _filled_lines(location, text)
    _, header = next(lines, (0, []))
    if not header:
        raise MappingError(
            f"{one_line(location)}: is empty; write the line {','.join(_HEADER)}, then a line with table and column "
            "for each column"
        )
    table_at = _table_position(location, header)
    for line, cells in lines:
        if len(cells) != len(header) or not all(cells):
            raise MappingError(
                f"{one_line(location)}, line {line}: expected a table and a column, found {','.join(cells)!r}"
            )
        yield line, cells[table_at], cells[1 - table_at]


def _table_position(location: str, header: Sequence[str]) -> int:
    """Return the position of the tables in a mapping, 0 or 1, from its header."""
    names = [re.split(r"[^a-z]", name.lower())[-1] for name in header]
    if sorted(names) == sorted(_HEADER):
        return names.index(_HEADER[0])
    expected = ",".join(_HEADER)
    text = ",".join(header)
    for separator, word in ((";", "semicolons"), ("\t", "tabs"), ("|", "bars")):
        if len(header) == 1 and separator in header[0]:
            raise MappingError(
                f"{one_line(location)}: {word} separate the names of the header {text!r}; use commas: {expected}"
            )
    raise MappingError(
        f"{one_line(location)}: header {text!r}, expected {expected}; a mapping without a header needs {expected} as "
        "first line"
    )


def _filled_lines(location: str, text: str) -> Iterator[tuple[int, list[str]]]:
    reader = csv.reader(io.StringIO(text, newline=""))
    try:
        for row in reader:
            cells = [cell.strip() for cell in row]
            if any(cells):
                yield reader.line_num, cells
    except csv.Error as error:
        raise MappingError(f"{one_line(location)}, line {reader.line_num}: is not CSV: {error}") from error


def _resolve(
    location: str, content: bytes, names: Sequence[str], keys: Sequence[str], warnings: list[str]
) -> dict[str, list[str]]:
    by_lower: dict[str, list[str]] = {}
    for name in names:
        by_lower.setdefault(name.lower(), []).append(name)
    known = frozenset(names)
    # Sets of columns, in the order of the mapping.
    tables: dict[str, dict[str, None]] = {}
    spelled: dict[str, str] = {}
    problems: list[str] = []
    for line, table, column in _rows(location, content):
        row = f"line {line}"
        name = standard_name(table)
        if not name:
            problems.append(f"{row}: table {table!r} needs a letter or digit in its name")
            continue
        if spelled.setdefault(name, table) != table:
            problems.append(f"{row}: tables {spelled[name]!r} and {table!r} are both called {name!r}")
            continue
        matches = [column] if column in known else by_lower.get(column.lower(), [])
        columns = tables.setdefault(name, {})
        if len(matches) != 1:
            # Looking for similar names takes long.
            problems.append(f"{row}: {_unknown(column, matches, names)}" if len(problems) < _SHOWN else row)
        elif matches[0] in keys:
            warnings.append(f"mapping {row}: {column!r} is the key, which every table has; the row is ignored")
        elif matches[0] in columns:
            problems.append(f"{row}: {column!r} is mapped to {table!r} twice")
        else:
            columns[matches[0]] = None
    problems += [f"table {spelled[name]!r} has no columns besides the key" for name in tables if not tables[name]]
    if problems or not tables:
        listed = "\n".join(problems[:_SHOWN]) or "no rows"
        more = f"\nand {len(problems) - _SHOWN} more" if len(problems) > _SHOWN else ""
        raise MappingError(
            f"{one_line(location)} does not match the snapshot:\n{listed}{more}\nCorrect the mapping file"
        )
    return {name: list(columns) for name, columns in tables.items()}


def _unknown(column: str, matches: Sequence[str], names: Sequence[str]) -> str:
    if matches:
        return f"{column!r} matches {' and '.join(map(repr, matches))}; write it as one of them"
    hint = did_you_mean(column, names).rstrip()
    return f"no column {column!r} in the snapshot" + (f"; {hint}" if hint else "")


def _table_name(dataset: str) -> str:
    name = standard_name(dataset)
    if not name:
        raise SelectionError(
            f"dataset {dataset!r} needs a letter or digit in its name, because its table is named after it"
        )
    return name


def _named(table: str, columns: Sequence[str], keys: Sequence[ColumnMapping]) -> TableColumns:
    taken = {key.name: key.source for key in keys}
    mapped = []
    for source in columns:
        name = standard_name(source)
        if not name:
            raise SchemaError(
                f"{table}: column {source!r} needs a letter or digit in its name (a to z, 0 to 9); leave it out with "
                "a mapping (datasets.NAME.mapping), or ask the supplier of the snapshot to rename it"
            )
        if name in taken:
            raise SchemaError(
                f"{table}: columns {taken[name]!r} and {source!r} would both be called {name!r}; remove one "
                "of them from the mapping (datasets.NAME.mapping), or ask the supplier of the snapshot to rename one"
            )
        taken[name] = source
        mapped.append(ColumnMapping(source=source, name=name))
    return TableColumns(name=table, columns=tuple(mapped))


def _within_limit(table: TableColumns, settings: SplitSettings) -> list[TableColumns]:
    count, limit = len(table.columns), settings.limit
    if limit is None or count <= limit or settings.columns_over_limit == "allow":
        return [table]
    if settings.columns_over_limit == "error":
        raise MappingError(
            f"table {table.name!r} has {counted(count, 'column')}, split.column_limit is {limit}; map some to "
            "another table, or set split.columns_over_limit=parts to split the table, or =allow to keep it",
            accept={"split.columns_over_limit": "parts"},
        )
    # Parts of even width: 101 columns become 51 and 50, not 100 and 1.
    parts = math.ceil(count / limit)
    cuts = [round(count * part / parts) for part in range(parts + 1)]
    return [
        TableColumns(name=f"{table.name}_part_{part + 1}", columns=table.columns[cuts[part] : cuts[part + 1]])
        for part in range(parts)
    ]


def _filtered(tables: Sequence[TableColumns], services: Services) -> tuple[TableColumns, ...]:
    known = [table.name for table in tables]
    _check_unique(known)
    selected = services.tables_filter
    if not selected:
        return tuple(tables)
    names = [standard_name(name) for name in selected]
    for given, name in zip(selected, names, strict=True):
        if name not in known:
            raise _unknown_table(given, name, known, services)
    return tuple(table for table in tables if table.name in names)


def _unknown_table(given: str, name: str, known: Sequence[str], services: Services) -> SelectionError:
    if _is_published(name, services):
        # Do not suggest a similar name: running that table would not update this one.
        return SelectionError(
            f"table filter: table {given!r} is published, but no longer in the mapping; add its columns to the "
            f"mapping, or remove it from --tables-filter; known: {', '.join(known)}",
            fix="Fix the mapping or --tables-filter",
        )
    return SelectionError(
        f"table filter: no table {given!r}; {did_you_mean(name, known)}known: {', '.join(known)}",
        instead=correction(given, name, known),
        fix="Fix --tables-filter",
    )


def _is_published(name: str, services: Services) -> bool:
    """Return whether a run of this dataset published the table; False if the catalog cannot be read."""
    names = {f"{prefix}{name}".lower() for prefix in table_prefixes(services.settings).values()}
    try:
        tables = services.catalog().tables()
    except BucketwheelError:
        return False
    return any(table.name.lower() in names and table.parameters.get(DATASET) == services.dataset for table in tables)


def _check_unique(names: Sequence[str]) -> None:
    repeated: BucketwheelError | None = None
    for name in names:
        if names.count(name) > 1:
            repeated = MappingError(f"two tables are called {name!r}; rename one in the mapping")
    if repeated:
        raise repeated


def _are(names: Sequence[str]) -> str:
    return "column is" if len(names) == 1 else "columns are"
