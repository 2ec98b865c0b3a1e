"""The command line. It reads arguments, calls the library and prints; it decides nothing.

Results go to standard output, progress and remarks to standard error. Exit codes: 0 done, 1 failed, 2 wrong use,
130 interrupted (143 by SIGTERM).
"""

import os
import signal
import sys
import warnings
from typing import Any

import typer

# They register their commands, in the order in which `rait --help` lists them.
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
from rait.errors import RaitError, RecipeError


class _Stopped(BaseException):
    """The process was asked to end, by Ctrl-C (SIGINT) or SIGTERM; its argument is the signal's number."""


def _stop(number: int, frame: Any) -> None:
    raise _Stopped(number)


def main() -> None:
    """Run the command line; what the user can mend ends in one sentence, a bug in a traceback."""
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    os.environ.setdefault("ONEDNN_PRIMITIVE_CACHE_CAPACITY", "128")  # of 1024 kernels, few would be used again
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    if not sys.stderr.isatty():
        os.environ.setdefault("TQDM_DISABLE", "1")  # the libraries' own bars would fill a log
    # What one library says to another about names that will change is not for the user.
    warnings.filterwarnings("ignore", category=FutureWarning, module="transformers|trl|peft")
    # Our own exception: libraries on the way turn KeyboardInterrupt into exit codes of their own.
    before = {
        number: signal.signal(number, _stop)
        for number in (signal.SIGINT, signal.SIGTERM)
        if signal.getsignal(number) is not signal.SIG_IGN
    }
    try:
        code = app(standalone_mode=False)
        sys.exit(code if isinstance(code, int) else 0)
    except typer.Exit as leave:
        sys.exit(leave.exit_code)
    except _Stopped as stopped:
        print("\nInterrupted. Whatever was saved is kept: give the same command again to go on.", file=sys.stderr)
        sys.exit(128 + stopped.args[0])
    except RaitError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2 if isinstance(error, RecipeError) else 1)
    except OSError as error:
        if error.errno is None or not error.filename:
            raise
        print(f"error: {error.filename}: {error.strerror}", file=sys.stderr)
        sys.exit(1)
    except Exception as error:
        show = getattr(error, "show", None)
        if show is None:
            raise
        show()  # wrong use, in the words of the library that reads the command line
        sys.exit(getattr(error, "exit_code", 2))
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
