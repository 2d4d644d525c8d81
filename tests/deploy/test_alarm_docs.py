"""The operations guide explains every alarm by name."""

from __future__ import annotations

import re

from deploy_support import ROOT, rendered


def test_operations_guide_explains_every_alarm_and_rule() -> None:
    text = (ROOT / "docs" / "operations.md").read_text("utf-8")
    rows = " ".join(re.findall(r"^\| ([^|]+) \|", text.partition("## When an alarm fires")[2], re.MULTILINE))
    resources = rendered("glue-everything")["Resources"].values()
    alarms = [
        resource["Properties"]["AlarmName"] for resource in resources if resource["Type"] == "AWS::CloudWatch::Alarm"
    ]
    rules = [
        resource["Properties"]["Name"]
        for resource in resources
        if resource["Type"] == "AWS::Events::Rule" and resource["Properties"]["Targets"][0]["Id"] == "notices"
    ]
    assert rows, "docs/operations.md has no table of alarms"
    assert len(rules) == 2
    assert len(alarms) > 10
    for name in [*alarms, *rules]:
        short = name.removeprefix("bucketwheel-prod-")
        general = re.sub(r"^(infobase_attributes|addressable_ids)-", "<dataset>-", short)
        assert f"`{general}`" in rows, name
