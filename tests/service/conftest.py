"""What the tests of what is served share."""

from __future__ import annotations

import pytest

from tests.helpers import free_port


@pytest.fixture
def port() -> int:
    """One that nobody listens on."""
    return free_port()
