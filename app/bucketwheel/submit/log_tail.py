"""New lines of a run's log in CloudWatch, each once, and why there are none where the log cannot be read."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from botocore.exceptions import BotoCoreError, ClientError

from bucketwheel.aws import clients
from bucketwheel.settings import AwsSettings
from bucketwheel.submit.follow import is_temporary

# So many new lines at a time; the next look goes on behind them.
MOST_LINES = 1_000
# Events can come so much later than others of their time.
_LATE_MS = 60_000
_NOT_THERE_YET = "ResourceNotFoundException"


class Tail:
    """The log of one run."""

    def __init__(self, settings: AwsSettings, group: str, streams: str) -> None:
        self._client = clients.client("logs", settings)
        self._group, self._streams = group, streams
        # A pass over the log takes several looks where there is much that is new; then `_token` says where it is.
        self._since, self._token = 0, ""
        self._seen: dict[str, int] = {}
        self._fault: Exception | None = None
        self._told = False

    def lines(self) -> tuple[str, ...]:
        """Return the lines since the last call; none where the log is not there yet or cannot be read."""
        found: list[str] = []
        self._fault = None
        while len(found) < MOST_LINES:
            try:
                answer = self._page()
            except (ClientError, BotoCoreError) as error:
                # The run counts, not its log; a new pass brings what this one has not.
                self._fault, self._token = error, ""
                break
            found += self._unseen(answer["events"])
            self._token = answer.get("nextToken") or ""
            if not self._token:
                self._begin_anew()
                break
        return tuple(found)

    def trouble(self, last: bool = False) -> str:
        """Return why the log could not be read when it was looked at, once; empty where it could.

        Args:
            last: no other look follows, so that a reason which may pass counts too.
        """
        fault = self._fault
        if fault is None or self._told or not (last or self._stays(fault)):
            return ""
        self._told = True
        missing = clients.code_of(fault) == _NOT_THERE_YET
        why = "it is not there; `bucketwheel deploy apply` makes it" if missing else clients.explained(fault)
        return f"the log of the run cannot be shown: log group {self._group}: {why}"

    def _stays(self, fault: Exception) -> bool:
        return clients.code_of(fault) != _NOT_THERE_YET and not is_temporary(fault)

    def _page(self) -> dict[str, Any]:
        more = {"nextToken": self._token} if self._token else {}
        answer: dict[str, Any] = self._client.filter_log_events(
            logGroupName=self._group,
            logStreamNamePrefix=self._streams,
            startTime=self._since,
            limit=MOST_LINES,
            **more,
        )
        return answer

    def _unseen(self, events: list[dict[str, Any]]) -> Iterator[str]:
        for event in events:
            # Not every emulator keeps to the prefix.
            if event["logStreamName"].startswith(self._streams) and event["eventId"] not in self._seen:
                self._seen[event["eventId"]] = event["timestamp"]
                yield event["message"].rstrip("\n")

    def _begin_anew(self) -> None:
        """Have the next look begin where events may still come, and forget what lies before."""
        self._since = max(max(self._seen.values(), default=0) - _LATE_MS, self._since)
        self._seen = {event: time for event, time in self._seen.items() if time >= self._since}
