from __future__ import annotations

from collections.abc import Iterator

import pytest
import responses


@pytest.fixture(autouse=True)
def mocked_responses(request: pytest.FixtureRequest) -> Iterator[responses.RequestsMock | None]:
    """Answer every request from stubs, none of which may go unused; ``network`` turns it off."""
    if request.node.get_closest_marker("network"):
        yield None
        return
    with responses.RequestsMock(assert_all_requests_are_fired=True) as stubs:
        yield stubs
