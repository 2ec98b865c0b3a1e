"""What is done about memory: a limit that the user sets, and smaller forward passes where it does not suffice.

    with limited(gib):
        for index, found in halving(enumerate(texts), 768, attempt, say):
            ...         # attempt(items, rows) yields (index, what was found) with about so many rows a pass

Work that is cut short by lack of memory is begun again with half the rows, as often as need be. What was found before
stays; what was under way is asked once more. How many rows are read together changes results by rounding alone.
"""

import resource
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from functools import update_wrapper
from typing import Concatenate, ParamSpec, TypeVar

from rait.errors import ModelError, RecipeError, first_line
from rait.models.loading import release
from rait.progress import Say
from rait.recipe import Recipe

Item = TypeVar("Item")
Result = TypeVar("Result")
P = ParamSpec("P")
Items = Iterator[tuple[int, Item]]

TOGETHER = 1024
"""Questions whose options are scored at a time: those that begin alike are read as one."""

LEAST_ROWS = 12
"""A forward pass of fewer rows than twice this is not halved any more."""

_SIGNS = (
    "out of memory",
    "can't allocate memory",
    "DefaultCPUAllocator",
    "ALLOC_FAILED",
    "bad_alloc",
    "bad allocation",
)


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error says that there is no memory left, on a GPU or in the main memory."""
    if isinstance(error, MemoryError):
        return True
    return isinstance(error, RuntimeError) and (
        type(error).__name__ == "OutOfMemoryError" or any(sign in str(error) for sign in _SIGNS)
    )


def halving(
    items: Iterable[tuple[int, Item]],
    rows: int,
    attempt: Callable[[Items[Item], int], Iterator[tuple[int, Result]]],
    say: Say,
) -> Iterator[tuple[int, Result]]:
    """Yield what `attempt` finds of all `items`, each with its index, halving `rows` where memory runs out.

    `attempt` takes items, which are read as it goes on, and the number of rows of a pass. `say` is told of each
    halving. Raises `ModelError` where memory runs out with the fewest rows.
    """
    source = iter(items)
    under_way: dict[int, Item] = {}

    def taken(again: Sequence[tuple[int, Item]]) -> Iterator[tuple[int, Item]]:
        yield from again
        while True:
            try:
                index, item = next(source)
            except StopIteration:
                return
            except MemoryError as error:  # an item is lost, and those behind it would get its index
                raise ModelError("out of memory while questions were read; free some memory and start again") from error
            under_way[index] = item
            yield index, item

    while True:
        try:
            for index, result in attempt(taken(list(under_way.items())), rows):
                del under_way[index]
                yield index, result
            return
        except (RuntimeError, MemoryError) as error:
            if not is_out_of_memory(error):
                raise
            problem = first_line(error)
        release()  # out of the block above, as the error holds on to what was under way
        rows = fewer(rows, problem, say)


def fewer(rows: int, problem: str, say: Say) -> int:
    """Half of `rows`, of which `say` is told; raise `ModelError` where these are the fewest."""
    if rows < 2 * LEAST_ROWS:
        raise ModelError(
            f"out of memory even with {rows} rows a forward pass ({problem}); end other programs, raise memory_limit "
            "if the recipe has one, or take a smaller model or model.dtype=bfloat16"
        )
    say(f"out of memory with {rows} rows a forward pass; going on with {rows // 2}")
    return rows // 2


@contextmanager
def limited(gib: float | None) -> Iterator[None]:
    """Hold this process to so many GiB inside the block: of the GPU's memory, or without one of main memory.

    In main memory the writable pages of the process count, used or not (RLIMIT_DATA). What goes beyond fails as lack of
    memory does. Raises `RecipeError` where the limit is below what the process has already, or above a hard one.
    """
    if gib is None:
        yield
        return
    import torch

    if torch.cuda.is_available():
        total = torch.cuda.get_device_properties(0).total_memory
        torch.cuda.set_per_process_memory_fraction(min(1.0, gib * 2**30 / total))
        try:
            yield
        finally:
            torch.cuda.set_per_process_memory_fraction(1.0)
        return
    soft, hard = resource.getrlimit(resource.RLIMIT_DATA)
    wanted, used = int(gib * 2**30), data_bytes()
    if wanted <= used or (hard != resource.RLIM_INFINITY and wanted > hard):
        most = "" if hard == resource.RLIM_INFINITY else f" and at most {hard / 2**30:.3g}"
        raise RecipeError(
            f"memory_limit={gib:g} GiB cannot be set: this process needs more than {used / 2**30:.3g} GiB{most}; give "
            "another limit, or none (memory_limit=null)"
        )
    resource.setrlimit(resource.RLIMIT_DATA, (wanted, hard))
    try:
        yield
    except (RuntimeError, MemoryError, SystemError) as error:  # the last is Python's own, where an import has no memory
        if not isinstance(error, SystemError) and not is_out_of_memory(error):
            raise
        raise ModelError(f"memory_limit={gib:g} GiB is too little for this ({first_line(error)}); raise it") from error
    finally:
        resource.setrlimit(resource.RLIMIT_DATA, (soft, hard))


def within_limit(command: Callable[Concatenate[Recipe, P], Result]) -> Callable[Concatenate[Recipe, P], Result]:
    """Hold a command, whose first argument is a recipe, to the recipe's `memory_limit`."""

    def inside(recipe: Recipe, /, *args: P.args, **settings: P.kwargs) -> Result:
        with limited(recipe.memory_limit):
            return command(recipe, *args, **settings)

    update_wrapper(inside, command)
    return inside


def data_bytes() -> int:
    """Bytes of main memory that count against a limit now; 0 where the system does not tell."""
    try:
        with open("/proc/self/status", encoding="ascii") as file:
            sizes = [line.split()[1] for line in file if line.startswith("VmData:")]
    except OSError:
        return 0
    return int(sizes[0]) * 1024 if sizes else 0
