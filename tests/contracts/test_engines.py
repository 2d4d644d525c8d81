from __future__ import annotations

import pytest

from bucketwheel.contracts import Engine
from bucketwheel.engines.arrow import ArrowEngine
from bucketwheel.settings import Settings
from bucketwheel.testing.engine import EngineContract, MakeEngine


class TestArrowEngine(EngineContract):
    @pytest.fixture
    def make_engine(self) -> MakeEngine:
        def make(**settings: object) -> Engine:
            return ArrowEngine(Settings.model_validate(settings))

        return make
