"""A strategy of your own, in one file and without a change to rait.

    python examples/own_strategy.py run default strategies=[craft,middling] --out my-run

Everything that `rait` can do is there, and the strategy can be named wherever those of rait can: in recipes, in
`rait construct`, in `rait compare`. From Python, import this file before `rait.run` is called.
"""

from rait.cli import main
from rait.construction import Plan, Queue, most_certain, split_by_correctness, strategy


@strategy("middling")
def middling(states, evidence, settings):
    """The most certain of the known; of the unknown those that are nearly known, where an answer is most tempting."""
    known, unknown, left_out = split_by_correctness(states, settings)
    tempting = sorted(unknown, key=lambda state: (-state.correctness, state.id))
    return Plan(most_certain(known), Queue("most nearly known", tuple(tempting)), left_out)


if __name__ == "__main__":
    main()
