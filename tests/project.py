"""A project of a user: configuration, input, target and catalog, and the command line."""

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
from workspace import Workspace, view_names

WIDE = "infobase_attributes"
NARROW = "addressable_ids"
DATABASE = "omc_flywheel_test"
APP = Path(bucketwheel.__file__).parents[1]


@dataclass(frozen=True)
class Result:
    exit_code: int
    stdout: str
    stderr: str


class Project(Workspace):
    """A workspace with a configuration in YAML; its input is a sample elsewhere."""

    def __init__(self, root: Path, sample: Sample) -> None:
        super().__init__(root, DATABASE, WIDE)
        self.conf = root / "conf"
        self.settings: dict[str, Any] = {**self.base_settings(buckets=4), "datasets": {WIDE: {}, NARROW: {}}}
        self.use(sample)

    def use(self, sample: Sample) -> None:
        """Use this sample as the input from now on."""
        common = {"key": "Customer_User_id", "complete_marker": "_SUCCESS"}
        self.set(
            datasets={
                WIDE: {**common, "source": str(sample.source), "mapping": str(sample.mapping)},
                NARROW: {**common, "source": str(sample.addressable_source)},
            }
        )

    def set(self, **changes: Any) -> None:
        """Change top-level settings in base.yaml; a mapping is merged into the current one."""
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
        """Run a command in this process, with `--conf` added."""
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
        """Return a command for another process; it needs the variables of `environment`."""
        return [sys.executable, "-m", "bucketwheel", *self._with_conf(arguments)]

    def process(self, *arguments: str, prefix: Sequence[str] = ()) -> Result:
        """Run a command in a new process, where warnings are errors unless it uses Spark."""
        strict = {} if "spark" in arguments else {"PYTHONWARNINGS": "error"}
        process = subprocess.run(
            [*prefix, *self.command(*arguments)],
            capture_output=True,
            text=True,
            env=environment(**strict),
            cwd=self.root,
            timeout=120,
            check=False,
        )
        return Result(process.returncode, process.stdout, process.stderr)

    def _with_conf(self, arguments: Sequence[str]) -> list[str]:
        if (
            not arguments
            or arguments[0] in ("sample", "completion", "--version")
            or {"-h", "--help", "--conf"} & set(arguments)
        ):
            return list(arguments)
        return [*arguments, "--conf", str(self.conf)]

    def content(self) -> dict[str, tuple[int, int]]:
        """Return the number of rows and a checksum of their values for every table in the catalog."""
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
        """Return the number of rows of every table in the catalog."""
        return {name: rows for name, (rows, _) in self.content().items()}

    def columns(self, table: str) -> list[str]:
        """Return the column names of a table in the catalog."""
        with duckdb.connect(str(self.catalog), read_only=True) as connection:
            return [row[0] for row in connection.execute(f'DESCRIBE "{DATABASE}"."{table}"').fetchall()]


def environment(**more: str) -> Mapping[str, str]:
    """Return the environment of a process that runs this source tree and the test helpers."""
    path = os.pathsep.join([str(APP), str(Path(__file__).parent)])
    return {**os.environ, "PYTHONPATH": path, **more}
