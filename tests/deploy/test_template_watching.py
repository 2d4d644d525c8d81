"""Monitoring in the template: alarms, events, time limits and the dashboard."""

from __future__ import annotations

import json
from typing import Any

import pytest

from deploy_support import JOBS, VARIANTS, of_type, rendered


def test_alarms_cover_every_watched_condition_and_notify_topic() -> None:
    template = rendered("glue-everything")
    alarms = of_type(template, "AWS::CloudWatch::Alarm")
    assert set(alarms) == {
        "AlarmRunFailed", "AlarmRunTimedOut", "AlarmRunAborted", "AlarmRunSlow", "AlarmErrors",
        "AlarmNoRunFailed", "AlarmNoRunTimedOut",
        *(f"Alarm{metric}{dataset}" for dataset in ("InfobaseAttributes", "AddressableIds") for metric in (
            "NullKeys", "DuplicateKeys", "RowsChangedPercent", "NullShareChangedPoints", "ColumnsChanged",
            "KeysKeptPercent", "CostUsd")),
    }  # fmt: skip
    for alarm in alarms.values():
        assert alarm["AlarmActions"] == [{"Ref": "Notices"}]
        assert alarm["TreatMissingData"] == "notBreaching"
    limits = {
        name.removeprefix("Alarm").removesuffix("AddressableIds"): (
            alarm["MetricName"], alarm["Statistic"], alarm["ComparisonOperator"], alarm["Threshold"]
        )
        for name, alarm in alarms.items() if name.endswith("AddressableIds")
    }  # fmt: skip
    assert limits == {
        "NullKeys": ("NullKeys", "Maximum", "GreaterThanThreshold", 0),
        "DuplicateKeys": ("DuplicateKeys", "Maximum", "GreaterThanThreshold", 10),
        "RowsChangedPercent": ("RowsChangedPercent", "Maximum", "GreaterThanThreshold", 20),
        "NullShareChangedPoints": ("NullShareChangedPoints", "Maximum", "GreaterThanThreshold", 10),
        "ColumnsChanged": ("ColumnsChanged", "Maximum", "GreaterThanThreshold", 0),
        "KeysKeptPercent": ("KeysKeptPercent", "Minimum", "LessThanThreshold", 80),
        "CostUsd": ("CostUsd", "Maximum", "GreaterThanThreshold", 50),
    }
    (subscription,) = of_type(template, "AWS::SNS::Subscription").values()
    assert subscription["Endpoint"] == "oncall@example.com"


@pytest.mark.parametrize(
    ("drift", "wanted"),
    [
        ("keys", {"RowsChangedPercent", "NullShareChangedPoints", "ColumnsChanged", "KeysKeptPercent"}),
        ("counts", {"RowsChangedPercent", "NullShareChangedPoints", "ColumnsChanged"}),
        ("off", set()),
    ],
)
def test_unmeasured_metrics_have_no_alarm(drift: str, wanted: set[str]) -> None:
    alarms = of_type(rendered(quality__drift=drift, monitoring__null_keys=None), "AWS::CloudWatch::Alarm").values()
    assert {alarm["MetricName"] for alarm in alarms if alarm["Namespace"] == "Bucketwheel"} - {
        "ErrorLines-prod"
    } == wanted


def test_one_failed_job_raises_error_alarm() -> None:
    # A run that fails writes one line of level ERROR.
    assert of_type(rendered(), "AWS::CloudWatch::Alarm")["AlarmErrors"]["Threshold"] == 1


def test_event_rules_name_exactly_the_jobs() -> None:
    rules = of_type(rendered(), "AWS::Events::Rule")
    assert set(rules) == {"JobFailed", "JobSlow", "RunBegun"}
    for rule in (rules["JobFailed"], rules["JobSlow"]):
        assert tuple(rule["EventPattern"]["detail"]["jobName"]) == JOBS
        assert rule["Targets"][0]["Arn"] == {"Ref": "Notices"}


def test_emr_rule_reports_failed_and_cancelled_jobs() -> None:
    rules = of_type(rendered("emr-archive"), "AWS::Events::Rule")
    assert set(rules) == {"JobFailed", "RunBegun"}
    # A job past its time-out is cancelled.
    assert rules["JobFailed"]["EventPattern"]["detail"]["state"] == ["FAILED", "CANCELLED"]


@pytest.mark.parametrize("variant", VARIANTS)
def test_slow_limits_are_below_timeouts(variant: str) -> None:
    template = rendered(variant)
    jobs = of_type(template, "AWS::Glue::Job").values()
    assert bool(jobs) is variant.startswith("glue")
    for job in jobs:
        assert variant == "glue-plain" or job["NotificationProperty"]["NotifyDelayAfter"] < job["Timeout"]
        assert variant != "glue-plain" or "NotificationProperty" not in job
    machines = {
        name: json.loads(machine["DefinitionString"]["Fn::Sub"])
        for name, machine in of_type(template, "AWS::StepFunctions::StateMachine").items()
    }
    assert ("SlowWatch" in machines) is (variant != "glue-plain")
    if "SlowWatch" in machines:
        watch, run = machines["SlowWatch"], machines["StateMachine"]
        assert watch["States"]["Wait"]["Seconds"] == 120 * 60
        assert watch["TimeoutSeconds"] > watch["States"]["Wait"]["Seconds"]
        assert watch["States"]["Wait"]["Seconds"] < run["TimeoutSeconds"]
        begun = of_type(template, "AWS::Events::Rule")["RunBegun"]
        assert begun["EventPattern"]["detail"] == {
            "stateMachineArn": [{"Ref": "StateMachine"}],
            "status": ["RUNNING"],
        }
        assert begun["Targets"][0]["Arn"] == {"Ref": "SlowWatch"}
        alarm = of_type(template, "AWS::CloudWatch::Alarm")["AlarmRunSlow"]
        assert alarm["Dimensions"] == [{"Name": "StateMachineArn", "Value": {"Ref": "SlowWatch"}}]


@pytest.mark.parametrize("retries", [0, 1, 3])
@pytest.mark.parametrize("variant", ["glue", "emr-archive"])
def test_state_machine_timeout_covers_all_attempts_of_jobs(variant: str, retries: int) -> None:
    third: dict[str, Any] = {
        "datasets.third": {"source": "s3://a-bucket/third", "key": "id"},
        "deploy.jobs": {"third-bucket": {"dataset": "third", "stages": "discover,split,size,bucket,verify"}},
    }
    template = rendered(variant, **third, deploy__retries=retries)
    run = json.loads(template["Resources"]["StateMachine"]["Properties"]["DefinitionString"]["Fn::Sub"])

    def longest(states: dict[str, Any]) -> int:
        return sum(of_state(state) for state in states["States"].values())

    def of_state(state: dict[str, Any]) -> int:
        if state["Type"] == "Parallel":
            return max(longest(branch) for branch in state["Branches"])
        if state["Type"] == "Map":
            assert state["MaxConcurrency"] == 1
            return 3 * longest(state["ItemProcessor"])
        if "TimeoutSeconds" not in state:
            return 0
        waits = [int(retry["IntervalSeconds"]) << n for retry in state["Retry"] for n in range(retry["MaxAttempts"])]
        return int(state["TimeoutSeconds"]) * (retries + 1) + sum(waits)

    assert run["TimeoutSeconds"] == longest(run)


def test_dashboard_widgets_do_not_overlap() -> None:
    body = json.loads(rendered()["Resources"]["Dashboard"]["Properties"]["DashboardBody"]["Fn::Sub"])
    taken = [
        (x, y)
        for widget in body["widgets"]
        for x in range(widget["x"], widget["x"] + widget["width"])
        for y in range(widget["y"], widget["y"] + widget["height"])
    ]
    assert len(set(taken)) == len(taken)
    assert max(x for x, _ in taken) == 23


def test_dashboard_shows_every_metric_of_every_dataset() -> None:
    body = json.loads(rendered()["Resources"]["Dashboard"]["Properties"]["DashboardBody"]["Fn::Sub"])
    lines = [line for widget in body["widgets"] for line in widget["properties"].get("metrics", ())]
    shown = {(line[1], line[-1]) for line in lines if line[0] == "Bucketwheel"}
    names = {
        "Rows", "BytesWritten", "Seconds", "Skew", "NullKeys", "DuplicateKeys", "RowsChangedPercent",
        "NullShareChangedPoints", "ColumnsChanged", "KeysKeptPercent", "CostUsd",
    }  # fmt: skip
    assert shown == {(name, dataset) for name in names for dataset in ("infobase_attributes", "addressable_ids")}
