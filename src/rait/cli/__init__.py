"""The command line. It reads arguments, calls the library and prints; it decides nothing.

Results go to standard output, progress and remarks to standard error. Exit codes: 0 done, 1 failed, 2 wrong use,
130 interrupted (143 by SIGTERM).
"""

import errno
import io
import os
import sys
import warnings

from rait.cli.stopping import Stopped, leave, stoppable
from rait.errors import RaitError, RecipeError
from rait.inert import presentable


def main() -> None:
    """Run the command line; what the user can mend ends in one sentence, a bug in a traceback."""
    _open_streams()
    try:
        with stoppable():
            sys.exit(_run())
    except Stopped as stopped:
        sys.stdout.flush()
        leave(stopped.number)
    except RaitError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2 if isinstance(error, RecipeError) else 1)
    except BrokenPipeError:  # whoever read what is printed has gone, as `head` does
        _discard_output()
        sys.exit(1)
    except OSError as error:
        if error.filename and error.errno is not None:
            print(presentable(f"error: {error.filename}: {error.strerror}"), file=sys.stderr)
        elif error.errno == errno.ENOSPC:  # no file of ours, each of which has its own words for it
            _discard_output()
            print("error: cannot print what came out: no space left; send it elsewhere", file=sys.stderr)
        else:
            raise
        sys.exit(1)
    except Exception as error:
        show = getattr(error, "show", None)
        if show is None:
            raise
        show()  # wrong use, in the words of the library that reads the command line
        sys.exit(getattr(error, "exit_code", 2))


def _run() -> int:
    """The command of the process's arguments; its exit code."""
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    os.environ.setdefault("ONEDNN_PRIMITIVE_CACHE_CAPACITY", "128")  # of 1024 kernels, few would be used again
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    if not sys.stderr.isatty():
        os.environ.setdefault("TQDM_DISABLE", "1")  # the libraries' own bars would fill a log
    # What one library says to another about names that will change is not for the user.
    warnings.filterwarnings("ignore", category=FutureWarning, module="transformers|trl|peft")
    from rait.cli.commands import app  # only now that Ctrl-C is awaited

    code = app(standalone_mode=False)
    sys.stdout.flush()  # what fails is to fail here, and not when the interpreter ends
    return code if isinstance(code, int) else 0


def _open_streams() -> None:
    """Have all three streams, also where whoever started this closed one, and let them print any character."""
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        stream = getattr(sys, name)
        if stream is None:
            setattr(sys, name, open(os.devnull, mode))  # noqa: SIM115  as long as the process
        elif mode == "w" and isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def _discard_output() -> None:
    """Keep the interpreter from trying again to print what could not be printed."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
