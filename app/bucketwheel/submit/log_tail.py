"""Read the new lines of a run's log in CloudWatch, each line once."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from botocore.exceptions import BotoCoreError, ClientError

from bucketwheel.aws import clients
from bucketwheel.aws.errors import code_of, explain, is_temporary
from bucketwheel.settings import AwsSettings

if TYPE_CHECKING:
    from mypy_boto3_logs.type_defs import FilteredLogEventTypeDef, FilterLogEventsResponseTypeDef

# Maximum number of lines per call; the next call continues after them.
MOST_LINES = 1_000
# Events may arrive this much later than others with the same time.
_LATE_MS = 60_000
_NOT_THERE_YET = "ResourceNotFoundException"


class Tail:
    """The log of one run."""

    def __init__(self, settings: AwsSettings, group: str, streams: str) -> None:
        self._client = clients.client("logs", settings)
        self._group, self._streams = group, streams
        # Reading many new lines takes several calls; `_token` is the position between them.
        self._since, self._token = 0, ""
        self._seen: dict[str, int] = {}
        self._fault: ClientError | BotoCoreError | None = None
        self._reported = False

    def lines(self) -> tuple[str, ...]:
        """Return the lines since the last call; none if the log does not exist yet or cannot be read."""
        new: list[str] = []
        self._fault = None
        while len(new) < MOST_LINES:
            try:
                answer = self._page()
            except (ClientError, BotoCoreError) as error:
                # The run matters more than its log; the next pass reads the missing lines.
                self._fault, self._token = error, ""
                break
            new += self._unseen(answer["events"])
            self._token = answer.get("nextToken") or ""
            if not self._token:
                self._restart()
                break
        return tuple(new)

    def trouble(self, last: bool = False) -> str:
        """Return why the log could not be read, the first time only; otherwise an empty text.

        Args:
            last: whether this is the last call, which also returns temporary reasons.
        """
        fault = self._fault
        if fault is None or self._reported or not (last or self._stays(fault)):
            return ""
        self._reported = True
        missing = code_of(fault) == _NOT_THERE_YET
        why = "it does not exist; `bucketwheel deploy apply` creates it" if missing else explain(fault)
        return f"the log of the run cannot be shown: log group {self._group}: {why}"

    def _stays(self, fault: Exception) -> bool:
        return code_of(fault) != _NOT_THERE_YET and not is_temporary(fault)

    def _page(self) -> FilterLogEventsResponseTypeDef:
        more: dict[str, Any] = {"nextToken": self._token} if self._token else {}
        return self._client.filter_log_events(
            logGroupName=self._group,
            logStreamNamePrefix=self._streams,
            startTime=self._since,
            limit=MOST_LINES,
            **more,
        )

    def _unseen(self, events: list[FilteredLogEventTypeDef]) -> Iterator[str]:
        for event in events:
            # Some emulators ignore the prefix.
            if event["logStreamName"].startswith(self._streams) and event["eventId"] not in self._seen:
                self._seen[event["eventId"]] = event["timestamp"]
                yield event["message"].rstrip("\n")

    def _restart(self) -> None:
        """Start the next pass early enough for late events, and forget older ones."""
        self._since = max(max(self._seen.values(), default=0) - _LATE_MS, self._since)
        self._seen = {event: time for event, time in self._seen.items() if time >= self._since}
