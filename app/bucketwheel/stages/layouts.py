"""Name the layout in messages about one of several."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from bucketwheel.runs.manifest import LayoutSize, SizeResult
from bucketwheel.settings import Layout, Settings, resolved_layouts


def layout_settings(layout: LayoutSize, settings: Settings) -> Layout:
    """Return the settings of a layout of a run, which was planned with them or with the same values."""
    first, *others = resolved_layouts(settings)
    return next(other for other in others if other.name == layout.name) if layout.id else first


def label(size: SizeResult, layout: LayoutSize) -> str:
    """Return the start of a message about a layout; empty if it is the only one."""
    return f"layout {layout.name}: " if len(size.layouts) > 1 else ""


def labeled_once(size: SizeResult, messages: Iterable[tuple[LayoutSize, str]]) -> Iterator[str]:
    """Yield messages about layouts, each once, with the names of the layouts that it is about."""
    about: dict[str, list[str]] = {}
    for layout, message in messages:
        about.setdefault(message, []).append(layout.name)
    for message, names in about.items():
        if len(size.layouts) == 1:
            yield message
        else:
            yield f"{'layout' if len(names) == 1 else 'layouts'} {' and '.join(names)}: {message}"


def labeled(size: SizeResult, layout: LayoutSize, messages: Iterable[str]) -> Iterator[str]:
    """Yield messages about a layout, each with its name."""
    return (f"{label(size, layout)}{message}" for message in messages)
