"""Compare the differences between snapshots with the limits: `monitoring` warns, `quality` refuses."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from bucketwheel.errors import QualityError
from bucketwheel.formatting import counted
from bucketwheel.runs.manifest import Drift, Manifest, NullShare
from bucketwheel.settings import MonitoringSettings, QualitySettings

# Maximum number of columns in a message.
_SHOWN = 5


def refuse_beyond_limits(manifest: Manifest, drift: Drift, quality: QualitySettings) -> None:
    """Check everything that `drift` knows so far against the limits of `quality`.

    Raises:
        QualityError: a limit is exceeded.
    """
    exceeded = list(_refusals(manifest, drift, quality))
    if exceeded:
        first, *others = exceeded
        also = "".join(f"\nand {other.text}; accept it with --set {other.override}" for other in others)
        raise QualityError(
            f"{first.text}; nothing was published. Correct {first.cause}, or accept it with --set {first.override} "
            f"and --resume last{also}",
            accept=dict(part.override.split("=", 1) for part in exceeded),
        )


@dataclass(frozen=True)
class _Refusal:
    """An exceeded limit, the setting that accepts it, and the name of its cause."""

    text: str
    override: str
    cause: str = "the snapshot"


def _refusals(manifest: Manifest, drift: Drift, quality: QualitySettings) -> Iterator[_Refusal]:
    before = f"the published run {drift.run_id} (snapshot {drift.snapshot_dt})"
    this = f"run {manifest.run_id} (snapshot {manifest.discover.snapshot_dt})"
    breaking = [change.text for change in drift.schema_changes if change.breaking]
    if breaking and quality.schema_changes == "error":
        yield _Refusal(
            f"{this} would break queries on tables of {before}: {_listed(breaking)}; quality.schema_changes is error",
            "quality.schema_changes=warn",
            "the snapshot or the mapping",
        )
    limit, percent = quality.max_rows_changed_percent, drift.rows_changed_percent
    if limit is not None and percent > limit:
        word = "more" if drift.rows > drift.rows_before else "fewer"
        yield _Refusal(
            f"{this} has {counted(drift.rows, 'row')}, {percent:.4g} % {word} than the {drift.rows_before:,} of "
            f"{before}; "
            f"quality.max_rows_changed_percent is {limit:g}",
            f"quality.max_rows_changed_percent={math.ceil(percent)}",
        )
    limit = quality.max_null_share_changed_points
    if limit is not None and (shares := _beyond(drift.null_shares, limit)):
        yield _Refusal(
            f"{this}: the share of NULLs changed by more than {limit:g} percentage points since {before}: "
            f"{_shares(shares)}; quality.max_null_share_changed_points is {limit:g}",
            "quality.max_null_share_changed_points=null",
        )
    limit = quality.min_keys_kept_percent
    kept = None if drift.keys is None or drift.keys.share is None else 100 * drift.keys.share
    if limit is not None and kept is not None and kept < limit:
        yield _Refusal(
            f"{this} has only {kept:.4g} % of the keys of {before}; quality.min_keys_kept_percent is {limit:g}",
            "quality.min_keys_kept_percent=null",
        )


def drift_warnings(drift: Drift, quality: QualitySettings, monitoring: MonitoringSettings) -> list[str]:
    """Return a warning for each difference that readers notice or that exceeds a limit of `monitoring`."""
    warnings = []
    breaking = [change.text for change in drift.schema_changes if change.breaking]
    if quality.schema_changes != "allow":
        if breaking:
            warnings.append(f"breaking change for readers of the published tables: {_listed(breaking)}")
        if drift.new_columns:
            warnings.append(f"new columns in the snapshot: {_listed(drift.new_columns)}")
        if drift.removed_tables:
            warnings.append(
                f"tables no longer in the mapping: {_listed(drift.removed_tables)}; "
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


def _beyond(shares: Sequence[NullShare], points: float) -> list[NullShare]:
    """Return the columns whose share of NULLs changed by more than `points`, the largest change first."""
    changed = [share for share in shares if 100 * abs(share.now - share.before) > points]
    return sorted(changed, key=lambda share: -abs(share.now - share.before))


def _shares(shares: Sequence[NullShare]) -> str:
    return _listed([f"{share.name} {share.before:.1%} to {share.now:.1%}" for share in shares])


def _listed(texts: Sequence[str]) -> str:
    more = f" and {len(texts) - _SHOWN} more" if len(texts) > _SHOWN else ""
    return ", ".join(texts[:_SHOWN]) + more
