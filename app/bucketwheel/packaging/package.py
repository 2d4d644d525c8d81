"""Packs what the platforms take: wheel, script, configuration, environment; the same input gives the same bytes."""

from __future__ import annotations

import hashlib
import json
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import yaml

import bucketwheel
from bucketwheel.errors import ConfigError, UsageError
from bucketwheel.packaging.archive import ARCHIVE, SCRIPT, build_archive, normalise
from bucketwheel.packaging.wheel import build_wheel
from bucketwheel.settings.loading import Configuration, flatten
from bucketwheel.settings.secrets import secrets_in
from bucketwheel.storage import Storage, join, translated
from bucketwheel.storage.locations import s3_location

CONTENTS = "package.json"
# With the place of the package in it, which follows from its content, no package could hold its own configuration.
_NOT_FOR_JOBS = {"deploy"}
# These are for the stack; jobs read only some of them.
_OF_THE_STACK = ("emr_serverless.", "glue.", "monitoring.")
_READ = {
    "emr_serverless.price_gb",
    "emr_serverless.price_vcpu",
    "glue.price",
    "monitoring.metrics",
    "monitoring.namespace",
    "monitoring.topic_arn",
}
_CHUNK = 2**20


@dataclass(frozen=True)
class PackedFile:
    """A file of the package; `name` is its path below it."""

    name: str
    bytes: int
    sha256: str


@dataclass(frozen=True)
class Package:
    """What was packed; `digest` is a SHA-256 over names and contents, `location` where it was uploaded."""

    directory: Path
    version: str
    env: str
    digest: str
    files: tuple[PackedFile, ...]
    location: str | None = None


def job_configuration(config: Configuration) -> bytes:
    """Return the one file that jobs read: every setting as it is now, wherever it came from.

    Raises:
        ConfigError: a setting looks like a secret; names it, not its value.
    """
    values = config.settings.model_dump(mode="json", exclude=_NOT_FOR_JOBS)
    if problems := [f"{name}: {what}" for name, what in secrets_in(values)]:
        raise ConfigError("\n".join(problems))
    text = yaml.safe_dump(values, sort_keys=True, allow_unicode=True)
    return f"# Made by `bucketwheel package --env {config.env}`; every setting as it was then.\n{text}".encode()


def package(
    config: Configuration,
    to: Path | str = "build/package",
    source: Path | str | None = None,
    archive: Path | str | None = None,
    without_archive: bool = False,
) -> Package:
    """Write the package to the directory `to`.

    Args:
        config: what the jobs will be configured with.
        to: a directory that is new, empty or holds an earlier package, which this one replaces.
        source: a checkout; None takes the one that this code is from.
        archive: the environment as .tar.gz; None builds it with Docker.
        without_archive: leave it out, for an image on EMR Serverless.

    Raises:
        UsageError: no checkout, no Docker, or an archive that does not fit; see `archive.normalise`.
        ConfigError: see `job_configuration`.
    """
    checkout = Path(source) if source else Path(bucketwheel.__file__).parents[2]
    configuration, directory = job_configuration(config), Path(to)
    script = checkout / "app" / SCRIPT
    if not script.is_file():
        raise UsageError(f"{script} does not exist; run this in a checkout of Bucketwheel, or name it: --source DIR")
    with _replaced(directory) as made:
        (made / "conf").mkdir()
        (made / "conf" / f"{config.env}.yaml").write_bytes(configuration)
        shutil.copyfile(script, made / SCRIPT)
        build_wheel(checkout, made)
        if not without_archive:
            given = Path(archive) if archive else build_archive(checkout)
            normalise(given, made / ARCHIVE, checkout, config.settings.deploy.archive_limit)
        files = _contents(made)
        digest = hashlib.sha256("".join(f"{file.sha256}  {file.name}\n" for file in files).encode()).hexdigest()
        packed = Package(directory, bucketwheel.__version__, config.env, digest, files)
        (made / CONTENTS).write_text(json.dumps(_described(packed), indent=1) + "\n", encoding="utf-8")
    return packed


def upload(config: Configuration, packed: Package, to: str | None = None) -> Package:
    """Put a package below `to` under a name from its digest; what is there already is left as it is.

    Raises:
        ConfigError: `to` is no place on S3, nor is `deploy.artifacts`.
        StorageError: it cannot be written.
    """
    base = s3_location("--upload" if to else "deploy.artifacts", to or config.settings.deploy.artifacts).uri
    location = join(base, packed.digest[:16])
    storage = Storage.of(config.settings)
    there = {entry.location: entry.bytes for entry in storage.list(location, recursive=True)}
    # The list of contents comes last: with it the package is whole.
    for name, size in [*((file.name, file.bytes) for file in packed.files), (CONTENTS, None)]:
        destination = join(location, name)
        if size is None or there.get(destination) != size:
            _send(storage, packed.directory / name, destination, str(packed.directory))
    return Package(**{**vars(packed), "location": location})


def check_uploaded(config: Configuration, location: str) -> None:
    """Look whether a package is there and was made from the settings of now, as far as jobs read them.

    Raises:
        ConfigError: there is none, or it was made from other settings; names them.
    """
    storage = Storage.of(config.settings)
    advice = f"make one with: bucketwheel package --env {config.env} --upload"
    if not storage.exists(join(location, CONTENTS)):
        raise ConfigError(f"deploy.package is {location}, where no package is; {advice}")
    file = join(location, "conf", f"{config.env}.yaml")
    if not storage.exists(file):
        raise ConfigError(f"the package {location} was not made for env {config.env}; {advice}")
    packed, now = (_read_by_jobs(content) for content in (storage.read(file), job_configuration(config)))
    if changed := sorted(name for name in {*packed, *now} if packed.get(name) != now.get(name)):
        raise ConfigError(f"the package {location} was made with another value of {', '.join(changed)}; {advice}")


def _read_by_jobs(content: bytes) -> dict[str, Any]:
    values = dict(flatten(yaml.safe_load(content)))
    return {name: value for name, value in values.items() if name in _READ or not name.startswith(_OF_THE_STACK)}


def _described(packed: Package) -> dict[str, Any]:
    return {
        "version": packed.version,
        "env": packed.env,
        "digest": packed.digest,
        "files": [asdict(file) for file in packed.files],
    }


@contextmanager
def _replaced(directory: Path) -> Iterator[Path]:
    """Yield a directory that takes the place of `directory` if the block ends well; only a package is replaced.

    Raises:
        UsageError: something else is there.
        StorageError: it cannot be written.
    """
    if directory.exists() and any(directory.iterdir()) and not (directory / CONTENTS).is_file():
        raise UsageError(f"--to {directory}: holds something that is no package; name a new or an empty directory")
    with translated(str(directory), "write"):
        directory.parent.mkdir(parents=True, exist_ok=True)
        made = Path(tempfile.mkdtemp(prefix=f".{directory.name}-", dir=directory.parent))
        try:
            yield made
            made.chmod(0o755)
            shutil.rmtree(directory, ignore_errors=True)
            made.rename(directory)
        finally:
            shutil.rmtree(made, ignore_errors=True)


def _contents(directory: Path) -> tuple[PackedFile, ...]:
    paths = sorted(path for path in directory.rglob("*") if path.is_file())
    return tuple(
        PackedFile(path.relative_to(directory).as_posix(), path.stat().st_size, _sha256(path)) for path in paths
    )


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _send(storage: Storage, path: Path, destination: str, scratch: str) -> None:
    with path.open("rb") as file, storage.create(destination, scratch) as stream:
        while chunk := file.read(_CHUNK):
            stream.write(chunk)
