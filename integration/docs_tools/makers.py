"""The function that generates each part of a page."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from . import models, program
from .parts import Maker

MAKERS: Final[Mapping[str, Maker]] = {
    "pages": program.page_table,
    "first run": program.first_run_tables,
    "settings": models.settings,
    "manifest": models.manifest_fields,
    "command table": program.command_table,
    "shared options": program.shared_options,
    "command sections": program.command_sections,
    "job arguments": program.job_arguments,
    "old names": program.old_names,
    "metrics": program.metric_table,
    "metrics in short": program.short_metric_table,
    "exit codes": program.exit_codes,
    "errors": program.error_table,
}
