"""The lower bound: read the same columns once and write one file per table, with the defaults of pyarrow."""

from __future__ import annotations

from contextlib import ExitStack

import pyarrow.parquet as pq

from .work import KEY, from_arguments


def main() -> None:
    work, out = from_arguments()
    writers: dict[str, pq.ParquetWriter] = {}
    with ExitStack() as stack:
        for path in work.files:
            file = pq.ParquetFile(path)
            for group in range(file.num_row_groups):
                content = file.read_row_group(group, columns=work.columns)
                for name, columns in work.tables.items():
                    table = content.select([KEY, *columns])
                    if name not in writers:
                        writer = pq.ParquetWriter(out / f"{name}.parquet", table.schema, compression="snappy")
                        writers[name] = stack.enter_context(writer)
                    writers[name].write_table(table)


if __name__ == "__main__":
    main()
