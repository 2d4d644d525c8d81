"""Build the package for the platforms: wheel, script, configuration, environment. Builds are reproducible."""

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
from bucketwheel.packaging.pip import installed_archive
from bucketwheel.packaging.target import Target
from bucketwheel.packaging.wheel import build_wheel
from bucketwheel.settings.documents import parse_yaml
from bucketwheel.settings.loading import Configuration, flatten
from bucketwheel.settings.secrets import secrets_in
from bucketwheel.storage import Storage, join, wrap_os_errors
from bucketwheel.storage.locations import s3_location

CONTENTS = "package.json"
# `deploy.package` follows from the package's content, so the package cannot contain it.
_NOT_FOR_JOBS = {"deploy"}
# Settings of the stack; jobs read only some of them.
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
    """A file of the package; `name` is its relative path."""

    name: str
    bytes: int
    sha256: str


@dataclass(frozen=True)
class Package:
    """A package; `digest` is the SHA-256 over names and contents, `location` where it was uploaded.

    Attributes:
        machine: machine of the Python environment, `x86_64` or `aarch64`; None without an environment.
    """

    directory: Path
    version: str
    env: str
    digest: str
    files: tuple[PackedFile, ...]
    location: str | None = None
    machine: str | None = None


def job_configuration(config: Configuration) -> bytes:
    """Return the configuration file for jobs: the current value of every setting, whatever its origin.

    Raises:
        ConfigError: a setting looks like a secret; names it, not its value.
    """
    values = config.settings.model_dump(mode="json", exclude=_NOT_FOR_JOBS)
    if problems := [f"{name}: {what}" for name, what in secrets_in(values)]:
        raise ConfigError("\n".join(problems))
    text = yaml.safe_dump(values, sort_keys=True, allow_unicode=True)
    header = f"# Written by `bucketwheel package --env {config.env}`: the values of all settings at that time.\n"
    return f"{header}{text}".encode()


def package(
    config: Configuration,
    to: Path | str = "build/package",
    source: Path | str | None = None,
    archive: Path | str | None = None,
    without_archive: bool = False,
    without_docker: bool = False,
) -> Package:
    """Write the package to the directory `to`.

    Args:
        config: the configuration for the jobs.
        to: a directory that is new, empty, or holds an earlier package, which is replaced.
        source: a checkout; if None, the one that this code runs from.
        archive: the Python environment as .tar.gz; None builds it with Docker.
        without_archive: leave the environment out, for a custom image on EMR Serverless.
        without_docker: build the environment with pip, from wheels of the platform.

    Raises:
        UsageError: no checkout, no Docker, no wheels, or an unusable archive; see `archive.normalise`.
        ConfigError: see `job_configuration`.
    """
    checkout = Path(source) if source else Path(bucketwheel.__file__).parents[2]
    configuration, directory = job_configuration(config), Path(to)
    target, limit = Target.of(config.settings), config.settings.deploy.archive_limit
    script = checkout / "app" / SCRIPT
    if not script.is_file():
        raise UsageError(f"{script} does not exist; run this in a checkout of Bucketwheel, or name it: --source DIR")
    with _replacing(directory) as build:
        (build / "conf").mkdir()
        (build / "conf" / f"{config.env}.yaml").write_bytes(configuration)
        shutil.copyfile(script, build / SCRIPT)
        if without_docker:
            with installed_archive(checkout, target) as environment:
                normalise(environment, build / ARCHIVE, checkout, limit, target)
        elif not without_archive:
            given = Path(archive) if archive else build_archive(checkout, target)
            normalise(given, build / ARCHIVE, checkout, limit, target)
        build_wheel(checkout, build)
        files = _contents(build)
        digest = hashlib.sha256("".join(f"{file.sha256}  {file.name}\n" for file in files).encode()).hexdigest()
        machine = None if without_archive else target.machine
        packed = Package(directory, bucketwheel.__version__, config.env, digest, files, machine=machine)
        (build / CONTENTS).write_text(json.dumps(_described(packed), indent=1) + "\n", encoding="utf-8")
    return packed


def upload(config: Configuration, packed: Package, to: str | None = None) -> Package:
    """Upload a package to a directory of `to` named by its digest; files that exist already are not uploaded again.

    Raises:
        ConfigError: neither `to` nor `deploy.artifacts` is a location on S3, or the package is for another platform.
        StorageError: it cannot be written.
    """
    base = s3_location("--upload" if to else "deploy.artifacts", to or config.settings.deploy.artifacts).uri
    if packed.machine:
        _check_machine(config, str(packed.directory), packed.machine)
    location = join(base, packed.digest[:16])
    storage = Storage.of(config.settings)
    existing = {entry.location: entry.bytes for entry in storage.list(location, recursive=True)}
    # The list of contents comes last: it marks the package as complete.
    for name, size in [*((file.name, file.bytes) for file in packed.files), (CONTENTS, None)]:
        destination = join(location, name)
        if size is None:
            storage.write(destination, (packed.directory / name).read_bytes())
        elif existing.get(destination) != size:
            if destination in existing:
                # It is not whole, and `create` replaces nothing on S3.
                storage.delete(destination)
            _send(storage, packed.directory / name, destination, str(packed.directory))
    return Package(**{**vars(packed), "location": location})


def check_uploaded(config: Configuration, location: str) -> None:
    """Check that a package exists, fits the platform and has the current values of the settings that jobs read.

    Raises:
        ConfigError: no package, one for another platform, or one with other values; names the settings.
    """
    storage = Storage.of(config.settings)
    advice = _advice(config)
    if not storage.exists(join(location, CONTENTS)):
        raise ConfigError(f"deploy.package is {location}, which holds no package; {advice}")
    file = join(location, "conf", f"{config.env}.yaml")
    if not storage.exists(file):
        raise ConfigError(f"the package {location} was not built for env {config.env}; {advice}")
    if config.settings.deploy.platform == "glue" or not config.settings.emr_serverless.image:
        _check_machine(config, location, _machine(storage, join(location, CONTENTS), advice))
    packed = _read_by_jobs(storage.read(file), file, advice)
    now = _read_by_jobs(job_configuration(config), file, advice)
    if changed := sorted(name for name in {*packed, *now} if packed.get(name) != now.get(name)):
        raise ConfigError(f"the package {location} was built with another value of {', '.join(changed)}; {advice}")


def _advice(config: Configuration) -> str:
    return f"build one with: bucketwheel package --env {config.env} --upload"


def _check_machine(config: Configuration, location: str, machine: str | None) -> None:
    target = Target.of(config.settings)
    if machine is None:
        raise ConfigError(
            f"the package {location} does not name the machine of its Python environment: it has none, or was built "
            f"by an earlier version; {target.platform} needs one: {_advice(config)}"
        )
    if machine != target.machine:
        raise ConfigError(
            f"the package {location} was built for {machine}, but {target.platform} needs {target.machine} (settings "
            f"deploy.platform, emr_serverless.architecture); {_advice(config)}"
        )


def _machine(storage: Storage, path: str, advice: str) -> str | None:
    try:
        machine: str | None = json.loads(storage.read(path)).get("machine")
    except (ValueError, AttributeError, RecursionError) as error:
        raise ConfigError(f"{path}: is not the list of a package, it may be damaged; {advice}") from error
    return machine


def _read_by_jobs(content: bytes, path: str, advice: str) -> dict[str, Any]:
    try:
        values = dict(flatten(parse_yaml(content, path)))
    except (yaml.YAMLError, UnicodeDecodeError, AttributeError) as error:
        raise ConfigError(f"{path}: is not the configuration of a package, it may be damaged; {advice}") from error
    return {name: value for name, value in values.items() if name in _READ or not name.startswith(_OF_THE_STACK)}


def _described(packed: Package) -> dict[str, Any]:
    return {
        "version": packed.version,
        "env": packed.env,
        "digest": packed.digest,
        "machine": packed.machine,
        "files": [asdict(file) for file in packed.files],
    }


@contextmanager
def _replacing(directory: Path) -> Iterator[Path]:
    """Yield a new directory that replaces `directory` if the block succeeds; only a package is replaced.

    Raises:
        UsageError: `directory` holds something else.
        StorageError: it cannot be written.
    """
    if directory.exists() and any(directory.iterdir()) and not (directory / CONTENTS).is_file():
        raise UsageError(f"--to {directory}: is not empty and holds no package; choose a new or empty directory")
    with wrap_os_errors(str(directory), "write"):
        directory.parent.mkdir(parents=True, exist_ok=True)
        build = Path(tempfile.mkdtemp(prefix=f".{directory.name}-", dir=directory.parent))
        try:
            yield build
            build.chmod(0o755)
            shutil.rmtree(directory, ignore_errors=True)
            build.rename(directory)
        finally:
            shutil.rmtree(build, ignore_errors=True)


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
