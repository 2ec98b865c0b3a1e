"""From a strategy's plan to a decision about every question, and on to tuning examples.

    selection = construct("craft", states, flows, Construction(vanilla=800, idk=200))
    rows = examples("craft", states, selection.decisions, render, wording_of, render.completion)

The strategy orders the candidates of each role; here the first N_van and N_idk are taken, a shortage is reported or
shrunk to (never repetition), and every question, dropped ones too, gets a `Decision` with a reason of the form
"kind: particulars". Source: CRaFT, Algorithm 1 (arXiv 2410.06913v2).
"""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from math import inf

from rait.construction.labels import Wording
from rait.construction.strategies import Evidence, Plan, Queue, Strategy, all_strategies, find_strategy
from rait.errors import InputError, RecipeError, ShortageError, some
from rait.recipe import Construction
from rait.records import TOLERANCE, Decision, Example, Influence, KnowledgeFlow, KnowledgeState, Role


@dataclass(frozen=True, slots=True, kw_only=True)
class Selection:
    """What a strategy chose: one decision a question, in the order of the states, and notes the user should see.

    `candidates` counts the questions that queued for vanilla and for idk, taken or not.
    """

    strategy: str
    decisions: tuple[Decision, ...]
    candidates: Mapping[Role, int]
    notes: tuple[str, ...] = ()


def construct(
    name: str,
    states: Sequence[KnowledgeState],
    flows: Iterable[KnowledgeFlow] | None,
    settings: Construction,
    influences: Iterable[Influence] | None = None,
) -> Selection:
    """Decide about every question of `states`, the initial knowledge states, with the strategy `name`.

    Responses may be left out where the strategy does not need them. `flows` and `influences` may be None, and are not
    read, where the strategy does not need them; those of further questions are ignored. The order of the input changes
    no decision. Raises `RecipeError` for an unknown strategy, `InputError` for states, flows or influences that cannot
    be used, `ShortageError` when there are too few candidates.
    """
    chosen = find_strategy(name)
    _check_unique([state.id for state in states], "states")
    flow_of = _flows_by_id(chosen, states, flows) if "flows" in chosen.needs else {}
    influence_of = _influences_by_id(chosen, influences) if "influences" in chosen.needs else {}
    plan = chosen.plan(sorted(states, key=lambda state: state.id), Evidence(flow_of, influence_of), settings)
    _check_plan(chosen, plan, states)

    wanted = (settings.vanilla, settings.idk) if plan.idk is not None else (settings.vanilla + settings.idk, 0)
    taken, notes = _sizes(chosen, plan, wanted, settings)
    decided = {
        decision.id: decision
        for queue, role, size in ((plan.vanilla, Role.VANILLA, taken[0]), (plan.idk, Role.IDK, taken[1]))
        if queue is not None
        for decision in _decisions(queue, role, size, flow_of)
    }
    for question, reason in plan.left_out.items():
        decided[question] = Decision(id=question, role=Role.DROPPED, reason=reason)
    _weigh(decided, plan.weights)
    return Selection(
        strategy=name,
        decisions=tuple(decided[state.id] for state in states),
        candidates=candidates(plan),
        notes=notes,
    )


def candidates(plan: Plan) -> dict[Role, int]:
    """How many questions queue for each role in `plan`."""
    return {Role.VANILLA: len(plan.vanilla.states), Role.IDK: len(plan.idk.states) if plan.idk is not None else 0}


def examples(
    name: str,
    states: Sequence[KnowledgeState],
    decisions: Sequence[Decision],
    render: Callable[[KnowledgeState], str],
    wording: Callable[[KnowledgeState], Wording],
    complete: Callable[[str], str],
) -> list[Example]:
    """Make the tuning examples of the strategy `name`, sorted by question id: `render(question)` is the prompt.

    `states` hold at least the questions that are taken, with their responses where the strategy needs them. The
    strategy's labels are made of a question's `wording`, and `complete(label)` is what stands after the prompt. Raises
    `InputError` when a question that is taken has no state, or no accepted answer though it is vanilla.
    """
    label = find_strategy(name).label
    state_of = {state.id: state for state in states}
    taken = sorted((d for d in decisions if d.role is not Role.DROPPED), key=lambda decision: decision.id)
    stateless = [decision.id for decision in taken if decision.id not in state_of]
    if stateless:
        raise InputError(
            f"{len(stateless)} decisions have no question ({some(stateless)}); make the decisions from these states"
        )
    unanswered = [d.id for d in taken if d.role is Role.VANILLA and not state_of[d.id].answers]
    if unanswered:
        raise InputError(f"{len(unanswered)} vanilla questions have no accepted answer ({some(unanswered)}); add one")
    return [
        Example(
            id=decision.id,
            prompt=render(state_of[decision.id]),
            completion=complete(made.text),
            role=made.role,
            weight=decision.weight * made.weight,
        )
        for decision in taken
        for made in label(state_of[decision.id], decision.role, wording(state_of[decision.id]))
    ]


def summarise(decisions: Sequence[Decision]) -> dict[Role, dict[str, int]]:
    """Count decisions by role and by kind of reason (its text before ":"), the most frequent kind first."""
    counts = Counter((decision.role, _kind(decision.reason)) for decision in decisions)
    ordered = sorted(counts.items(), key=lambda entry: (-entry[1], entry[0][1]))
    return {role: {kind: count for (of, kind), count in ordered if of is role} for role in Role}


def _decisions(queue: Queue, role: Role, size: int, flows: Mapping[str, KnowledgeFlow]) -> Iterator[Decision]:
    taken, left = f"{queue.order} for {role}", f"not among the {queue.order} for {role}"
    for rank, state in enumerate(queue.states):
        place = f"place {rank + 1} of {len(queue.states)}"
        facts = f"correctness {state.correctness:.3g}, certainty {state.certainty:.3g}"
        if state.id in flows:
            # Rounded, so that the noise of a difference of k/N floats prints as 0.
            facts += f", correctness flow {round(flows[state.id].correctness_flow, 9) + 0.0:+.3g}"
        if rank < size:
            yield Decision(id=state.id, role=role, reason=f"{taken}: {place}, {facts}", rank=rank)
        else:
            reason = f"{left}: {place}, {size} taken, {facts}"
            yield Decision(id=state.id, role=Role.DROPPED, reason=reason, rank=rank)


def _weigh(decided: dict[str, Decision], weights: Mapping[str, float]) -> None:
    """Give the idk questions that are taken their weights, scaled to add up to half of their number (GRAIT)."""
    taken = [id for id, decision in decided.items() if decision.role is Role.IDK and id in weights]
    total = sum(weights[id] for id in taken)
    if taken and not (0 < total < inf and all(weights[id] >= 0 for id in taken)):
        raise RecipeError(f"the weights of a strategy must be numbers >= 0 and not all 0, as for {some(taken)}")
    for id in taken:
        decided[id] = replace(decided[id], weight=weights[id] * len(taken) / 2 / total)


def _sizes(
    chosen: Strategy, plan: Plan, wanted: tuple[int, int], settings: Construction
) -> tuple[tuple[int, int], tuple[str, ...]]:
    """How many to take of (vanilla, idk), and the notes about it."""
    vanilla, idk = candidates(plan).values()
    available = (vanilla, idk)
    if available[0] >= wanted[0] and available[1] >= wanted[1]:
        return wanted, ()
    fitting = _shrink(wanted, available)
    kinds = Counter(_kind(reason) for reason in plan.left_out.values())
    left_out = ", ".join(f"{count} {kind}" for kind, count in sorted(kinds.items(), key=lambda kc: (-kc[1], kc[0])))
    found = (
        f"{chosen.name} found {available[0]} candidates for the {wanted[0]} vanilla and {available[1]} for the "
        f"{wanted[1]} idk wanted, among {sum(available) + len(plan.left_out)} questions"
        + (f" (left out: {left_out})" if left_out else "")
    )
    if settings.shortage == "shrink" and any(fitting):
        return fitting, (f"{found}; took {fitting[0]} vanilla and {fitting[1]} idk, the most at this ratio",)
    remedies = ["give more questions"]
    if any(fitting):
        remedies.append(f"ask for at most {fitting[0]} vanilla and {fitting[1]} idk, as shortage=shrink would")
    if kinds["staying"] and available[1] < wanted[1]:
        remedies.append("admit those that stay (flow_rule=non_positive)")
    if kinds["inside the dead band"]:
        remedies.append("narrow dead_band")
    raise ShortageError(f"{found}; " + ", or ".join(remedies))


def _shrink(wanted: tuple[int, int], available: tuple[int, int]) -> tuple[int, int]:
    """Return the largest sizes within `available` at the ratio of `wanted`.

    The ratio is exact where one number wanted divides the other (4 : 1); otherwise the larger role is rounded down to a
    whole question. A role that is not wanted sets no bound.
    """
    large, small = (0, 1) if wanted[0] >= wanted[1] else (1, 0)
    sizes = [0, 0]
    if wanted[small] == 0:
        sizes[large] = min(wanted[large], available[large])
    else:
        # The greatest s with s * wanted[large] // wanted[small] <= available[large].
        fits = ((available[large] + 1) * wanted[small] - 1) // wanted[large]
        sizes[small] = min(wanted[small], available[small], fits)
        sizes[large] = sizes[small] * wanted[large] // wanted[small]
    return sizes[0], sizes[1]


def _check_unique(ids: Sequence[str], what: str) -> None:
    repeated = [id for id, count in Counter(ids).items() if count > 1]
    if repeated:
        raise InputError(f"{len(repeated)} ids stand in the {what} more than once ({some(repeated)}); keep one of each")


def _flows_by_id(
    chosen: Strategy, states: Sequence[KnowledgeState], flows: Iterable[KnowledgeFlow] | None
) -> dict[str, KnowledgeFlow]:
    if flows is None:
        without = ", ".join(entry.name for entry in all_strategies() if not entry.needs & {"flows", "influences"})
        raise InputError(
            f"{chosen.name} needs the knowledge flow; give the rehearsed states too, or choose a strategy that does "
            f"without ({without})"
        )
    flows = list(flows)
    _check_unique([flow.id for flow in flows], "flows")
    flow_of = {flow.id: flow for flow in flows}
    missing = [state.id for state in states if state.id not in flow_of]
    if missing:
        raise InputError(
            f"{chosen.name} needs the knowledge flow of every question, and {len(missing)} of {len(states)} have none "
            f"({some(missing)}); query the rehearsed model on the same questions"
        )
    # A flow that starts elsewhere belongs to other states; one whose end is not a number has no direction.
    stale = [
        state.id
        for state in states
        if not (
            abs(flow_of[state.id].correctness_before - state.correctness) < TOLERANCE
            and 0 <= flow_of[state.id].correctness_after <= 1
        )
    ]
    if stale:
        raise InputError(
            f"{len(stale)} flows do not start at the correctness of their state or end outside 0 to 1 "
            f"({some(stale)}); make the flow from these states"
        )
    return flow_of


def _influences_by_id(chosen: Strategy, influences: Iterable[Influence] | None) -> dict[str, Influence]:
    if influences is None:
        raise InputError(
            f"{chosen.name} needs the influence of each unknown question's refusal, which is measured on the model; "
            "use `rait run`, or choose another strategy"
        )
    influences = list(influences)
    _check_unique([influence.id for influence in influences], "influences")
    return {influence.id: influence for influence in influences}


def _check_plan(chosen: Strategy, plan: Plan, states: Sequence[KnowledgeState]) -> None:
    """Hold a strategy, which may be the user's own, to its contract: every question exactly once."""
    placed = Counter([*(state.id for state in plan.vanilla.states), *plan.left_out])
    placed.update(state.id for state in (plan.idk.states if plan.idk is not None else ()))
    expected = {state.id for state in states}
    wrong = sorted({id for id in expected | placed.keys() if placed[id] != 1 or id not in expected})
    if wrong:
        raise RecipeError(
            f"strategy {chosen.name!r} must place every question exactly once, in a queue or in left_out, and does not "
            f"for {len(wrong)} ({some(wrong)})"
        )


def _kind(reason: str) -> str:
    return reason.partition(":")[0]
