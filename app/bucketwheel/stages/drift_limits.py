"""Compare the differences between snapshots with the limits: `monitoring` warns, `quality` refuses."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from bucketwheel.errors import QualityError
from bucketwheel.formatting import counted, listed
from bucketwheel.runs.drift_records import Drift, NullShare
from bucketwheel.runs.manifest import Manifest
from bucketwheel.settings import MonitoringSettings, QualitySettings

# Maximum number of columns in a message.
_SHOWN = 5


@dataclass(frozen=True)
class Refusal:
    """A limit of `quality` that a snapshot exceeds.

    Attributes:
        text: the limit, the value and the setting
        accept: the setting that accepts it, by dotted name
        cause: what has to be corrected otherwise
        pronoun: how a sentence refers to the text
    """

    text: str
    accept: tuple[str, str]
    cause: str = "the snapshot"
    pronoun: str = "it"

    @property
    def option(self) -> str:
        """The option that accepts it."""
        name, value = self.accept
        return f"--set {name}={value}"


def quality_error(refusals: Sequence[Refusal], run_id: str = "") -> QualityError | None:
    """Return one error for all limits that a snapshot exceeds; None if there are none.

    Args:
        refusals: the exceeded limits.
        run_id: the run that can be resumed with the settings; empty if there is none yet.
    """
    if not refusals:
        return None
    first, *others = refusals
    resume = " and --resume last" if run_id else ""
    also = "".join(f"\nand {other.text}; accept {other.pronoun} with {other.option}" for other in others)
    return QualityError(
        f"{first.text}; nothing was published. Correct {first.cause}, or accept {first.pronoun} with "
        f"{first.option}{resume}{also}",
        accept=dict(refusal.accept for refusal in refusals),
    )


def beyond_limits(manifest: Manifest, drift: Drift, quality: QualitySettings) -> Iterator[Refusal]:
    """Yield every limit of `quality` that a run exceeds, as far as `drift` is known."""
    before = f"the published run {drift.run_id} (snapshot {drift.snapshot_dt})"
    snapshot = f"snapshot {manifest.discover.snapshot_dt}"
    this = f"run {manifest.run_id} ({snapshot})" if manifest.run_id else snapshot
    breaking = _breaking(manifest, drift)
    if breaking and quality.schema_changes == "error":
        yield Refusal(
            f"{this} would break queries on tables of {before}: {listed(breaking, _SHOWN)}; "
            "quality.schema_changes is error",
            ("quality.schema_changes", "warn"),
            "the snapshot or the mapping",
        )
    limit, percent = quality.max_rows_changed_percent, drift.rows_changed_percent
    if limit is not None and percent > limit:
        word = "more" if drift.rows > drift.rows_before else "fewer"
        yield Refusal(
            f"{this} has {counted(drift.rows, 'row')}, {percent:.4g} % {word} than the {drift.rows_before:,} of "
            f"{before}; "
            f"quality.max_rows_changed_percent is {limit:g}",
            ("quality.max_rows_changed_percent", str(math.ceil(percent))),
        )
    limit = quality.max_null_share_changed_points
    if limit is not None and (shares := _beyond(drift.null_shares, limit)):
        yield Refusal(
            f"{this}: the share of NULLs changed by more than {limit:g} percentage points since {before}: "
            f"{_shares(shares)}; quality.max_null_share_changed_points is {limit:g}",
            ("quality.max_null_share_changed_points", "null"),
        )
    limit = quality.min_keys_kept_percent
    kept = None if drift.keys is None or drift.keys.share is None else 100 * drift.keys.share
    if limit is not None and kept is not None and kept < limit:
        yield Refusal(
            f"{this} has only {kept:.4g} % of the keys of {before}; quality.min_keys_kept_percent is {limit:g}",
            ("quality.min_keys_kept_percent", "null"),
        )


def drift_warnings(drift: Drift, quality: QualitySettings, monitoring: MonitoringSettings) -> list[str]:
    """Return a warning for each difference that readers notice or that exceeds a limit of `monitoring`."""
    warnings = []
    breaking = [change.text for change in drift.schema_changes if change.breaking]
    if quality.schema_changes != "allow":
        if breaking:
            warnings.append(f"breaking change for readers of the published tables: {listed(breaking, _SHOWN)}")
        if drift.new_columns:
            warnings.append(f"new columns in the snapshot: {listed(drift.new_columns, _SHOWN)}")
        if drift.removed_tables:
            warnings.append(
                f"tables no longer in the mapping: {listed(drift.removed_tables, _SHOWN)}; "
                "their published versions stay unchanged"
            )
    limit = monitoring.rows_changed_percent
    if limit is not None and drift.rows_changed_percent > limit:
        warnings.append(
            f"the number of rows changed by {drift.rows_changed_percent:.4g} %; "
            f"monitoring.rows_changed_percent is {limit:g}"
        )
    limit = monitoring.null_share_changed_points
    if limit is not None and (shares := _beyond(drift.null_shares, limit)):
        warnings.append(
            f"shares of NULLs changed: {_shares(shares)}; monitoring.null_share_changed_points is {limit:g}"
        )
    limit = monitoring.keys_kept_percent
    if limit is not None and drift.keys and drift.keys.share is not None and 100 * drift.keys.share < limit:
        warnings.append(
            f"only {100 * drift.keys.share:.4g} % of the published keys are in the snapshot; "
            f"monitoring.keys_kept_percent is {limit:g}"
        )
    return warnings


def _breaking(manifest: Manifest, drift: Drift) -> list[str]:
    """Return the changes that break queries; columns of Iceberg can change although their Hive type does not."""
    changes = [change for change in drift.schema_changes if change.breaking]
    known = {(change.table, change.column) for change in changes}
    if "split" in manifest.stages:
        keys = {key.name for key in manifest.split.keys}
        for change in manifest.split.replaced_columns:
            column = change.column.partition(".")[0]
            if (None if column in keys else change.table, column) not in known:
                changes.append(change)
    return [change.text for change in changes]


def _beyond(shares: Sequence[NullShare], points: float) -> list[NullShare]:
    """Return the columns whose share of NULLs changed by more than `points`, the largest change first."""
    changed = [share for share in shares if 100 * abs(share.now - share.before) > points]
    return sorted(changed, key=lambda share: -abs(share.now - share.before))


def _shares(shares: Sequence[NullShare]) -> str:
    return listed([f"{share.name} {share.before:.1%} to {share.now:.1%}" for share in shares], _SHOWN)
