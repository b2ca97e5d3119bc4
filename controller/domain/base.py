"""The frozen model that facts and values are made of."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict


class Fact(BaseModel):
    """Frozen, and closed to fields that nobody declared."""

    model_config = ConfigDict(frozen=True, extra="forbid", ser_json_inf_nan="constants")
