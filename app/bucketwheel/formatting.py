"""Format numbers, sizes, times and tables for the terminal, the report and notifications."""

from __future__ import annotations

import html
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime

from bucketwheel.safe_text import one_line, several_lines


def count_text(value: float) -> str:
    """Return a number, rounded to an integer, with commas."""
    return f"{round(value):,}"


def size_text(value: float, brief: bool = False) -> str:
    """Return a number of bytes with a decimal unit, such as 12.3 MB; for `brief` see `scaled_text`."""
    return scaled_text(value, ("B", "kB", "MB", "GB", "TB"), brief)


def scaled_text(value: float, units: Sequence[str], brief: bool = False) -> str:
    """Return a number with the unit that fits it, each unit being 1,000 of the previous one.

    Numbers have one decimal, and none in the first unit. `brief` is for the labels of axes: at most three digits,
    without trailing zeros.
    """
    for power, unit in enumerate(units):
        number = f"{value:.3g}" if brief else f"{value:.1f}" if power else f"{value:.0f}"
        # The rounded number decides: 999.96 kB is 1.0 MB.
        if abs(float(number)) < 1000 or unit == units[-1]:
            break
        value /= 1000
    return f"{number} {unit}".rstrip()


def seconds_text(value: float) -> str:
    """Return a duration of `value` seconds in hours, minutes and seconds."""
    if value < 59.95:
        return f"{value:.3g}\u00a0s" if value >= 0.001 else "0\u00a0s"
    minutes, seconds = divmod(round(value), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}\u00a0h {minutes:02}\u00a0min" if hours else f"{minutes}\u00a0min {seconds:02}\u00a0s"


def percent_text(share: float) -> str:
    """Return a share between 0 and 1 in percent."""
    return "<\u00a00.001\u00a0%" if 0 < share < 0.00001 else f"{100 * share:.3g}\u00a0%"


def time_text(text: str) -> str:
    """Return an ISO time in UTC; other text, and a time without an offset, is returned unchanged."""
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        return text
    return moment.astimezone(UTC).strftime("%Y-%m-%d %H:%M:%S UTC") if moment.tzinfo else text


def table(header: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """Return a table with aligned columns; numbers are aligned right, control characters escaped."""
    cells = [[one_line(cell) for cell in row] for row in [header, *rows]]
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


def html_table(header: Sequence[str], rows: Iterable[Sequence[object]], title: str = "") -> str:
    """Return a table as HTML, for notebooks; the title is above it."""
    head = "".join(f"<th>{html.escape(several_lines(name))}</th>" for name in header)
    body = "".join(
        "<tr>" + "".join(f"<td>{html.escape(several_lines(cell))}</td>" for cell in row) + "</tr>" for row in rows
    )
    above = f"<p>{html.escape(several_lines(title))}</p>" if title else ""
    return f"{above}<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"


def html_list(lines: Iterable[str]) -> str:
    """Return lines as an HTML list; empty without lines."""
    items = "".join(f"<li>{html.escape(several_lines(line))}</li>" for line in lines)
    return f"<ul>{items}</ul>" if items else ""


def listed(names: Sequence[str], most: int) -> str:
    """Return the first `most` names and the number of the others, such as `a, b and 3 more`; invisibles escaped."""
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(map(one_line, names[:most])) + more


def shortened(names: Sequence[str], most: int) -> str:
    """Return the first `most` names, and `…` if there are others; invisible characters are escaped."""
    return ", ".join(map(one_line, names[:most])) + (", …" if len(names) > most else "")


def _is_number(cell: str) -> bool:
    return cell[:1].isdigit() or cell == "-"


def counted(count: int, noun: str) -> str:
    """Return the count with the noun in singular or plural, such as `1 column` or `1,200 columns`."""
    return f"{count:,} {noun}" if count == 1 else f"{count:,} {noun}s"
