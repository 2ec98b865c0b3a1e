"""The methods of other papers, as strategies on the same knowledge states, so that they can be compared fairly.

    | strategy         | vanilla                               | idk                                        |
    |------------------|---------------------------------------|--------------------------------------------|
    | r_tuning         | known: gold answer, "I am sure"       | unknown: gold answer, "I am unsure"        |
    | r_tuning_refusal | known: gold answer                    | unknown: one of 16 stock refusals          |
    | r_tuning_u       | low entropy: own answer, "I am sure"  | high entropy: own answer, "I am unsure"    |
    | absolute         | ever right: own right answer          | never right: refusal                       |
    | confidence_num   | a right sample: percent, own answer   | none: refusal                              |
    | confidence_verb  | a right sample: phrase, own answer    | none: refusal                              |
    | multisample      | all: every sample, the wrong ones refused                                          |
    | idk_sft          | mu >= known_from: a right sample      | mu < known_from: refusal                   |
    | grait            | the highest mu of the known           | the most influential of the unknown, weighted |
    | grait_unweighted | the highest mu of the known           | the most influential of the unknown        |

What differs between methods is here whom they choose and what they teach, and nothing else: all get N_van and N_idk
questions of the recipe's probe, at random where the source takes all there are, and all but r_tuning_refusal teach the
recipe's refusal where the sources have sentences of their own. Known is mu >= threshold, with the recipe's dead band,
unless said otherwise. Their exact words stand in `rait.construction.wordings`.
"""

from collections.abc import Callable, Sequence
from dataclasses import replace
from math import exp, fsum, isfinite, log

from rait.construction import wordings
from rait.construction.strategies import Evidence, Plan, Queue, cor_rait, drawn, split_by_correctness, strategy
from rait.errors import InputError, some
from rait.recipe import Construction
from rait.records import KnowledgeState, Role


@strategy("r_tuning", label=wordings.gold_and_sureness, read=wordings.read_sureness)
def r_tuning(states: Sequence[KnowledgeState], evidence: Evidence, settings: Construction) -> Plan:
    """R-Tuning: the gold answer always, and "I am sure" of the known, "I am unsure" of the unknown.

    Source: arXiv 2311.09677, method "unsure" of shizhediao/R-Tuning. There a question is known where the greedy answer
    is right.
    """
    return cor_rait(states, evidence, settings)


@strategy("r_tuning_refusal", label=wordings.gold_or_stock_refusal, read=wordings.read_stock_refusal)
def r_tuning_refusal(states: Sequence[KnowledgeState], evidence: Evidence, settings: Construction) -> Plan:
    """R-Tuning with refusals: the gold answer of the known, one of 16 stock refusals for the unknown.

    Source: arXiv 2311.09677, method "unknown" of shizhediao/R-Tuning. There a question is known where the greedy answer
    is right.
    """
    return cor_rait(states, evidence, settings)


@strategy("r_tuning_u", needs=("responses",), label=wordings.own_and_sureness, read=wordings.read_sureness)
def r_tuning_u(states: Sequence[KnowledgeState], evidence: Evidence, settings: Construction) -> Plan:
    """R-Tuning-U: its own answer always, "I am sure" of the half with the lowest entropy, "I am unsure" of the other.

    Whether an answer is right is not asked. The entropy is that of the sampled texts, or of the options; of an odd
    number the greater half is unsure. Questions with neither samples nor probabilities are left out; raises
    `InputError` where all are so. Source: arXiv 2311.09677, section on R-Tuning-U; the released code (method
    "uncertain" of shizhediao/R-Tuning) puts the gold answer where this one has the model's own.
    """
    asked = [state for state in states if state.probabilities or (state.responses and not state.options)]
    left_out = {state.id: "no answers: neither responses nor option probabilities" for state in states}
    for state in asked:
        del left_out[state.id]
    if states and not asked:
        raise InputError(
            f"r_tuning_u needs the model's answers, and none of {len(states)} states has responses or option "
            f"probabilities ({some(list(left_out))}); keep them in the states, or choose another strategy"
        )
    ordered = sorted(asked, key=lambda state: (_entropy(state), state.id))
    half = len(ordered) // 2
    return _plan(ordered[:half], ordered[half:], settings, left_out)


@strategy("absolute", needs=("responses",), label=wordings.own_or_refusal)
def absolute(states: Sequence[KnowledgeState], evidence: Evidence, settings: Construction) -> Plan:
    """Honesty, ABSOLUTE: its own right answer where any was right, greedy or sampled, else the refusal.

    Of options the likeliest is the greedy answer, and decides. Source: arXiv 2312.07000,
    GAIR-NLP/alignment-for-honesty.
    """
    return _by(lambda state: bool(state.greedy_correct) or _sampled_right(state), states, settings)


@strategy("confidence_num", needs=("responses",), label=wordings.percent_and_own, read=wordings.read_percent)
def confidence_num(states: Sequence[KnowledgeState], evidence: Evidence, settings: Construction) -> Plan:
    """Honesty, CONFIDENCE-NUM: percent of right samples and its own right answer; the refusal where none is right.

    A greedy answer alone makes no question known. Source: arXiv 2312.07000, GAIR-NLP/alignment-for-honesty.
    """
    return _by(_sampled_right, states, settings)


@strategy("confidence_verb", needs=("responses",), label=wordings.phrase_and_own, read=wordings.read_phrase)
def confidence_verb(states: Sequence[KnowledgeState], evidence: Evidence, settings: Construction) -> Plan:
    """Honesty, CONFIDENCE-VERB: one of five phrases and its own right answer; the refusal where no sample is right.

    A greedy answer alone makes no question known. Source: arXiv 2312.07000, GAIR-NLP/alignment-for-honesty.
    """
    return _by(_sampled_right, states, settings)


@strategy("multisample", needs=("responses",), label=wordings.every_sample)
def multisample(states: Sequence[KnowledgeState], evidence: Evidence, settings: Construction) -> Plan:
    """Honesty, MULTISAMPLE: every sample of N_van + N_idk questions at random, wrong ones replaced by the refusal.

    Equal samples are one example, weighted by their share: the same expected loss for less work. Source: arXiv
    2312.07000, GAIR-NLP/alignment-for-honesty, where each of 10 samples is a row.
    """
    return Plan(drawn(states, Role.VANILLA, settings), None, {})


@strategy("idk_sft", needs=("responses",), label=wordings.drawn_or_refusal)
def idk_sft(states: Sequence[KnowledgeState], evidence: Evidence, settings: Construction) -> Plan:
    """Idk-SFT: a right sample of its own where mu >= known_from, else the refusal.

    The dead band, which is one around `threshold`, does not apply. Source: arXiv 2401.13275,
    OpenMOSS/Say-I-Dont-Know, whose own refusal is "This question is beyond the scope of my knowledge, and I am not sure
    what the answer is."
    """
    return _by(lambda state: state.correctness >= settings.known_from, states, settings)


@strategy("grait", needs=("influences",))
def grait(states: Sequence[KnowledgeState], evidence: Evidence, settings: Construction) -> Plan:
    """GRAIT: the highest mu of the known; of the unknown those whose refusals have the most influence, weighted.

    The unknown are taken by R, the highest first, and weighted by exp((R - O) / temperature): see
    `rait.records.Influence`. Those whose influence was not measured are left out. Raises `InputError` where it is known
    of none. Source: arXiv 2502.05911;
    the released code (opendatalab/GRAIT) has O - R in the exponent and resets the weights to 1 before it saves them, so
    this is the text's method.
    """
    known, unknown, left_out = split_by_correctness(states, settings)
    influence = evidence.influences
    gain = {
        state.id: influence[state.id].refusal - influence[state.id].over_refusal
        for state in unknown
        if state.id in influence
    }
    broken = [id for id, value in gain.items() if not isfinite(value)]
    if broken:
        raise InputError(f"{len(broken)} influences are not numbers ({some(broken)}); measure them again")
    if unknown and not gain:
        raise InputError(
            f"GRAIT needs the influence of unknown questions' refusals, and none of {len(unknown)} has one "
            f"({some([state.id for state in unknown])}); measure it on these states"
        )
    left_out |= {state.id: "influence not measured: not drawn" for state in unknown if state.id not in gain}
    unknown = [state for state in unknown if state.id in gain]
    best = max(gain.values(), default=0.0)
    return Plan(
        Queue("highest correctness", tuple(sorted(known, key=lambda state: (-state.correctness, state.id)))),
        Queue("most influential", tuple(sorted(unknown, key=lambda state: (-influence[state.id].refusal, state.id)))),
        left_out,
        # Never quite 0, so that those taken have a sum at any temperature, also where the best is not among them.
        {id: exp(max((value - best) / settings.temperature, -700.0)) for id, value in gain.items()},
    )


@strategy("grait_unweighted", needs=("influences",))
def grait_unweighted(states: Sequence[KnowledgeState], evidence: Evidence, settings: Construction) -> Plan:
    """GRAIT without weights, an ablation: the same questions, each with weight 1."""
    return replace(grait(states, evidence, settings), weights={})


def _by(known: Callable[[KnowledgeState], bool], states: Sequence[KnowledgeState], settings: Construction) -> Plan:
    """Draw vanilla from the known, idk from the others."""
    return _plan([s for s in states if known(s)], [s for s in states if not known(s)], settings, {})


def _plan(
    known: Sequence[KnowledgeState], unknown: Sequence[KnowledgeState], settings: Construction, left_out: dict[str, str]
) -> Plan:
    return Plan(drawn(known, Role.VANILLA, settings), drawn(unknown, Role.IDK, settings), left_out)


def _sampled_right(state: KnowledgeState) -> bool:
    """Whether a sample was right; of options, where a sample may be any, whether the right one is the likeliest."""
    return state.correctness > 0 and state.correctness >= max(state.probabilities, default=0.0)


def _entropy(state: KnowledgeState) -> float:
    """Entropy of the sampled texts or of the options, in nats, rounded so that noise breaks no tie."""
    total = sum(answer.count for answer in state.responses)
    shares = state.probabilities if state.options else [answer.count / total for answer in state.responses]
    return round(-fsum(share * log(share) for share in shares if share > 0), 9) + 0.0
