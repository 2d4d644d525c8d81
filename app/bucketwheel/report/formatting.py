"""Numbers, sizes and times as the report shows them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import UTC, datetime


def count_text(value: float) -> str:
    """Return a whole number with commas."""
    return f"{round(value):,}"


def size_text(value: float, brief: bool = False) -> str:
    """Return bytes with a decimal unit; for `brief` see `scaled`."""
    return scaled(value, ("B", "kB", "MB", "GB", "TB", "PB", "EB"), brief)


def scaled(value: float, units: Sequence[str], brief: bool) -> str:
    """Return three digits and a unit; `brief` is for axes, where 60 MB says as much as 60.0 MB."""
    place = 0
    while value >= 999.5 and place < len(units) - 1:
        value, place = value / 1000, place + 1
    number = f"{value:.3g}" if brief or place == 0 else f"{value:#.3g}".rstrip(".")
    return f"{number}\u00a0{units[place]}".rstrip()


def seconds_text(value: float) -> str:
    """Return a duration, given in seconds, in the units that fit it."""
    if value < 59.95:
        return f"{value:.3g}\u00a0s" if value >= 0.001 else "0\u00a0s"
    minutes, seconds = divmod(round(value), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}\u00a0h {minutes:02}\u00a0min" if hours else f"{minutes}\u00a0min {seconds:02}\u00a0s"


def percent_text(share: float) -> str:
    """Return a share, 0 to 1, in percent."""
    return "<\u00a00.001\u00a0%" if 0 < share < 0.00001 else f"{100 * share:.3g}\u00a0%"


def time_text(text: str) -> str:
    """Return an ISO time in UTC; what is none comes back as it is."""
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        return text
    return moment.astimezone(UTC).strftime("%Y-%m-%d %H:%M:%S UTC") if moment.tzinfo else text


def size(count: float) -> str:
    """Return bytes with a decimal unit, such as 12.3 MB."""
    for unit in ("B", "kB", "MB", "GB", "TB"):
        text = f"{count:.0f}" if unit == "B" else f"{count:.1f}"
        if abs(float(text)) < 1000 or unit == "TB":
            return f"{text} {unit}"
        count /= 1000
    raise AssertionError("unreachable")


def table(header: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """Return aligned columns; numbers to the right."""
    cells = [[str(cell) for cell in row] for row in [header, *rows]]
    widths = [max(len(row[i]) for row in cells) for i in range(len(header))]
    right = [i > 0 and all(_is_number(row[i]) for row in cells[1:]) for i in range(len(header))]
    lines = [
        "  ".join(
            cell.rjust(width) if flush else cell.ljust(width)
            for cell, width, flush in zip(row, widths, right, strict=True)
        ).rstrip()
        for row in cells
    ]
    return "\n".join([lines[0], "  ".join("-" * width for width in widths), *lines[1:]])


def _is_number(cell: str) -> bool:
    return cell[:1].isdigit() or cell == "-"


def counted(count: int, noun: str) -> str:
    """Return the count with the noun in the right number, such as `1 column` or `1,200 columns`."""
    return f"{count:,} {noun}" if count == 1 else f"{count:,} {noun}s"
