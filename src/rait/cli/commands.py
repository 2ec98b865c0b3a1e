"""The app with all its commands."""

# They register themselves, in the order in which `rait --help` lists them.
# isort: off
from rait.cli import whole  # noqa: F401
from rait.cli import single  # noqa: F401
from rait.cli import look  # noqa: F401
from rait.cli import reports  # noqa: F401
from rait.cli import asking  # noqa: F401
from rait.cli import dial  # noqa: F401
from rait.cli import export  # noqa: F401

# isort: on
from rait.cli.common import app

__all__ = ["app"]
