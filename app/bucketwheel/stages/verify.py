"""Verify: read back every file and compare it with the source and the quality limits."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence

from bucketwheel.contracts import BucketCheck, BucketJob, Progress, Services
from bucketwheel.errors import BucketwheelError, VerificationError
from bucketwheel.formatting import counted
from bucketwheel.kernel.checksum import add
from bucketwheel.kernel.layout import bucket_of_file
from bucketwheel.runs.data_files import encode, unpack
from bucketwheel.runs.manifest import (
    BucketOutcome,
    Manifest,
    VerifiedTable,
    VerifyResult,
)
from bucketwheel.settings import Policy
from bucketwheel.stages.bucket_job import bucket_job
from bucketwheel.stages.drift import Measured, measure
from bucketwheel.stages.drift_limits import Refusal, quality_error
from bucketwheel.stages.engine_warnings import attach_engine_warnings
from bucketwheel.stages.iceberg_checks import null_key_refusals
from bucketwheel.stages.layouts import label
from bucketwheel.storage import Entry

# Maximum number of file names in a message.
_SHOWN = 5


class Verify:
    """Checks that the files match the source and that the keys meet the quality limits.

    Args:
        keep_records: keep the records of the files of Iceberg layouts, for publishing and for a later rollback.
    """

    name = "verify"
    requires = ("discover", "split", "size", "bucket")

    def __init__(self, keep_records: bool = True) -> None:
        self._keep_records = keep_records

    def run(self, manifest: Manifest, services: Services) -> VerifyResult:
        """See `contracts.Stage.run`.

        Raises:
            VerificationError: files and source differ.
            QualityError: null or duplicate keys where the policy is `error`, or another limit of `quality`.
        """
        job = bucket_job(manifest, services.runs)
        written = manifest.bucket
        for layout in job.layouts:
            _check_listing(layout, [o for o in written.outcomes if o.layout == layout.layout], services)
        read = {layout.layout: _Read(layout) for layout in job.layouts}
        engine = services.engine()
        before = engine.statistics()
        with attach_engine_warnings(services, self.name, engine):
            for check in engine.verify(
                job,
                written.outcomes,
                lambda r, b: services.report(Progress(services.dataset, self.name, "advanced", r, b)),
            ):
                read[check.layout].add(check)
            for size in manifest.size.layouts:
                _check_counts(label(manifest.size, size), read[size.id], read[""], manifest.discover.rows)
        first = written.of_layout(manifest.size.layouts[0])
        nulls = sum(outcome.null_keys for outcome in first)
        duplicates = sum(outcome.duplicate_keys for outcome in first)
        quality = services.settings.quality
        findings = [
            *_findings(quality.null_keys, "null_keys", nulls, "has a NULL key", "have a NULL key"),
            *_findings(quality.duplicate_keys, "duplicate_keys", duplicates, "repeats a key", "repeat a key"),
            *null_key_refusals(nulls, services.settings),
        ]
        services.storage.flush(services.settings.target)
        if self._keep_records:
            _save_data_files(manifest, services, read)
        measured = _measured(manifest, services, [found for found in findings if isinstance(found, Refusal)])
        texts = [found for found in findings if isinstance(found, str)]
        files = Counter((outcome.layout, file.table) for outcome in written.outcomes for file in outcome.files)
        return VerifyResult(
            rows=manifest.discover.rows,
            key_checksum=read[""].checksum,
            null_keys=nulls,
            duplicate_keys=duplicates,
            tables=tuple(
                VerifiedTable(name=name, rows=part.rows, files=files[layout, name], bytes=size, layout=layout)
                for layout, part in read.items()
                for name, size in part.bytes.items()
            ),
            warnings=(*engine.statistics().since(before).warnings, *texts, *measured.warnings),
            drift=measured.drift,
        )


class _Read:
    """Rows, key checksum and bytes of one layout as read back."""

    def __init__(self, job: BucketJob) -> None:
        self.layout = job.layout
        self.rows, self.checksum = 0, 0
        self.bytes = dict.fromkeys((table.name for table in job.tables), 0)
        self.data_files: list[str] = []

    def add(self, check: BucketCheck) -> None:
        """Add one bucket."""
        self.rows += check.rows
        self.checksum = add(self.checksum, check.key_checksum)
        for table, size in check.table_bytes.items():
            self.bytes[table] += size
        self.data_files.append(check.data_files)


def _save_data_files(manifest: Manifest, services: Services, read: Mapping[str, _Read]) -> None:
    """Keep the records of the files of Iceberg layouts."""
    for layout in manifest.size.layouts:
        if layout.hash == "iceberg":
            content = encode(unpack(read[layout.id].data_files))
            services.runs.save_data_files(manifest.dataset, manifest.run_id, layout.id, content)


def _check_counts(label_of_layout: str, read: _Read, first: _Read, expected: int) -> None:
    """Check that a layout has all rows, and the keys of the first one."""
    if read.rows != expected:
        raise VerificationError(
            f"verify: {label_of_layout}{counted(read.rows, 'row')} read back, {expected} in the snapshot"
        )
    if read.checksum != first.checksum:
        raise VerificationError(
            f"verify: {label_of_layout}the keys are not those of the first layout (checksum {read.checksum:016x}, "
            f"expected {first.checksum:016x})"
        )


def _check_listing(job: BucketJob, outcomes: Sequence[BucketOutcome], services: Services) -> None:
    """Check that each directory holds exactly the files of this run, because readers read every visible file."""
    expected: dict[str, dict[str, str]] = defaultdict(dict)
    for outcome in outcomes:
        for file in outcome.files:
            missing = f"bucket {outcome.bucket}: {file.name} is missing ({counted(file.rows, 'row')})"
            expected[file.table][file.name] = missing
    for table in job.tables:
        existing = {
            entry.name: f"{entry.name} was not written by this run ({_taken_for(entry, job.hash)})"
            for entry in _visible(services.storage.list(table.directory))
        }
        files = expected[table.name]
        problems = [*_unmatched(files, existing), *_unmatched(existing, files)]
        if problems:
            raise VerificationError(f"{table.directory}: {'; '.join(problems)}")


def _unmatched(messages: Mapping[str, str], known: Mapping[str, str]) -> list[str]:
    """Return the messages of names that are not in `known`; after the first few, only their number."""
    names = sorted(name for name in messages if name not in known)
    more = [f"and {len(names) - _SHOWN} more"] if len(names) > _SHOWN else []
    return [*(messages[name] for name in names[:_SHOWN]), *more]


def _taken_for(entry: Entry, scheme: str) -> str:
    if entry.is_directory:
        return "a directory, which readers refuse"
    bucket = bucket_of_file(entry.name, scheme)
    return "readers treat it as no bucket" if bucket is None else f"readers treat it as bucket {bucket}"


def _visible(entries: Sequence[Entry]) -> Iterator[Entry]:
    return (entry for entry in entries if not entry.name.startswith(("_", ".")))


def _findings(policy: Policy, setting: str, count: int, singular: str, plural: str) -> list[str | Refusal]:
    """Return what a policy says of a number of rows: nothing, a warning or a refusal."""
    if not count or policy == "allow":
        return []
    text = f"{counted(count, 'row')} {singular if count == 1 else plural}"
    if policy == "error":
        return [Refusal(text, (f"quality.{setting}", "warn"), pronoun="them")]
    return [text]


def _measured(manifest: Manifest, services: Services, refusals: Sequence[Refusal]) -> Measured:
    """Return the differences from the published run; raise one error for all limits that the run exceeds."""
    try:
        measured = measure(manifest, services)
    except BucketwheelError as error:
        if found := quality_error(refusals, manifest.run_id):
            raise found.found_with([error]) from error
        raise
    if found := quality_error([*refusals, *measured.refusals], manifest.run_id):
        raise found
    return measured
