"""Compare text with the words of docs/style-words.yaml and with the checks of proselint."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import yaml
from proselint.checks import __register__ as proselint_checks
from proselint.config import DEFAULT
from proselint.registry import CheckRegistry
from proselint.tools import LintFile

from .extract import Segment, name_segments, text_segments


@dataclass(frozen=True)
class Finding:
    """A forbidden word in a file and its replacement."""

    path: Path
    line: int
    word: str
    advice: str

    def __str__(self) -> str:
        return f"{self.path}:{self.line}: {self.word!r}: {self.advice}"


@dataclass(frozen=True)
class _Rule:
    pattern: re.Pattern[str]
    use: str


@dataclass(frozen=True)
class Style:
    """The rules of a project.

    Attributes:
        phrases: forbidden in text.
        package: forbidden in text of the package, below `app`.
        names: forbidden in identifiers.
        exempt: paths, relative to the project, that are not checked.
        proselint: configuration of proselint.
    """

    phrases: Sequence[_Rule]
    package: Sequence[_Rule]
    names: Sequence[_Rule]
    exempt: frozenset[Path]
    proselint: Any

    @classmethod
    def read(cls, path: Path) -> Style:
        """Return the rules of a file such as docs/style-words.yaml."""
        content = yaml.safe_load(path.read_text("utf-8"))
        off = dict.fromkeys(content["proselint_off"], False)
        return cls(
            [_rule(entry) for entry in content["phrases"]],
            [_rule(entry) for entry in content["package"]],
            [_rule(entry) for entry in content["names"]],
            frozenset(map(Path, content["exempt"])),
            # proselint takes the first entry that fits a check: the more specific ones have to come first.
            {**DEFAULT, "checks": {**off, **DEFAULT["checks"], **off}},
        )

    def check(self, path: Path, shown: Path) -> list[Finding]:
        """Return the findings of one file by line; `shown` is its path in messages."""
        segments = list(text_segments(path))
        findings = {
            *_matches(self.phrases, segments, shown),
            *_matches(self.package if shown.parts[0] == "app" else (), segments, shown),
            *_matches(self.names, list(name_segments(path)), shown),
            *self._proselint(segments, shown),
        }
        return sorted(findings, key=lambda finding: (finding.line, finding.word))

    def _proselint(self, segments: Sequence[Segment], shown: Path) -> Iterator[Finding]:
        """Check all segments as one text, separated by blank lines."""
        _register_checks()
        lines, numbers = list[str](), list[int]()
        for segment in segments:
            for offset, line in enumerate(segment.text.splitlines()):
                lines.append(line)
                numbers.append(segment.line + offset)
            lines.append("")
            numbers.append(segment.line)
        text = "\n".join(lines)
        if not text.strip():
            return
        file = LintFile(str(shown), text)
        for result in file.lint(self.proselint):
            checked = result.check_result
            # proselint puts one line break before the text.
            number = file.content.count("\n", 0, checked.span[0] + 1) - 1
            word = " ".join(file.content[slice(*checked.span)].split())
            yield Finding(shown, numbers[max(number, 0)], word, f"{checked.message} ({checked.check_path})")


def _rule(entry: Mapping[str, str]) -> _Rule:
    return _Rule(re.compile(entry["words"].replace(" ", r"\s+"), re.IGNORECASE), entry["use"])


def _matches(rules: Sequence[_Rule], segments: Sequence[Segment], shown: Path) -> Iterator[Finding]:
    for segment in segments:
        for rule in rules:
            for match in rule.pattern.finditer(segment.text):
                line = segment.line + segment.text.count("\n", 0, match.start())
                yield Finding(shown, line, " ".join(match[0].split()), f"use {rule.use}")


@cache
def _register_checks() -> None:
    CheckRegistry().register_many(proselint_checks)
