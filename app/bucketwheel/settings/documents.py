"""Read YAML within bounds, so that no document takes all memory or ends in a traceback."""

from __future__ import annotations

from collections.abc import Hashable
from typing import Any

import yaml

from bucketwheel.errors import ConfigError

MAX_BYTES = 2**20
MAX_DEPTH = 50
# With every alias replaced by what it stands for.
MAX_VALUES = 100_000
_SHOWN = 40


class _RefusedError(ConfigError):
    """The document is YAML, but not a configuration; `parse_yaml` adds its name."""


class _Loader(yaml.SafeLoader):
    """Reads YAML and refuses what a configuration never contains.

    A key that is given twice is refused, because one of the two values would be lost silently.
    """

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self._depth = 0
        # For each node, the number of values in it and its depth, with every alias replaced.
        self._measures: dict[int, tuple[int, int]] = {}

    def compose_node(self, parent: yaml.Node | None, index: int) -> yaml.Node | None:
        """Compose a node and measure it; nodes that aliases name are measured already."""
        line = self.peek_event().start_mark.line + 1  # type: ignore[no-untyped-call]
        is_alias = self.check_event(yaml.AliasEvent)
        self._depth += 1
        if self._depth > MAX_DEPTH:
            raise _RefusedError(f"nested more than {MAX_DEPTH} levels deep (line {line}); flatten it")
        node = super().compose_node(parent, index)
        self._depth -= 1
        if node is None:
            return None
        if is_alias and id(node) not in self._measures:
            raise _RefusedError(f"an alias stands for a value that contains it (line {line}); write the value out")
        if not is_alias:
            self._measures[id(node)] = self._measured(node)
        count, depth = self._measures[id(node)]
        if count > MAX_VALUES or depth > MAX_DEPTH:
            raise _RefusedError(
                f"aliases stand for more than {MAX_VALUES:,} values or {MAX_DEPTH} levels (line {line}); use fewer"
            )
        return node

    def _measured(self, node: yaml.Node) -> tuple[int, int]:
        parts: list[yaml.Node] = []
        if isinstance(node, yaml.MappingNode):
            parts = [part for pair in node.value for part in pair]
        elif isinstance(node, yaml.SequenceNode):
            parts = node.value
        measures = [self._measures[id(part)] for part in parts]
        return 1 + sum(count for count, _ in measures), 1 + max((depth for _, depth in measures), default=0)

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        """Return a mapping, as the base class does."""
        seen = set()
        for key, _ in node.value:
            if isinstance(key, yaml.ScalarNode):
                if key.value in seen:
                    raise _RefusedError(f"{key.value!r} is set twice (line {key.start_mark.line + 1})")
                seen.add(key.value)
        return super().construct_mapping(node, deep)

    def construct_object(self, node: yaml.Node, deep: bool = False) -> Any:
        """Return a value, as the base class does; that fails with ValueError for the date 2025-13-45."""
        try:
            return super().construct_object(node, deep)
        except (ValueError, OverflowError) as error:
            text = str(node.value)
            shown = text if len(text) <= _SHOWN else f"{text[:_SHOWN]}…"
            raise _RefusedError(
                f"cannot read the value {shown!r} (line {node.start_mark.line + 1}: {error}); correct it, or quote it"
            ) from error


def parse_yaml(text: str | bytes, name: str) -> Any:
    """Return the value of a YAML text, as UTF-8 if it is bytes; errors refer to it by `name`.

    Raises:
        ConfigError: it is too large, too deep, or repeats a key.
        yaml.YAMLError: it is not YAML.
        UnicodeDecodeError: it is not UTF-8.
    """
    if len(text) > MAX_BYTES:
        raise ConfigError(f"{name}: has more than {MAX_BYTES:,} bytes, which is no configuration; name another file")
    loader = _Loader(text if isinstance(text, str) else text.decode())
    loader.name = name
    try:
        return loader.get_single_data()
    except _RefusedError as error:
        raise ConfigError(f"{name}: {error}") from error
    finally:
        loader.dispose()
