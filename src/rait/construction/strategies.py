"""Which questions are kept and which are relabelled "I don't know": one small pure function per strategy.

    | strategy    | vanilla (the answer is kept)     | idk (relabelled)                                     |
    |-------------|----------------------------------|------------------------------------------------------|
    | van_tuning  | at random from all, N_van + N_idk| none                                                 |
    | cor_rait    | at random from the known         | at random from the unknown (R-Tuning)                |
    | corcer_rait | the most certain of the known    | the least certain of the unknown (CRaFT w/o flow)    |
    | wo_cer      | at random from the known         | at random from the unknown and falling (w/o cer)     |
    | craft       | the most certain of the known    | the least certain of the unknown and falling (CRaFT) |

Known is mu >= tau, unknown is mu < tau, falling is d_mu < 0; `Construction` holds these parameters. A strategy puts
every question once into a `Plan`; `rait.construction.construct` takes the first N of each role and words the decisions.

A strategy of your own needs no change here. Write it in a file of yours and import that file before it is asked for:

    from rait.construction import Plan, least_certain, most_certain, split_by_correctness, strategy

    @strategy("timid")
    def timid(states, evidence, settings):
        '''The least certain of the known, for comparison.'''
        known, unknown, left_out = split_by_correctness(states, settings)
        return Plan(least_certain(known), least_certain(unknown), left_out)

The methods of others stand in `rait.construction.peers`.

Source: arXiv 2410.06913v2, section 4 and Algorithm 1; R-Tuning is arXiv 2311.09677.
"""

import difflib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

from rait.construction.labels import Labeller, Reader, answer_or_refusal, as_it_is
from rait.construction.source import code_of
from rait.errors import RecipeError
from rait.recipe import Construction
from rait.records import TOLERANCE, Influence, KnowledgeFlow, KnowledgeState, Role
from rait.seeding import ticket

Need = Literal["flows", "influences", "responses"]


@dataclass(frozen=True, slots=True)
class Queue:
    """The candidates of one role, first come first taken; `order` names the order in the decisions' reasons."""

    order: str
    states: tuple[KnowledgeState, ...]


@dataclass(frozen=True, slots=True)
class Plan:
    """Every question once: in the queue of a role, or in `left_out`, which maps its id to the reason.

    A reason reads "kind: particulars", so that decisions can be counted by kind. Where `idk` is None the strategy
    relabels nothing, and vanilla takes both shares, so that the tuning set keeps its size. `weights` maps the ids of
    those idk candidates whose loss is weighted to a weight >= 0; they are scaled so that those taken add up to half of
    their number (GRAIT).
    """

    vanilla: Queue
    idk: Queue | None
    left_out: Mapping[str, str]
    weights: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Evidence:
    """What is known of the questions beside their initial states, by id; empty where a strategy did not ask for it."""

    flows: Mapping[str, KnowledgeFlow] = field(default_factory=dict)
    influences: Mapping[str, Influence] = field(default_factory=dict)


Planner = Callable[[Sequence[KnowledgeState], Evidence, Construction], Plan]


@dataclass(frozen=True, slots=True)
class Strategy:
    """A registered strategy.

    `needs` names what `plan` and `label` look at beside the numbers of the states; `label` words the examples, `read`
    takes those words off a tuned model's answers again; `description` is one line.
    """

    name: str
    needs: frozenset[Need]
    plan: Planner
    label: Labeller
    read: Reader
    description: str
    code: Mapping[str, str]  # of plan, label and read, as they were when the strategy was registered


_STRATEGIES: dict[str, Strategy] = {}


def strategy(
    name: str,
    *,
    needs: Iterable[Need] = (),
    label: Labeller = answer_or_refusal,
    read: Reader = as_it_is,
) -> Callable[[Planner], Planner]:
    """Register the decorated function as the strategy `name`.

    It gets the initial states, sorted by id, the evidence it `needs`, and the settings. Without "responses" the states
    come without theirs. `label` says what is taught for a question (by default the right answer, or the refusal), and
    `read` how such words are understood when the tuned model uses them. Raises `RecipeError` when another function has
    the name.
    """

    def register(plan: Planner) -> Planner:
        taken = _STRATEGIES.get(name)
        # The same function may come again: a notebook cell is run twice, a module is reloaded.
        if taken is not None and _place(taken.plan) != _place(plan):
            raise RecipeError(f"strategy {name!r} is already defined by {_place(taken.plan)}; choose another name")
        description = (plan.__doc__ or "").strip().partition("\n")[0]
        code = {role: code_of(function) for role, function in (("plan", plan), ("label", label), ("read", read))}
        _STRATEGIES[name] = Strategy(name, frozenset(needs), plan, label, read, description, code)
        return plan

    return register


def all_strategies() -> tuple[Strategy, ...]:
    """Every registered strategy, in the order of registration."""
    return tuple(_STRATEGIES.values())


def find_strategy(name: str) -> Strategy:
    """Return the strategy `name`; raise `RecipeError` listing the known names where there is none."""
    if name in _STRATEGIES:
        return _STRATEGIES[name]
    near = difflib.get_close_matches(name.lower().replace("-", "_").replace(" ", "_"), _STRATEGIES, n=1, cutoff=0.4)
    hint = f"did you mean {near[0]!r}? " if near else ""
    raise RecipeError(f"unknown strategy {name!r}; {hint}known: {', '.join(_STRATEGIES)}")


@strategy("van_tuning")
def van_tuning(states: Sequence[KnowledgeState], evidence: Evidence, settings: Construction) -> Plan:
    """Van-Tuning: N_van + N_idk questions at random, unchanged; nothing is relabelled."""
    return Plan(drawn(states, Role.VANILLA, settings), None, {})


@strategy("cor_rait")
def cor_rait(states: Sequence[KnowledgeState], evidence: Evidence, settings: Construction) -> Plan:
    """Cor-RAIT (R-Tuning): at random from the known, at random from the unknown."""
    known, unknown, left_out = split_by_correctness(states, settings)
    return Plan(drawn(known, Role.VANILLA, settings), drawn(unknown, Role.IDK, settings), left_out)


@strategy("corcer_rait")
def corcer_rait(states: Sequence[KnowledgeState], evidence: Evidence, settings: Construction) -> Plan:
    """CorCer-RAIT (CRaFT without flow): the most certain of the known, the least certain of the unknown."""
    known, unknown, left_out = split_by_correctness(states, settings)
    return Plan(most_certain(known), least_certain(unknown), left_out)


@strategy("wo_cer", needs=("flows",))
def wo_cer(states: Sequence[KnowledgeState], evidence: Evidence, settings: Construction) -> Plan:
    """CRaFT without certainty: at random from the known, at random from the unknown and falling."""
    known, unknown, left_out = split_by_correctness(states, settings)
    falling, not_falling = split_by_flow(unknown, evidence.flows, settings)
    return Plan(drawn(known, Role.VANILLA, settings), drawn(falling, Role.IDK, settings), left_out | not_falling)


@strategy("craft", needs=("flows",))
def craft(states: Sequence[KnowledgeState], evidence: Evidence, settings: Construction) -> Plan:
    """CRaFT: the most certain of the known, the least certain of the unknown and falling."""
    known, unknown, left_out = split_by_correctness(states, settings)
    falling, not_falling = split_by_flow(unknown, evidence.flows, settings)
    return Plan(most_certain(known), least_certain(falling), left_out | not_falling)


def split_by_correctness(
    states: Sequence[KnowledgeState], settings: Construction
) -> tuple[list[KnowledgeState], list[KnowledgeState], dict[str, str]]:
    """Split into the known, the unknown, and the reasons of those inside the dead band."""
    # threshold +- dead_band is a rounded sum, so a correctness that sits on it needs the tolerance; threshold itself
    # is compared as given.
    slack = TOLERANCE if settings.dead_band else 0.0
    least = settings.threshold + settings.dead_band
    most = settings.threshold - settings.dead_band
    known: list[KnowledgeState] = []
    unknown: list[KnowledgeState] = []
    left_out: dict[str, str] = {}
    for state in states:
        if state.correctness >= least - slack:
            known.append(state)
        elif state.correctness <= most + slack:
            unknown.append(state)
        else:
            left_out[state.id] = (
                f"inside the dead band: correctness {state.correctness:.3g} lies between {most:.3g} and {least:.3g}"
            )
    return known, unknown, left_out


def split_by_flow(
    states: Sequence[KnowledgeState], flows: Mapping[str, KnowledgeFlow], settings: Construction
) -> tuple[list[KnowledgeState], dict[str, str]]:
    """Split into those that `flow_rule` admits, and the reasons of the others (rising, staying).

    A change of less than 1e-9 counts as none.
    """
    admitted: list[KnowledgeState] = []
    left_out: dict[str, str] = {}
    for state in states:
        flow = flows[state.id]
        if flow.direction > 0:
            bound = ">= 0" if settings.flow_rule == "negative" else "> 0"
            left_out[state.id] = f"rising: correctness flow {flow.correctness_flow:+.3g} {bound}"
        elif flow.direction == 0 and settings.flow_rule == "negative":
            left_out[state.id] = "staying: correctness flow 0 is not negative"
        else:
            admitted.append(state)
    return admitted, left_out


def most_certain(states: Sequence[KnowledgeState]) -> Queue:
    """Order by certainty, the highest first; ties by id."""
    return Queue("most certain", tuple(sorted(states, key=lambda state: (-state.certainty, state.id))))


def least_certain(states: Sequence[KnowledgeState]) -> Queue:
    """Order by certainty, the lowest first; ties by id."""
    return Queue("least certain", tuple(sorted(states, key=lambda state: (state.certainty, state.id))))


def drawn(states: Sequence[KnowledgeState], role: Role, settings: Construction) -> Queue:
    """Order at random. A question's place comes from the seed, the role and its id alone.

    So the order of the input changes nothing, and strategies that draw one role from the same candidates draw the same
    questions: what differs between them is the other role.
    """
    seed = settings.seed or 0
    return Queue("drawn", tuple(sorted(states, key=lambda state: ticket(seed, role, state.id))))


def _place(plan: Planner) -> str:
    return f"{plan.__module__}.{getattr(plan, '__qualname__', plan)}"
