from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

import pytest
from botocore.exceptions import BotoCoreError, ClientError, ConnectTimeoutError, NoCredentialsError

from bucketwheel.aws import errors
from bucketwheel.aws.clients import client_config, make_client
from bucketwheel.aws.retry import retry, retry_throttled
from submit_support import answered


def refusal(code: str, status: int = 400) -> ClientError:
    response = {"Error": {"Code": code}, "ResponseMetadata": {"HTTPStatusCode": status}}
    return ClientError(response, "GetTable")  # type: ignore[arg-type,unused-ignore]


class Clock:
    def __init__(self) -> None:
        self.now = 100.0
        self.pauses: list[float] = []

    def sleep(self, seconds: float) -> None:
        self.pauses.append(seconds)
        self.now += seconds


def failing(*failures: Exception) -> Callable[[], str]:
    left = list(failures)

    def action() -> str:
        if left:
            raise left.pop(0)
        return "done"

    return action


def test_retry_pauses_between_attempts_and_returns_the_result() -> None:
    clock = Clock()
    action = failing(refusal("Throttling"), refusal("SlowDown"))
    assert retry(action, errors.is_throttled, [1, 2, 3], clock.sleep) == "done"
    assert clock.pauses == [1, 2]


def test_retry_logs_each_repeated_call(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "bucketwheel")
    retry(failing(refusal("SlowDown")), errors.is_throttled, [1], Clock().sleep)
    (record,) = caplog.records
    assert record.getMessage().startswith(
        "a call to AWS failed and is repeated in 1.0 s: An error occurred (SlowDown)"
    )


def test_client_logs_throttled_attempts(caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch) -> None:
    caplog.set_level(logging.INFO, "bucketwheel")
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "testing")
    client = make_client("glue", "us-east-1", "http://127.0.0.1:1", client_config(1, 1, 1))

    def throttle(request: Any, **_: Any) -> Any:
        return answered(request, 400, "ThrottlingException", "Rate exceeded")

    client.meta.events.register("before-send.glue.GetTable", throttle)
    with pytest.raises(ClientError):
        client.get_table(DatabaseName="d", Name="t")
    assert [record.getMessage() for record in caplog.records if record.name == "bucketwheel"] == [
        "AWS throttled attempt 1 of GetTable: ThrottlingException"
    ]


def test_retry_without_pauses_left_raises_the_last_error() -> None:
    last = refusal("SlowDown")
    with pytest.raises(ClientError) as raised:
        retry(failing(refusal("Throttling"), last), errors.is_throttled, [1], Clock().sleep)
    assert raised.value is last


def test_retry_raises_other_errors_at_once() -> None:
    clock = Clock()
    with pytest.raises(ClientError, match="AccessDenied"):
        retry_throttled(failing(refusal("AccessDenied")), 60, clock.sleep, lambda: clock.now)
    assert clock.pauses == []


def test_retry_throttled_backs_off_until_its_time_is_over() -> None:
    clock = Clock()
    with pytest.raises(ClientError, match="ThrottlingException"):
        retry_throttled(failing(*[refusal("ThrottlingException")] * 99), 60, clock.sleep, lambda: clock.now)
    assert 40 < clock.now - 100 <= 60
    for number, pause in enumerate(clock.pauses):
        longest = min(0.2 * 2**number, 10)
        assert longest / 2 <= pause <= longest


@pytest.mark.parametrize(
    ("error", "denied", "expired", "throttled", "temporary"),
    [
        (refusal("AccessDenied"), True, False, False, False),
        (refusal("AuthorizationError"), True, False, False, False),
        (refusal("ExpiredToken"), False, True, False, False),
        (refusal("TooManyRequestsException"), False, False, True, True),
        (refusal("Whatever", 503), False, False, False, True),
        (refusal("ValidationException"), False, False, False, False),
        (ConnectTimeoutError(endpoint_url="http://x"), False, False, False, True),
        (NoCredentialsError(), False, False, False, False),
        (ValueError("no AWS error"), False, False, False, False),
    ],
)
def test_error_has_one_class(error: Exception, denied: bool, expired: bool, throttled: bool, temporary: bool) -> None:
    classes = (errors.is_denied, errors.is_expired, errors.is_throttled, errors.is_temporary)
    assert [check(error) for check in classes] == [denied, expired, throttled, temporary]


def test_base_error_of_botocore_is_temporary() -> None:
    assert errors.is_temporary(BotoCoreError())
