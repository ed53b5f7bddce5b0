from __future__ import annotations

import pytest

from watchstep.core.engine import RuleSet
from watchstep.rules import load


@pytest.fixture(scope="module")
def rules() -> RuleSet:
    return load(["ppo", "generic"])
