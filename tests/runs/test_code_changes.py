"""Changes to the code that determines the bytes of files."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import bucketwheel
from bucketwheel.errors import ResumeError
from bucketwheel.pipeline.fingerprint import code_digest
from runs_support import DATASET, Case

RUN = """
import json, sys
from bucketwheel import api
from bucketwheel.errors import ResumeError
overrides, stages, resume = json.loads(sys.argv[1])
config = api.load("local", None, overrides, {})
try:
    outcome = api.run(config, "DATASET", stages, resume=resume)
except ResumeError as error:
    print(json.dumps({"error": str(error)}))
else:
    print(json.dumps({"run": outcome.manifest.run_id, "changed": outcome.changed}))
""".replace("DATASET", DATASET)
TO_BUCKET = ["discover", "split", "size", "bucket"]


def run_with(package: Path, case: Case, stages: list[str], resume: str | None = None) -> dict[str, object]:
    settings = case.settings().model_dump(mode="json", exclude_defaults=True)
    program = [sys.executable, "-c", RUN, json.dumps([settings, stages, resume])]
    environ = {**os.environ, "PYTHONPATH": str(package)}
    done = subprocess.run(program, env=environ, cwd=case.root, capture_output=True, text=True, check=True)
    result: dict[str, object] = json.loads(done.stdout)
    return result


@pytest.fixture
def original() -> Path:
    return Path(bucketwheel.__file__).parent.parent


@pytest.fixture
def changed(original: Path, tmp_path: Path) -> Path:
    copy = tmp_path / "changed"
    shutil.copytree(original / "bucketwheel", copy / "bucketwheel", ignore=shutil.ignore_patterns("__pycache__"))
    writer = copy / "bucketwheel" / "kernel" / "write.py"
    text = writer.read_text()
    assert '"snappy"' in text
    writer.write_text(text.replace('"snappy"', '"gzip"'))
    return copy


def test_changed_writer_starts_new_run(case: Case, original: Path, changed: Path) -> None:
    first = run_with(original, case, TO_BUCKET)
    assert run_with(original, case, TO_BUCKET) == {"run": first["run"], "changed": False}
    second = run_with(changed, case, TO_BUCKET)
    assert second["changed"]
    assert second["run"] != first["run"]


def test_resume_is_refused_when_the_writer_changed(case: Case, original: Path, changed: Path) -> None:
    run_id = run_with(original, case, TO_BUCKET)["run"]
    message = str(run_with(changed, case, [*TO_BUCKET, "verify"], "last")["error"])
    assert f"run {run_id} cannot be resumed: the code that writes files has changed" in message
    assert "start a new run" in message
    assert run_with(original, case, [*TO_BUCKET, "verify"], "last") == {"run": run_id, "changed": True}


def test_resume_of_a_run_without_recorded_code_is_refused(case: Case) -> None:
    manifest = case.run(TO_BUCKET).manifest
    path = case.manifest_file(manifest.run_id)
    content = json.loads(path.read_text())
    del content["fingerprint"]["code"]
    content["fingerprint"]["bucketwheel"] = "0.1.0"
    path.write_text(json.dumps(content))
    with pytest.raises(ResumeError, match=r"bucketwheel was 0\.1\.0.*digest was not recorded by that version"):
        case.run([*TO_BUCKET, "verify"], resume="last")


def test_code_digest_of_zip_equals_that_of_directory(original: Path, tmp_path: Path) -> None:
    packed = shutil.make_archive(str(tmp_path / "packed"), "zip", original, "bucketwheel")
    program = "from bucketwheel.pipeline.fingerprint import code_digest; print(code_digest())"
    done = subprocess.run(
        [sys.executable, "-c", program],
        env={**os.environ, "PYTHONPATH": packed},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.strip() == code_digest()
