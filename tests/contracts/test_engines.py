from __future__ import annotations

import pytest
from engine_contract import EngineContract, MakeEngine

from bucketwheel.contracts import Engine
from bucketwheel.engines.arrow import ArrowEngine
from bucketwheel.settings import Settings


class TestArrowEngine(EngineContract):
    @pytest.fixture
    def make_engine(self) -> MakeEngine:
        def make(**settings: object) -> Engine:
            return ArrowEngine(Settings.model_validate(settings))

        return make
