"""The template and its state machines pass cfn-lint, checkov and statelint."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Callable
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

import pytest
import yaml

from bucketwheel.deploy.template.template import text
from deploy_support import ROOT, VARIANTS, configuration, rendered, resolved

# checkov needs older packages than ours and has an environment of its own: `make linters`.
CHECKOV = Path(os.environ.get("CHECKOV", ROOT / ".venv-lint/bin/checkov"))
_REGION = re.compile(r"\b(?:us|eu|ap|ca|sa|me|af|il|mx|cn)-(?:gov-)?[a-z]+-\d\b")
SKIPS = yaml.safe_load((Path(__file__).parent / "checkov_skips.yaml").read_text())


def program(name: str) -> str:
    return str(Path(sys.executable).parent / name)


@pytest.fixture(scope="session")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    directory = tmp_path_factory.mktemp("templates")
    paths = {}
    for variant in VARIANTS:
        paths[variant] = directory / f"{variant}.yaml"
        paths[variant].write_text(text(rendered(variant), "yaml"))
    return paths


def run(*command: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=300)


def test_deploy_guide_has_resource_counts_of_every_variant() -> None:
    rows = re.findall(
        r"^\| `([\w-]+)`: [^|]*\| (\d+) \| (\d+) \|$", (ROOT / "docs/deploy.md").read_text(), re.MULTILINE
    )
    templates = {variant: rendered(variant) for variant in VARIANTS}
    assert rows == [
        (variant, str(len(template["Resources"])), str(len(machines(template))))
        for variant, template in templates.items()
    ]


def regions() -> list[str]:
    """Return the regions of the environments in conf/: those of `aws.region`, else those in names of buckets."""
    texts = [path.read_text("utf-8") for path in (ROOT / "conf").glob("*.yaml")]
    return sorted({region for text_ in texts for region in _REGION.findall(text_)})


def test_cfn_lint_reports_nothing(files: dict[str, Path]) -> None:
    assert regions() == ["us-east-1"]
    # cfn-lint has the schemas of resources by region.
    options = ["--include-checks", "I", "--regions", *regions()]
    done = run(program("cfn-lint"), *options, "--", *map(str, files.values()))
    assert (done.returncode, done.stdout) == (0, ""), done.stdout


def test_cfn_lint_reports_wrong_property(files: dict[str, Path], tmp_path: Path) -> None:
    broken = rendered()
    broken["Resources"]["JobPipeline"]["Properties"]["Workers"] = 3
    (tmp_path / "broken.json").write_text(json.dumps(broken))
    done = run(program("cfn-lint"), "--", str(tmp_path / "broken.json"))
    assert done.returncode != 0
    assert "Workers" in done.stdout


def checkov(cannot: Callable[[str], object], *paths: Path) -> list[dict[str, Any]]:
    if not CHECKOV.exists():
        cannot(f"{CHECKOV} does not exist; make it with `make linters`")
    arguments = [f"--file={path}" for path in paths]
    done = run(str(CHECKOV), "--framework", "cloudformation", "--output", "json", "--skip-download", *arguments)
    report = json.loads(done.stdout)
    assert report["summary"]["parsing_errors"] == 0
    # As docs/deploy.md says of all templates: fewer would mean that some were not looked at.
    assert report["summary"]["passed"] > 350 * len(paths) / len(VARIANTS)
    failed_checks: list[dict[str, Any]] = report["results"]["failed_checks"]
    return failed_checks


@pytest.mark.slow
def test_checkov_reports_only_listed_exceptions(files: dict[str, Path], cannot: Callable[[str], object]) -> None:
    unlisted: list[tuple[str, ...]] = []
    used: set[tuple[int, str]] = set()
    for failed in checkov(cannot, *files.values()):
        variant, name = Path(failed["file_path"]).stem, failed["resource"].partition(".")[2]
        fitting = [
            number
            for number, skip in enumerate(SKIPS)
            if failed["check_id"] == skip["check"]
            and variant in skip["variants"]
            and any(fnmatchcase(name, pattern) for pattern in skip["resources"])
        ]
        used.update((number, variant) for number in fitting)
        if not fitting:
            unlisted.append((variant, failed["check_id"], failed["check_name"], name))
    assert unlisted == []
    assert used == {(number, variant) for number, skip in enumerate(SKIPS) for variant in skip["variants"]}
    assert all(skip["reason"] for skip in SKIPS)


@pytest.mark.slow
def test_checkov_reports_open_bucket(tmp_path: Path, cannot: Callable[[str], object]) -> None:
    broken = rendered("glue-everything")
    for resource in broken["Resources"].values():
        resource["Properties"].pop("PublicAccessBlockConfiguration", None)
    (tmp_path / "broken.json").write_text(json.dumps(broken))
    failed_ids = {failed["check_id"] for failed in checkov(cannot, tmp_path / "broken.json")}
    assert {"CKV_AWS_53", "CKV_AWS_54", "CKV_AWS_55", "CKV_AWS_56"} <= failed_ids


def machines(made: dict[str, Any]) -> dict[str, dict[str, Any]]:
    return {
        name: json.loads(resolved(resource["Properties"]["DefinitionString"], made["Resources"]))
        for name, resource in made["Resources"].items()
        if resource["Type"] == "AWS::StepFunctions::StateMachine"
    }


def test_statelint_reports_nothing(tmp_path: Path) -> None:
    paths = []
    for variant in VARIANTS:
        for name, definition in machines(rendered(variant)).items():
            paths.append(tmp_path / f"{variant}-{name}.json")
            paths[-1].write_text(json.dumps(definition))
    # Every variant has the run and two watchdogs, except the variant without watchdogs.
    assert len(paths) == 3 * len(VARIANTS) - 2
    for path in paths:
        done = run(program("statelint"), str(path))
        assert (done.returncode, done.stdout) == (0, ""), f"{path.name}: {done.stdout}"


def test_statelint_reports_missing_state(tmp_path: Path) -> None:
    definition = machines(rendered())["StateMachine"]
    definition["States"]["Register"]["Next"] = "Nowhere"
    (tmp_path / "broken.json").write_text(json.dumps(definition))
    assert "Nowhere" in run(program("statelint"), str(tmp_path / "broken.json")).stdout


def test_retries_are_configured_in_one_place() -> None:
    template = rendered(deploy__retries=2)
    jobs = [resource for resource in template["Resources"].values() if resource["Type"] == "AWS::Glue::Job"]
    assert {job["Properties"]["MaxRetries"] for job in jobs} == {0}
    text_ = json.dumps(machines(template)["StateMachine"])
    # Once a job: two that bucket, register, ctas.
    assert text_.count('"ErrorEquals": ["States.TaskFailed"]') == 4
    assert json.dumps(machines(rendered(deploy__retries=0))["StateMachine"]).count("States.TaskFailed") == 0


def test_every_configured_dataset_has_a_branch() -> None:
    config = configuration(datasets__third={"source": "s3://a-bucket/third", "key": "id"})
    settings = config.settings
    assert set(settings.datasets) == {"infobase_attributes", "addressable_ids", "third"}
    template = rendered(
        datasets__third={"source": "s3://a-bucket/third", "key": "id"},
        deploy__jobs={"third-bucket": {"dataset": "third", "stages": "discover,split,size,bucket,verify"}},
    )
    branches = machines(template)["StateMachine"]["States"]["Bucket"]["Branches"]
    started = [branch["StartAt"] for branch in branches]
    assert started == ["Look at infobase_attributes", "Look at addressable_ids", "Look at third"]
    assert branches[2]["States"]["Bucket third"]["Parameters"]["JobName"] == "etl-omc-flywheel-prod-third-bucket"
