"""Verify the files of a finished run again."""

from __future__ import annotations

from bucketwheel.contracts import Progress, Report
from bucketwheel.pipeline.services import RunRequest, make_services
from bucketwheel.runs.manifest import VerifyResult
from bucketwheel.runs.store import RunStore
from bucketwheel.settings import Settings
from bucketwheel.stages.verify import Verify


def verify(settings: Settings, run_id: str, report: Report = lambda _: None) -> VerifyResult:
    """Read and verify the files of a finished run; write nothing.

    Raises:
        VerificationError: a file differs from the manifest.
        SelectionError: there is no such run, or it has not finished `bucket`.
    """
    runs = RunStore.of(settings)
    manifest = runs.find(run_id)
    # Compare files only with their own manifest, not with the published run.
    quality = settings.quality.model_copy(update={"drift": "off"})
    settings = settings.model_copy(update={"quality": quality})
    services = make_services(settings, RunRequest(manifest.dataset), report, runs)
    rows, started = manifest.bucket.rows, services.clock.now()
    report(Progress(manifest.dataset, "verify", "started", total_rows=rows))
    result = Verify(keep_records=False).run(manifest, services)
    for warning in result.warnings:
        report(Progress(manifest.dataset, "verify", "warning", message=warning))
    seconds = (services.clock.now() - started).total_seconds()
    report(Progress(manifest.dataset, "verify", "finished", message=f"{seconds:.1f} s"))
    return result
