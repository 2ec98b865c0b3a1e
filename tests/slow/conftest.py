"""The tiny world of the integration tests, for slow tests that need no real model."""

from integration.conftest import world  # noqa: F401
