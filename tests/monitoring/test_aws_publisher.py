"""Metrics and notifications through boto3: to moto, to a service that denies calls, and to one that is silent."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import Any
from uuid import uuid4

import pytest

from aws_server import REGION, plain_client
from bucketwheel.errors import BucketwheelError
from bucketwheel.monitoring.publisher import open_aws_publisher
from bucketwheel.settings import AwsSettings
from project import WIDE, Project, environment
from run_end_support import DATA, job, read_summary


def settings(endpoint: str, **more: Any) -> AwsSettings:
    return AwsSettings(endpoint_url=endpoint, region=REGION, **more)


@pytest.fixture
def topic(aws_endpoint: str) -> tuple[str, str]:
    """Return the ARN of a topic and the URL of a queue that receives its messages."""
    sns, sqs = plain_client("sns", aws_endpoint), plain_client("sqs", aws_endpoint)
    name = f"notices-{uuid4().hex[:8]}"
    arn = sns.create_topic(Name=name)["TopicArn"]
    queue = sqs.create_queue(QueueName=name)["QueueUrl"]
    target = sqs.get_queue_attributes(QueueUrl=queue, AttributeNames=["QueueArn"])["Attributes"]["QueueArn"]
    sns.subscribe(TopicArn=arn, Protocol="sqs", Endpoint=target)
    return arn, queue


def messages(endpoint: str, queue: str) -> list[dict[str, str]]:
    response = (
        plain_client("sqs", endpoint).receive_message(QueueUrl=queue, MaxNumberOfMessages=10).get("Messages", [])
    )
    return [json.loads(message["Body"]) for message in response]


def maxima(endpoint: str, namespace: str, metric: str, dataset: str = WIDE) -> list[float]:
    now = datetime.now(UTC)
    response = plain_client("cloudwatch", endpoint).get_metric_statistics(
        Namespace=namespace,
        MetricName=metric,
        Dimensions=[{"Name": "Environment", "Value": "local"}, {"Name": "Dataset", "Value": dataset}],
        StartTime=now - timedelta(hours=1),
        EndTime=now + timedelta(hours=1),
        Period=86_400,
        Statistics=["Maximum"],
    )
    return [point["Maximum"] for point in response["Datapoints"]]


def test_run_publishes_metrics_and_notification(project: Project, aws_endpoint: str, topic: tuple[str, str]) -> None:
    namespace = f"Test-{uuid4().hex[:8]}"
    project.set(
        aws={"endpoint_url": aws_endpoint, "region": REGION},
        monitoring={"metrics": "put", "namespace": namespace, "topic_arn": topic[0]},
    )
    lines, failed = job(project, "--dataset", WIDE)
    assert failed is None
    summary = read_summary(project)
    assert {name: maxima(aws_endpoint, namespace, name) for name in summary["metrics"]} == {
        name: [value] for name, value in summary["metrics"].items()
    }
    (message,) = messages(aws_endpoint, topic[1])
    assert message["Subject"] == f"Bucketwheel local: {WIDE} finished, snapshot 2025-10-22"
    assert summary["run"] in message["Message"]
    assert lines
    assert not [
        line for line in lines if json.loads(line).get("message", "").startswith(("metrics", "no notification"))
    ]


def test_missing_topic_is_a_warning_of_a_finished_run(project: Project, aws_endpoint: str) -> None:
    missing = f"arn:aws:sns:{REGION}:123456789012:missing"
    project.set(aws={"endpoint_url": aws_endpoint, "region": REGION}, monitoring={"topic_arn": missing})
    lines, failed = job(project, "--dataset", WIDE)
    assert failed is None
    events = [json.loads(line) for line in lines]
    (warning,) = [event for event in events if event.get("message", "").startswith("no notification")]
    assert (warning["level"], warning["dataset"]) == ("WARNING", WIDE)
    assert warning["message"].startswith(f"no notification was sent: topic {missing}: Publish failed: NotFound")
    assert read_summary(project)["warnings"][-1] == warning["message"]


def test_notify_uses_region_of_topic_arn(aws_endpoint: str) -> None:
    sns = plain_client("sns", aws_endpoint)
    elsewhere = f"arn:aws:sns:eu-central-1:123456789012:{uuid4().hex[:8]}"
    # moto uses the region for which the request is signed.
    with pytest.raises(BucketwheelError, match="NotFound"):
        open_aws_publisher(settings(aws_endpoint)).notify(elsewhere, "s", "t")
    here = sns.create_topic(Name=f"t-{uuid4().hex[:8]}")["TopicArn"]
    other = AwsSettings(endpoint_url=aws_endpoint, region="eu-west-1")
    open_aws_publisher(other).notify(here, "s", "t")


@contextmanager
def refusing(status: int, code: str) -> Iterator[str]:
    """Serve an error of the query protocol as the response to every call."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["Content-Length"]))
            body = f"<ErrorResponse><Error><Code>{code}</Code><Message>not you</Message></Error></ErrorResponse>"
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body.encode())

        def log_message(self, *_: object) -> None:
            pass

    with HTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.05,))
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()
            thread.join()


def test_denied_call_reports_missing_permission(aws_endpoint: str) -> None:
    topic = f"arn:aws:sns:{REGION}:123456789012:notices"
    denied = rf"^topic {topic}: Publish was denied \(not you\); the role needs"
    with refusing(403, "AuthorizationError") as endpoint, pytest.raises(BucketwheelError, match=denied):
        open_aws_publisher(settings(endpoint)).notify(topic, "s", "t")
    denied = "^metrics in namespace N: PutMetricData was denied "
    with refusing(403, "AccessDenied") as endpoint, pytest.raises(BucketwheelError, match=denied):
        open_aws_publisher(settings(endpoint)).put_metrics("N", [{"MetricName": "Rows", "Value": 1.0}])


@contextmanager
def silent() -> Iterator[str]:
    """Serve an endpoint that accepts connections and never responds."""
    with closing(socket.create_server(("127.0.0.1", 0), backlog=16)) as server:
        yield f"http://127.0.0.1:{server.getsockname()[1]}"


def closed_endpoint() -> str:
    with closing(socket.create_server(("127.0.0.1", 0))) as server:
        return f"http://127.0.0.1:{server.getsockname()[1]}"


def test_unreachable_service_delays_run_by_bounded_time(project: Project, aws_endpoint: str) -> None:
    project.set(
        aws={"endpoint_url": closed_endpoint(), "region": REGION},
        monitoring={"metrics": "put", "topic_arn": f"arn:aws:sns:{REGION}:123456789012:notices"},
    )
    begun = time.monotonic()
    lines, failed = job(project, "--dataset", WIDE)
    assert failed is None
    warnings = read_summary(project)["warnings"][-2:]
    assert [text.partition(":")[0] for text in warnings] == ["metrics were not published", "no notification was sent"]
    assert [text for line in lines if (text := json.loads(line).get("message")) in warnings] == warnings
    # Two attempts each, at most a second apart; the rest is the run itself.
    assert time.monotonic() - begun < 20


def test_publisher_limits_timeouts_and_attempts(aws_endpoint: str) -> None:
    with silent() as endpoint:
        publisher = open_aws_publisher(settings(endpoint, read_seconds=0.3))
        begun = time.monotonic()
        with pytest.raises(BucketwheelError, match="Read timeout"):
            publisher.put_metrics("N", [{"MetricName": "Rows", "Value": 1.0}])
        assert time.monotonic() - begun < 5
    with closing(socket.create_server(("127.0.0.1", 0))) as server:
        calls = []

        def count() -> None:
            while True:
                try:
                    connection, _ = server.accept()
                except OSError:
                    return
                calls.append(time.monotonic())
                connection.close()

        thread = threading.Thread(target=count, daemon=True)
        thread.start()
        endpoint = f"http://127.0.0.1:{server.getsockname()[1]}"
        with pytest.raises(BucketwheelError, match="Connection was closed"):
            open_aws_publisher(settings(endpoint, attempts=50)).put_metrics(
                "N", [{"MetricName": "Rows", "Value": 1.0}]
            )
        assert len(calls) == 2
        server.shutdown(socket.SHUT_RDWR)
    thread.join(5)


def own_process(project: Project, program: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run `program` with the arguments of a job in a process of its own."""
    given = ["--dataset", WIDE, "--config-dir", str(project.conf), *arguments]
    return subprocess.run(
        [sys.executable, "-c", f"import sys; from bucketwheel.cli.job import main; {program}", *given],
        capture_output=True, text=True, timeout=120, check=False, env=environment(), cwd=project.root,
    )  # fmt: skip


def test_boto3_is_not_imported_when_nothing_is_published(project: Project) -> None:
    program = "main(sys.argv[1:]); assert not {'boto3', 'botocore'} & set(sys.modules)"
    done = own_process(project, program, "--stages", ",".join(DATA))
    assert (done.returncode, done.stderr) == (0, "")


def test_missing_boto3_warning_names_package(project: Project) -> None:
    project.set(monitoring={"metrics": "put"})
    done = own_process(project, "sys.modules['boto3'] = None; main(sys.argv[1:])", "--stages", "discover")
    assert (done.returncode, done.stderr) == (0, "")
    assert read_summary(project)["warnings"][-1].endswith(
        "publishing metrics and notifications needs the package 'boto3'; pip install 'bucketwheel[aws]'"
    )
