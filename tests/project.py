"""A project as a user has one: configuration, input, target and catalog, and the command line to work on them."""

from __future__ import annotations

import io
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import duckdb
import yaml

import bucketwheel
from bucketwheel import api, cli
from bucketwheel.sample import Sample

WIDE = "infobase_attributes"
NARROW = "addressable_ids"
DATABASE = "omc_flywheel_test"
APP = Path(bucketwheel.__file__).parents[1]


@dataclass(frozen=True)
class Result:
    exit_code: int
    stdout: str
    stderr: str


class Project:
    """Everything below one directory; the input is wherever the sample lies."""

    def __init__(self, root: Path, sample: Sample) -> None:
        self.root = root
        self.conf = root / "conf"
        self.target = root / "out"
        self.catalog = root / "catalog.duckdb"
        self.settings: dict[str, Any] = {
            "threads": 2,
            "target": str(self.target),
            "buckets": {"count": 4},
            "catalog": {"path": str(self.catalog), "database": DATABASE},
            "datasets": {WIDE: {}, NARROW: {}},
        }
        self.use(sample)

    def use(self, sample: Sample) -> None:
        """Take this sample as the input from now on."""
        common = {"key": "Customer_User_id", "complete_marker": "_SUCCESS"}
        self.set(
            datasets={
                WIDE: {**common, "source": str(sample.source), "mapping": str(sample.mapping)},
                NARROW: {**common, "source": str(sample.addressable_source)},
            }
        )

    def set(self, **changes: Any) -> None:
        """Change top-level settings in base.yaml; a mapping changes the settings that it names."""
        for name, value in changes.items():
            old = self.settings.get(name)
            self.settings[name] = {**old, **value} if isinstance(old, dict) else value
        self.conf.mkdir(parents=True, exist_ok=True)
        (self.conf / "base.yaml").write_text(yaml.safe_dump(self.settings), encoding="utf-8")
        (self.conf / "local.yaml").touch()

    def configuration(self, **overrides: Any) -> api.Configuration:
        named = {name.replace("__", "."): value for name, value in overrides.items()}
        return api.load("local", self.conf, named, environ={})

    def cli(self, *arguments: str) -> Result:
        """Run the command line in this process; `--conf` is added."""
        out, err = io.StringIO(), io.StringIO()
        code = 0
        with redirect_stdout(out), redirect_stderr(err):
            try:
                cli.main(self._with_conf(arguments))
            except SystemExit as ended:
                code = int(ended.code or 0)
        return Result(code, out.getvalue(), err.getvalue())

    def run(self, *arguments: str) -> Result:
        """Run the wide dataset and expect it to succeed."""
        result = self.cli("run", WIDE, *arguments)
        assert result.exit_code == 0, result.stderr
        return result

    def command(self, *arguments: str) -> list[str]:
        """The command line for another process; see `environment`."""
        return [sys.executable, "-m", "bucketwheel", *self._with_conf(arguments)]

    def process(self, *arguments: str, prefix: Sequence[str] = ()) -> Result:
        """Run the command line in a process of its own; warnings are errors for it too, but for Spark's."""
        strict = {} if "spark" in arguments else {"PYTHONWARNINGS": "error"}
        done = subprocess.run(
            [*prefix, *self.command(*arguments)],
            capture_output=True,
            text=True,
            env=environment(**strict),
            cwd=self.root,
            timeout=120,
            check=False,
        )
        return Result(done.returncode, done.stdout, done.stderr)

    def _with_conf(self, arguments: Sequence[str]) -> list[str]:
        if not arguments or arguments[0] in ("sample", "--version") or {"--help", "--conf"} & set(arguments):
            return list(arguments)
        return [*arguments, "--conf", str(self.conf)]

    def content(self) -> dict[str, tuple[int, int]]:
        """Rows and a checksum of their values for every table that the catalog shows."""
        if not self.catalog.exists():
            return {}
        with duckdb.connect(str(self.catalog), read_only=True) as connection:
            return {
                name: connection.execute(
                    f'SELECT count(*), bit_xor(hash(people)) FROM "{DATABASE}"."{name}" AS people'
                ).fetchall()[0]
                for name in view_names(connection, DATABASE)
            }

    def published(self) -> dict[str, int]:
        """Rows of every table that the catalog shows."""
        return {name: rows for name, (rows, _) in self.content().items()}

    def columns(self, table: str) -> list[str]:
        """Names of the columns of a table that the catalog shows."""
        with duckdb.connect(str(self.catalog), read_only=True) as connection:
            return [row[0] for row in connection.execute(f'DESCRIBE "{DATABASE}"."{table}"').fetchall()]

    def snapshot_dt(self, dataset: str = WIDE) -> str:
        """The snapshot date noted for other jobs."""
        return (self.target / dataset / "metadata" / "snapshot_dt.txt").read_text()

    def run_ids(self, dataset: str = WIDE) -> list[str]:
        """Ids of the runs that have a manifest, oldest first."""
        found = (self.target / "_bucketwheel" / dataset / "runs").glob("*/manifest.json")
        return sorted((path.parent.name for path in found), key=lambda name: name[11:])

    def files(self) -> dict[str, tuple[int, int]]:
        """Size and time of change of everything below the root."""
        found = {path: path.stat() for path in sorted(self.root.rglob("*"))}
        return {str(path.relative_to(self.root)): (stat.st_size, stat.st_mtime_ns) for path, stat in found.items()}


def view_names(connection: duckdb.DuckDBPyConnection, database: str) -> list[str]:
    """Return the sorted names of the views in a database of a DuckDB catalog."""
    rows = connection.execute("SELECT view_name FROM duckdb_views() WHERE schema_name = ?", [database])
    return sorted(name for (name,) in rows.fetchall())


def environment(**more: str) -> Mapping[str, str]:
    """The environment of a process that runs this source tree and the helpers of these tests."""
    path = os.pathsep.join([str(APP), str(Path(__file__).parent)])
    return {**os.environ, "PYTHONPATH": path, **more}
