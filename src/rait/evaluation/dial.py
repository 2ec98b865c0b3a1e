"""The dial: how ready a tuned model is to refuse, as a threshold on p(refuse), and what each setting would bring.

    choice = choose(calibration, baseline, Dial(rule="max_error", value=0.1))
    verdicts = applied(test, choice.threshold)          # refused where p(refuse) >= threshold, otherwise answered

A tuned model's refusal is a habit of its first tokens; how probable it is (`Verdict.refusal_probability`) orders the
questions more finely than the one bit of greedy decoding. The threshold is chosen on calibration questions, which are
neither trained nor tested on, by one of three rules:

| rule | threshold | what is promised of other questions from the same source |
|---|---|---|
| best_ths | highest THS (CRaFT, arXiv 2410.06913) | nothing |
| max_error, among all | fewest refusals | expected share of questions answered wrongly <= value |
| max_error, among answered | fewest refusals | share of wrong among answered <= value, but with probability delta |
| max_refusal | fewest wrong answers | expected share of questions refused <= value |

"In expectation" is conformal risk control (arXiv 2208.02814, theorem 1): for a loss in [0, 1] that never falls as the
threshold rises, and n questions, the highest threshold with (n / (n + 1)) risk + 1 / (n + 1) <= value. Wrong and
answered is such a loss, and refused is one with the direction turned round. The rate among answered questions is not:
more answers may lower it. Learn then Test (arXiv 2110.01052) bounds that one: exact binomial tests at thresholds that
are fixed beforehand, in sequence from a few starts that share delta. Both need calibration and other questions to be
exchangeable: drawn from one source. They promise nothing of questions of another kind.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from math import exp, floor, fsum, inf, lgamma, log, log1p, nextafter
from textwrap import wrap
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rait.errors import InputError, UndefinedError, some
from rait.evaluation.metrics import Metrics, evaluate, failures, outcomes_before, truthful_helpfulness
from rait.judging import REFUSAL
from rait.records import Outcome, Verdict
from rait.settings import Dial

NEVER = nextafter(1.0, inf)
"""The threshold above every probability: nothing is refused that can be answered. At 0 everything is refused."""

CURVE_POINTS = 200
# Thresholds that are tested in sequence: even steps of log-odds, where probabilities crowd near 0 and 1; then `NEVER`.
_TESTED = (*(1 / (1 + exp(-step / 2)) for step in range(-20, 21)), NEVER)
_STARTS = range(0, len(_TESTED), 8)

Values = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Point:
    """What a threshold brings: `coverage` is the share answered, `risk` the share wrong of these, None for none."""

    threshold: float
    coverage: float
    risk: float | None
    P_c: float
    P_w: float
    P_r: float
    THS: float | None


@dataclass(frozen=True, slots=True)
class Guarantee:
    """What is promised of the `risk` of other questions from the same source: at most `bound`.

    `confidence` is the probability, over the calibration questions, with which it holds; None where it holds on
    average over them. `holds` is False where no threshold kept the bound: then everything is refused where wrong
    answers are bounded, and nothing that can be answered where refusals are.
    """

    bound: float
    method: str
    risk: str
    confidence: float | None
    questions: int
    holds: bool


@dataclass(frozen=True, slots=True)
class Choice:
    """A threshold, what it brings on the n calibration `questions`, and what is promised of others, if anything."""

    threshold: float
    questions: int
    point: Point
    guarantee: Guarantee | None


def applied(verdicts: Sequence[Verdict], threshold: float, refusal: str = REFUSAL) -> list[Verdict]:
    """The verdicts at `threshold`: refused where p(refuse) is at least that, otherwise answered.

    A verdict that this changes has the rule "dial", and `refusal` or its `answer` as its response. Where a model
    refuses although it may not, it stays refused; a question that failed stays so. Raises `InputError` for other
    verdicts without a p(refuse).
    """
    judged = [verdict for verdict in verdicts if verdict.outcome is not Outcome.FAILED]
    score = dict(zip((verdict.id for verdict in judged), refusal_scores(judged), strict=True))
    return [_at(each, score[each.id] >= threshold, refusal) if each.id in score else each for each in verdicts]


def refusal_scores(verdicts: Sequence[Verdict]) -> list[float]:
    """p(refuse) of each verdict, infinite where the model refuses even where it may not.

    Raises `InputError` where it was not measured.
    """
    bare = [verdict.id for verdict in verdicts if verdict.refusal_probability is None]
    if bare:
        raise InputError(
            f"{len(bare)} of {len(verdicts)} verdicts have no refusal_probability ({some(bare)}), so no threshold can "
            "be applied; answer the questions again in a run whose recipe has calibration questions"
        )
    return [inf if v.answer_correct is None else float(v.refusal_probability or 0.0) for v in verdicts]


def choose(verdicts: Sequence[Verdict], baseline: Sequence[Verdict], dial: Dial) -> Choice:
    """The threshold that `dial` asks for, on the `verdicts` of calibration questions.

    `baseline` are those of the untuned model on the same questions, for THS; what failed is left out. Raises
    `InputError` where they are not of the same questions, and for the rule best_ths where THS is undefined because the
    untuned model answers none wrongly.
    """
    verdicts, baseline = _judged(verdicts, baseline)
    curve = curve_of(verdicts, baseline)
    scores = np.array(refusal_scores(verdicts))
    wrong = scores[[verdict.answer_correct is False for verdict in verdicts]]
    n = len(verdicts)
    if dial.rule == "best_ths":
        known = [point for point in curve if point.THS is not None]
        if not known:
            raise UndefinedError(
                "THS is undefined, as the untuned model answers no calibration question wrongly; choose another rule "
                "(dial.rule=max_error dial.value=0.1), or harder calibration questions"
            )
        # Of equally good thresholds the one that refuses least.
        best = max(known, key=lambda point: (point.THS, point.threshold))
        return Choice(best.threshold, n, best, None)
    bound, confidence = dial.value or 0.0, None
    method, risk = "conformal risk control", "wrong answers among all questions"
    if dial.rule == "max_refusal":
        risk, lowest = "refusals among all questions", _fewest_wrong(scores, bound)
        threshold, holds = (NEVER, False) if lowest is None else (lowest, True)
    elif dial.among == "all":
        threshold = control(wrong, n, bound)
        holds = threshold > 0
    else:
        method, risk, confidence = "Learn then Test", "wrong answers among those answered", 1 - dial.delta
        threshold = learn_then_test(scores, wrong, bound, dial.delta)
        holds = threshold > 0
    guarantee = Guarantee(bound, method, risk, confidence, n, holds)
    return Choice(threshold, n, point_at(verdicts, baseline, threshold), guarantee)


def control(wrong: Values, n: int, bound: float) -> float:
    """Conformal risk control of the share answered wrongly: the highest threshold that keeps it, 0 where none does.

    `wrong` are p(refuse) of those of n calibration questions whose answer is wrong. At most floor(bound (n + 1)) - 1 of
    them may be answered (arXiv 2208.02814, equation 4 with B = 1).
    """
    allowed = _allowed(n, bound)
    if allowed < 0:
        return 0.0
    return float(np.sort(wrong)[allowed]) if allowed < len(wrong) else NEVER


def learn_then_test(scores: Values, wrong: Values, bound: float, delta: float) -> float:
    """Learn then Test of the share wrong among answered: the highest threshold that is certified, 0 where none is.

    `scores` are p(refuse) of all calibration questions, `wrong` of those whose answer is wrong. At a threshold fixed
    beforehand the wrong among m answered ones are binomial; more than `bound` of them is rejected where so few or fewer
    would be seen with a probability of at most delta / starts (arXiv 2110.01052, section 4, fixed sequence testing).
    """
    certified = 0.0
    for start in _STARTS:
        for threshold in _TESTED[start:]:
            answered, failed = int((scores < threshold).sum()), int((wrong < threshold).sum())
            if binomial_tail(failed, answered, bound) > delta / len(_STARTS):
                break
            certified = max(certified, threshold)
    return certified


def binomial_tail(k: int, n: int, p: float) -> float:
    """P(X <= k) of a binomial X of n trials of probability p in (0, 1), exact; 1 for no trials."""
    if k >= n:
        return 1.0
    whole = lgamma(n + 1)
    return min(
        1.0,
        fsum(exp(whole - lgamma(i + 1) - lgamma(n - i + 1) + i * log(p) + (n - i) * log1p(-p)) for i in range(k + 1)),
    )


def curve_of(verdicts: Sequence[Verdict], baseline: Sequence[Verdict]) -> list[Point]:
    """What every threshold brings, from the lowest, at which all are refused: the distinct p(refuse), and `NEVER`."""
    verdicts, baseline = _judged(verdicts, baseline)
    scores = np.array(refusal_scores(verdicts))
    n = len(verdicts)
    if not n:
        return []
    thresholds = np.append(np.unique(scores[np.isfinite(scores)]), NEVER)
    right = _below(scores[[verdict.answer_correct is True for verdict in verdicts]], thresholds)
    wrong = _below(scores[[verdict.answer_correct is False for verdict in verdicts]], thresholds)
    before = list(outcomes_before(verdicts, baseline).values())
    shares = before.count(Outcome.CORRECT) / n, before.count(Outcome.WRONG) / n
    return [
        Point(
            threshold=float(threshold),
            coverage=(c + w) / n,
            risk=w / (c + w) if c + w else None,
            P_c=c / n,
            P_w=w / n,
            P_r=(n - c - w) / n,
            THS=truthful_helpfulness(c / n, w / n, *shares),
        )
        for threshold, c, w in zip(thresholds, right.tolist(), wrong.tolist(), strict=True)
    ]


def point_at(verdicts: Sequence[Verdict], baseline: Sequence[Verdict], threshold: float) -> Point:
    """What `threshold` brings: that of the next higher point of the curve, which refuses the same questions."""
    curve = curve_of(verdicts, baseline)
    return replace(next(point for point in curve if point.threshold >= threshold), threshold=threshold)


def aurc(verdicts: Sequence[Verdict]) -> float | None:
    """The area under the risk-coverage curve (Geifman & El-Yaniv 2017), in [0, 1], lower is better; None for none.

    Questions are taken by p(refuse), the lowest first, and the share of wrong ones among the first k is averaged over
    all k; of equal ones the mean over all their orders is taken. Those that are refused in any case are left out.
    """
    verdicts = [verdict for verdict in verdicts if verdict.outcome is not Outcome.FAILED]
    scores = np.array(refusal_scores(verdicts))
    order, risks, taken = np.argsort(scores, kind="stable"), [], 0.0
    values = np.array([verdict.answer_correct is False for verdict in verdicts], dtype=np.float64)[order]
    ranked = scores[order][np.isfinite(scores[order])]
    for alike in np.split(np.arange(len(ranked)), np.flatnonzero(np.diff(ranked)) + 1) if len(ranked) else ():
        mean = float(values[alike].mean())
        risks += [(taken + mean * (step + 1)) / (int(place) + 1) for step, place in enumerate(alike)]
        taken += mean * len(alike)
    return fsum(risks) / len(risks) if risks else None


def to_json(
    choice: Choice,
    dial: Dial,
    tests: Mapping[str, tuple[Sequence[Verdict], Sequence[Verdict]]],
    *,
    seed: int = 0,
    resamples: int = 2000,
) -> dict[str, Any]:
    """`choice` and what it brings on each of `tests`, (verdicts, baseline) by name, as the file dial.json has it."""
    point = choice.point
    return {
        "target": target_of(dial),
        "threshold": choice.threshold,
        "calibration": {"questions": choice.questions} | _without_threshold(point),
        "guarantee": asdict(choice.guarantee) if choice.guarantee else None,
        "tests": {
            name: _tested(choice.threshold, *verdicts, seed=seed, resamples=resamples)
            for name, verdicts in tests.items()
        },
    }


def target_of(dial: Dial) -> dict[str, Any]:
    """What was asked for, as plain data: rule and value, and for max_error among what."""
    found: dict[str, Any] = {"rule": dial.rule, "value": dial.value}
    return found | ({"among": dial.among} if dial.rule == "max_error" else {})


def promise(guarantee: Mapping[str, Any], threshold: float) -> str:
    """What a "guarantee" of dial.json promises at its `threshold`, or what is done where nothing can be promised."""
    bound, risk = f"{100 * float(guarantee['bound']):g} %", guarantee.get("risk") or "the share wrong"
    if not guarantee["holds"]:
        return f"No threshold is sure to keep {risk} at {bound} or less, so {refused_at(threshold)}."
    confidence = guarantee.get("confidence")
    sure = "on average over calibration sets" if confidence is None else f"with probability {float(confidence):g}"
    return (
        f"Promised of other questions from the source of the calibration questions, {sure}: {risk} are at most {bound} "
        f"({guarantee['method']}). Nothing is promised of questions of another kind."
    )


def refused_at(threshold: float) -> str:
    """What is refused at `threshold`, in words."""
    if threshold > 1:
        return "nothing is refused that can be answered"
    return f"what has a p(refuse) of {threshold:.4g} or more is refused" if threshold > 0 else "everything is refused"


def extreme(found: Mapping[str, Any]) -> str | None:
    """What to say of a threshold in dial.json at which all calibration questions are refused, or none; else None."""
    if found["threshold"] is None:
        return None
    at, rule = found["calibration"], found["target"]["rule"]
    if at["coverage"] == 0:
        which, then = "all", "the model would answer nothing of their kind"
        remedy = {"max_error": "a higher --max-error", "max_refusal": "a lower --max-refusal"}
    elif found["threshold"] > 1 or at["P_r"] == 0:
        which, then = "none that can be answered", "the model would refuse nothing of their kind"
        remedy = {"max_error": "a lower --max-error", "max_refusal": "a higher --max-refusal"}
    else:
        return None
    other = remedy.get(rule, "--max-error or --max-refusal")
    return f"of the {at['questions']} calibration questions it refuses {which}: {then}; {other} gives another threshold"


def in_words(name: str, found: Mapping[str, Any]) -> str:
    """What dial.json of the strategy `name` holds, in lines of at most 80 characters for a terminal."""
    if found["threshold"] is None:
        return f"{name}: no dial: {found['obstacle']}"
    target, guarantee = found["target"], found["guarantee"]
    value = "" if target["value"] is None else f" {target['value']:g}"
    lines = [f"{name}: {target['rule']}{value}, set on {found['calibration']['questions']} calibration questions"]
    if guarantee is None or guarantee["holds"]:
        lines.append(f"  {refused_at(found['threshold'])}")
    if guarantee is not None:
        said = promise(guarantee, found["threshold"])
        lines += wrap(said, 80, initial_indent="  ", subsequent_indent="  ")
    lines.append(f"  {'':<12} {'P_c':>6} {'P_w':>6} {'P_r':>6} {'THS':>6}  95 % interval")
    for test, ways in found["tests"].items():
        for way in ("greedy", "chosen"):
            row = ways[way]
            numbers = " ".join(f"{_points(row[key]):>6}" for key in ("P_c", "P_w", "P_r", "THS"))
            interval = f"[{_points(row['THS_low'])}, {_points(row['THS_high'])}]"
            lines.append(f"  {test[:12] if way == 'greedy' else '':<5} {way} {numbers}  {interval}")
    return "\n".join(lines)


def _points(share: float | None) -> str:
    return "n/a" if share is None else f"{100 * share:.1f}"


def _tested(
    threshold: float, verdicts: Sequence[Verdict], baseline: Sequence[Verdict], *, seed: int, resamples: int
) -> dict[str, Any]:
    curve = curve_of(verdicts, baseline)
    chosen = applied(verdicts, threshold)
    shown = np.unique(np.linspace(0, len(curve) - 1, min(len(curve), CURVE_POINTS)).round().astype(int))
    at = point_at(verdicts, baseline, threshold)
    return {
        "greedy": _measured(evaluate(verdicts, baseline, seed=seed, resamples=resamples, max_failed=1)),
        "chosen": _measured(evaluate(chosen, baseline, seed=seed, resamples=resamples, max_failed=1))
        | {"coverage": at.coverage, "risk": at.risk},
        "aurc": aurc(verdicts),
        "curve": [asdict(curve[place]) for place in shown],
    }


def _judged(verdicts: Sequence[Verdict], baseline: Sequence[Verdict]) -> tuple[Sequence[Verdict], Sequence[Verdict]]:
    """Both without the questions that failed in either."""
    failed = failures(verdicts) | failures(baseline)
    return [v for v in verdicts if v.id not in failed], [v for v in baseline if v.id not in failed]


def _measured(metrics: Metrics) -> dict[str, float | None]:
    ths = metrics.overall["THS"]
    shares = {name: metrics.overall[name].value for name in ("P_c", "P_w", "P_r", "THS")}
    return shares | {"THS_low": ths.low, "THS_high": ths.high}


def _without_threshold(point: Point) -> dict[str, float | None]:
    return {name: value for name, value in asdict(point).items() if name != "threshold"}


def _at(verdict: Verdict, refuse: bool, refusal: str) -> Verdict:
    if refuse == (verdict.outcome is Outcome.REFUSED):
        return verdict
    if refuse:
        return replace(verdict, response=refusal, outcome=Outcome.REFUSED, rule="dial")
    outcome = Outcome.CORRECT if verdict.answer_correct else Outcome.WRONG
    return replace(verdict, response=verdict.answer or "", outcome=outcome, rule="dial")


def _allowed(n: int, bound: float) -> int:
    """How many of n losses of 1 keep (n / (n + 1)) risk + 1 / (n + 1) <= bound; -1 where not even none does."""
    return floor(bound * (n + 1) + 1e-9) - 1


def _fewest_wrong(scores: Values, bound: float) -> float | None:
    """Conformal risk control of the share refused: the lowest threshold that keeps it; None where none does."""
    allowed = _allowed(len(scores), bound)
    if allowed < int(np.isinf(scores).sum()):
        return None
    if allowed >= len(scores):
        return 0.0
    # Those above the first score that would be one too many may be refused.
    cut = np.sort(scores)[::-1][allowed]
    above = scores[scores > cut]
    return min(float(above.min()), NEVER) if len(above) else NEVER


def _below(scores: Values, thresholds: Values) -> NDArray[np.int64]:
    """How many of `scores` lie below each threshold."""
    return np.searchsorted(np.sort(scores), thresholds, side="left").astype(np.int64)
