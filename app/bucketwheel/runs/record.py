"""Base of the documents that a run writes."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict


class Record(BaseModel):
    """A frozen document part."""

    model_config = ConfigDict(frozen=True, extra="forbid")
