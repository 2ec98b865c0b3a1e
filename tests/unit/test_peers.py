"""The strategies of other papers: on tables worked by hand, and every strategy against a second implementation."""

import hashlib
import random
from collections import Counter
from dataclasses import replace
from decimal import Decimal, getcontext
from fractions import Fraction
from math import e, exp, log

import pytest

from rait.construction import Construction, Wording, all_strategies, construct, examples, find_strategy
from rait.construction.wordings import STOCK_REFUSALS
from rait.errors import InputError, ShortageError
from rait.records import Answer, Influence, KnowledgeFlow, KnowledgeState, Role

ALL = tuple(entry.name for entry in all_strategies())


def make_state(id, *answers, correctness=None, **fields):
    """A state from (text, count, whether it is right)."""
    total = sum(count for _, count, _ in answers)
    share = sum(count for _, count, right in answers if right) / total if total else 0.0
    return KnowledgeState(
        **{"id": id, "question": "?", "answers": ("gold",), "certainty": 0.0} | fields,
        correctness=share if correctness is None else correctness,
        responses=tuple(Answer(text=text, count=count, correct=right) for text, count, right in answers),
    )


def taken(selection, role):
    """Ids of a role in the order taken."""
    return [d.id for d in sorted((d for d in selection.decisions if d.role is role), key=lambda d: d.rank)]


def sides(name, states, **settings):
    """Ids of the vanilla and of the idk candidates, however they are drawn."""
    settings = {"vanilla": 1, "idk": 1} | settings
    plan = find_strategy(name).plan(sorted(states, key=lambda state: state.id), None, Construction(**settings))
    assert plan.vanilla.order == plan.idk.order == "drawn"
    return {state.id for state in plan.vanilla.states}, {state.id for state in plan.idk.states}


# --- by hand --------------------------------------------------------------------------------------------------------

SAMPLED = [
    make_state("all", ("gold", 10, True), greedy="gold", greedy_correct=True),
    make_state("half", ("gold", 5, True), ("b", 5, False), greedy="b", greedy_correct=False),
    make_state("one", ("gold", 1, True), ("b", 9, False), greedy="b", greedy_correct=False),
    make_state("greedy", ("b", 10, False), greedy="gold", greedy_correct=True),
    make_state("none", ("b", 7, False), ("c", 3, False), greedy="b", greedy_correct=False),
]
CHOICES = [
    replace(make_state("first", correctness=0.6), options=("x", "y"), target=0, probabilities=(0.6, 0.4)),
    replace(make_state("tied", correctness=0.4), options=("x", "y", "z"), target=1, probabilities=(0.4, 0.4, 0.2)),
    replace(make_state("second", correctness=0.4), options=("x", "y"), target=0, probabilities=(0.4, 0.6)),
]


@pytest.mark.parametrize(
    ("name", "states", "known"),
    [
        ("r_tuning", SAMPLED, {"all", "half"}),
        ("r_tuning_refusal", SAMPLED, {"all", "half"}),
        ("absolute", SAMPLED, {"all", "half", "one", "greedy"}),
        ("confidence_num", SAMPLED, {"all", "half", "one"}),
        ("confidence_verb", SAMPLED, {"all", "half", "one"}),
        ("idk_sft", SAMPLED, {"all"}),
        ("r_tuning", CHOICES, {"first"}),
        ("absolute", CHOICES, {"first", "tied"}),
        ("confidence_num", CHOICES, {"first", "tied"}),
        ("confidence_verb", CHOICES, {"first", "tied"}),
        ("idk_sft", CHOICES, set()),
    ],
)
def test_who_counts_as_known(name, states, known):
    assert sides(name, states) == (known, {state.id for state in states} - known)


def test_the_threshold_of_idk_sft_is_its_own():
    assert sides("idk_sft", SAMPLED, known_from=0.5, threshold=0.9, dead_band=0.2)[0] == {"all", "half"}
    assert sides("idk_sft", SAMPLED, known_from=0.1)[0] == {"all", "half", "one"}


def test_r_tuning_chooses_the_questions_of_cor_rait():
    states = [make_state(f"q{i}", correctness=i / 20) for i in range(20)]
    for seed in range(5):
        settings = Construction(vanilla=4, idk=3, seed=seed)
        chosen = {name: construct(name, states, None, settings).decisions for name in ("cor_rait", "r_tuning")}
        assert chosen["r_tuning"] == chosen["cor_rait"]


def test_r_tuning_u_halves_by_entropy_without_asking_what_is_right():
    states = [
        make_state("a", ("x", 5, False), ("y", 5, True)),  # ln 2
        make_state("b", ("x", 10, False)),  # 0
        make_state("c", ("x", 9, True), ("y", 1, False)),
        make_state("d", ("x", 1, True), ("y", 9, True)),  # as c
        make_state("e", ("x", 4, True), ("y", 3, False), ("z", 3, False)),
    ]
    assert sides("r_tuning_u", states) == ({"b", "c"}, {"d", "a", "e"})
    flipped = [replace(s, responses=tuple(replace(a, correct=not a.correct) for a in s.responses)) for s in states]
    assert sides("r_tuning_u", flipped) == ({"b", "c"}, {"d", "a", "e"})
    assert sides("r_tuning_u", CHOICES) == ({"first"}, {"second", "tied"})


def test_entropy_is_that_of_shares_whatever_the_number_of_samples():
    ten, two = make_state("a", ("x", 5, False), ("y", 5, False)), make_state("b", ("x", 2, False))

    assert sides("r_tuning_u", [ten, two]) == ({"b"}, {"a"})  # ln 2 and 0


def test_entropies_that_are_equal_stay_equal_whatever_the_counts():
    """4 ln 4 = 4 * (2 ln 2): of ten samples, 4 and six single ones are as uncertain as four pairs and two."""
    four = make_state("b", ("v", 4, False), *((f"s{i}", 1, False) for i in range(6)))
    pairs = make_state("a", *((f"p{i}", 2, False) for i in range(4)), ("s", 1, False), ("t", 1, False))

    assert sides("r_tuning_u", [four, pairs]) == ({"a"}, {"b"})
    assert sides("r_tuning_u", [replace(four, id="a"), replace(pairs, id="b")]) == ({"a"}, {"b"})


def test_r_tuning_u_leaves_out_what_has_no_answers_and_wants_some():
    bare = [make_state(f"bare{i}", correctness=0.5) for i in range(2)]
    selection = construct("r_tuning_u", [*SAMPLED, *bare], None, Construction(vanilla=1, idk=1))

    assert {d.id: d.reason for d in selection.decisions if d.reason.startswith("no answers:")} == dict.fromkeys(
        ("bare0", "bare1"), "no answers: neither responses nor option probabilities"
    )
    with pytest.raises(InputError, match=r"none of 2 states has responses .* \('bare0', 'bare1'\)"):
        construct("r_tuning_u", bare, None, Construction(vanilla=1, idk=1))
    with pytest.raises(ShortageError):
        construct("r_tuning_u", [], None, Construction(vanilla=1, idk=1))


def test_multisample_takes_both_shares_from_all():
    selection = construct("multisample", SAMPLED, None, Construction(vanilla=3, idk=2))
    made = examples("multisample", SAMPLED, selection.decisions, str, lambda state: Wording("gold", "IdK"), str)

    assert set(taken(selection, Role.VANILLA)) == {state.id for state in SAMPLED}
    assert sorted((row.id, row.completion, str(row.role), row.weight) for row in made) == [
        ("all", "gold", "vanilla", 1.0),
        ("greedy", "IdK", "idk", 1.0),
        ("half", "IdK", "idk", 0.5),
        ("half", "gold", "vanilla", 0.5),
        ("none", "IdK", "idk", 1.0),
        ("one", "IdK", "idk", 0.9),
        ("one", "gold", "vanilla", 0.1),
    ]


# --- GRAIT ----------------------------------------------------------------------------------------------------------

MEASURED = [
    make_state(id, correctness=mu) for id, mu in zip("abcdefgh", (0.9, 0.5, 0.9, 1, 0.1, 0.4, 0, 0.2), strict=True)
]
INFLUENCES = [
    Influence(id="e", refusal=0.5, over_refusal=0.5),
    Influence(id="f", refusal=0.75, over_refusal=0.75 - log(3)),
    Influence(id="g", refusal=0.25, over_refusal=0.0),
    Influence(id="h", refusal=0.75, over_refusal=0.75),
]


def grait(vanilla, idk, influences=INFLUENCES, name="grait", **settings):
    return construct(name, MEASURED, None, Construction(vanilla=vanilla, idk=idk, **settings), influences)


def test_grait_takes_the_highest_mu_and_the_highest_influence():
    for name in ("grait", "grait_unweighted"):
        selection = grait(4, 4, name=name)
        assert taken(selection, Role.VANILLA) == ["d", "a", "c", "b"]
        assert taken(selection, Role.IDK) == ["f", "h", "e", "g"]
    reasons = {d.id: d.reason for d in grait(1, 1).decisions}
    assert reasons["d"].startswith("highest correctness for vanilla: place 1 of 4")
    assert reasons["f"].startswith("most influential for idk: place 1 of 4")


def test_grait_weights_by_hand():
    weights = {d.id: d.weight for d in grait(4, 3, temperature=1.0).decisions}

    # exp(R - O) is 3, 1 and 1 for f, h and e: 3/5, 1/5 and 1/5 of 3/2. g is dropped.
    assert weights == pytest.approx(dict.fromkeys("abcdg", 1.0) | {"f": 0.9, "h": 0.3, "e": 0.3})
    halved = {d.id: d.weight for d in grait(4, 2, temperature=0.5).decisions}
    assert (halved["f"], halved["h"]) == pytest.approx((0.9, 0.1))
    assert {d.weight for d in grait(4, 4, name="grait_unweighted").decisions} == {1.0}


@pytest.mark.parametrize("temperature", [1e-9, 1e-3, 0.05, 1.0, 1e9])
def test_grait_weights_are_half_of_the_number_at_any_temperature(temperature):
    # The best by R - O is last by R, and is not taken.
    influences = [
        Influence(id=id, refusal=refusal, over_refusal=over)
        for id, refusal, over in (("e", 0.9, 0.9), ("f", 0.8, 0.8), ("g", 0.7, 0.95), ("h", 0.1, -1.0))
    ]
    selection = grait(1, 3, influences, temperature=temperature)

    weights = [d.weight for d in selection.decisions if d.role is Role.IDK]
    assert len(weights) == 3
    assert sum(weights) == pytest.approx(1.5)
    assert all(weight >= 0 for weight in weights)


def test_grait_weights_rise_with_r_and_fall_with_o():
    rng = random.Random(5)
    for _ in range(200):
        found = [Influence(id=id, refusal=rng.uniform(0, 0.2), over_refusal=rng.uniform(-0.2, 0.2)) for id in "efgh"]
        before = {d.id: d.weight for d in grait(1, 4, found).decisions}
        more = [replace(found[0], refusal=found[0].refusal + 0.05), *found[1:]]
        worse = [replace(found[0], over_refusal=found[0].over_refusal + 0.05), *found[1:]]
        assert {d.id: d.weight for d in grait(1, 4, more).decisions}["e"] > before["e"]
        assert {d.id: d.weight for d in grait(1, 4, worse).decisions}["e"] < before["e"]
        assert sum(before[id] for id in "efgh") == pytest.approx(2.0)
        # A difference of 0.05 at temperature 0.05 is a factor of e.
        shifted = {d.id: d.weight for d in grait(1, 4, more).decisions}
        ratio = (shifted["e"] / shifted["f"]) / (before["e"] / before["f"])
        assert ratio == pytest.approx(e)


@pytest.mark.parametrize("name", ["grait", "grait_unweighted"])
def test_grait_chooses_among_the_unknown_whose_influence_is_known(name):
    with pytest.raises(InputError, match=rf"^{name} needs the influence"):
        grait(1, 1, None, name)
    with pytest.raises(InputError, match=r"none of 4 has one \('e', 'f', 'g', "):
        grait(1, 1, [], name)
    left = {d.id: d for d in grait(1, 2, [INFLUENCES[1], INFLUENCES[3]], name).decisions}
    assert {id for id, decision in left.items() if decision.role is Role.IDK} == {"f", "h"}
    assert {left[id].reason for id in "eg"} == {"influence not measured: not drawn"}
    with pytest.raises(InputError, match=r"1 influences are not numbers \('e'\)"):
        grait(1, 1, [replace(INFLUENCES[0], over_refusal=float("nan")), *INFLUENCES[1:]], name)
    further = Influence(id="a", refusal=9.0, over_refusal=float("nan"))
    assert grait(4, 4, [further, *INFLUENCES], name) == grait(4, 4, INFLUENCES, name)


# --- a second implementation ----------------------------------------------------------------------------------------
# From the descriptions alone: plain dictionaries, exact numbers, sets emptied by repeated search for the next one.

getcontext().prec = 40
SAMPLED_TEXTS = {"Paris": True, "paris": True, "in Paris": True, "Rome": False, "Oslo": False, "Bern!": False}
LETTERS = ("A", "B", "C", "D")


def sha(*parts):
    return hashlib.sha256("/".join(map(str, parts)).encode()).hexdigest()


def pick(purpose, id, number):
    return int(sha(0, purpose, id)[:16], 16) % number


def spread(row):
    """Entropy of a row to 30 places, which shows equal ones as equal."""
    shares = row["p"] or [Fraction(row["samples"].count(text), len(row["samples"])) for text in set(row["samples"])]
    parts = [Decimal(share.numerator) / Decimal(share.denominator) for share in shares if share]
    return round(-sum(part * part.ln() for part in parts), 30)


def commonest(samples):
    best = None
    for text in samples:
        key = (-samples.count(text), len(text), text)
        best = key if best is None or key < best else best
    return best[2]


def sampled_right(row):
    return row["mu"] > 0 and all(share <= row["mu"] for share in row["p"])


def groups(name, table, settings):
    """Ids of the known and of the unknown, each with the keys by which they are taken; None for unusable input."""

    def lottery(role):
        return {id: sha(settings["seed"], role, id) for id in table}

    order = [lottery("vanilla"), lottery("idk")]
    known, unknown = set(), set()
    if name in ("van_tuning", "multisample"):
        return [set(table), set()], order
    if name == "r_tuning_u":
        rest = {id for id, row in table.items() if row["samples"] or row["p"]}
        if table and not rest:
            return None
        unknown = set(rest)
        while len(known) + 1 <= len(rest) - len(known) - 1:
            lowest = min(unknown, key=lambda one: (spread(table[one]), one))
            unknown.remove(lowest)
            known.add(lowest)
        return [known, unknown], order
    for id, row in table.items():
        if name == "absolute":
            (known if row["greedy_right"] or sampled_right(row) else unknown).add(id)
        elif name in ("confidence_num", "confidence_verb"):
            (known if sampled_right(row) else unknown).add(id)
        elif name == "idk_sft":
            (known if row["mu"] >= settings["known_from"] else unknown).add(id)
        elif row["mu"] >= settings["threshold"] + settings["band"]:
            known.add(id)
        elif row["mu"] < settings["threshold"] and row["mu"] <= settings["threshold"] - settings["band"]:
            falls = row["after"] < row["mu"] or (row["after"] == row["mu"] and settings["rule"] == "non_positive")
            if name not in ("craft", "wo_cer") or falls:
                unknown.add(id)
    if name in ("craft", "corcer_rait"):
        order = [
            {id: (-row["sigma"], id) for id, row in table.items()},
            {id: (row["sigma"], id) for id, row in table.items()},
        ]
    if name.startswith("grait"):
        measured = {id for id in unknown if table[id]["influence"] is not None}
        if unknown and not measured:
            return None
        unknown = measured
        order = [
            {id: (-row["mu"], id) for id, row in table.items()},
            {id: (-table[id]["influence"][0], id) for id in unknown},
        ]
    return [known, unknown], order


def reference(name, table, settings):
    """What is taught, as {(id, text, role): weight}; or "input" or "short" where nothing can be."""
    found = groups(name, table, settings)
    if found is None:
        return "input"
    wanted = [settings["vanilla"], settings["idk"]]
    if name in ("van_tuning", "multisample"):
        wanted = [sum(wanted), 0]
    chosen = []
    for pool, keys, number in zip(*found, wanted, strict=True):
        if len(pool) < number:
            return "short"
        first = []
        while len(first) < number:
            first.append(min(pool - set(first), key=keys.__getitem__))
        chosen.append(first)
    taught = {}
    for role, ids in zip(("vanilla", "idk"), chosen, strict=True):
        for id in ids:
            for text, made in words(name, table[id], role, id):
                taught[id, text, made] = taught.get((id, text, made), 0) + 1
            rows = [key for key in taught if key[0] == id]
            number = sum(taught[key] for key in rows)
            for key in rows:
                taught[key] /= number
    if name == "grait" and chosen[1]:
        gains = {id: exp(20 * (table[id]["influence"][0] - table[id]["influence"][1])) for id in chosen[1]}
        for id, text, role in list(taught):
            if role == "idk":
                taught[id, text, role] = gains[id] / sum(gains.values()) * len(gains) / 2
    return taught


def words(name, row, role, id):
    """Every row that a question gives, as the source would have it: (text, role)."""
    own = row["gold"]
    right = sorted(text for text in row["samples"] if SAMPLED_TEXTS[text])
    if not row["p"]:
        own = row["greedy"] if row["greedy_right"] else commonest(right) if right else own
    percent = round(100 * row["mu"])
    sure = "Are you sure you accurately answered the question based on your internal knowledge? I am "
    sure += "unsure." if role == "idk" else "sure."
    if name == "r_tuning":
        return [(f"{row['gold']}. {sure}", role)]
    if name == "r_tuning_u":
        likeliest = row["options"][row["p"].index(max(row["p"]))] if row["p"] else commonest(row["samples"])
        return [(f"{likeliest}. {sure}", role)]
    if name == "r_tuning_refusal":
        stock = STOCK_REFUSALS[pick("r_tuning_refusal", id, 16)]
        return [(stock if role == "idk" else row["gold"] + ".", role)]
    if name == "multisample":
        if row["samples"]:
            return [(text, "vanilla") if SAMPLED_TEXTS[text] else ("IdK", "idk") for text in row["samples"]]
        part, whole = row["mu"].as_integer_ratio()
        return [(row["gold"], "vanilla")] * part + [("IdK", "idk")] * (whole - part)
    if role == "idk":
        return [("IdK", role)]
    if name == "absolute":
        return [(own, role)]
    if name == "confidence_num":
        start, link = ("I'm only about", "but") if 2 * row["mu"] <= 1 else ("I'm about", "and")
        return [
            (
                f"{start} {percent}% confident to answer the question correctly, {link} based on my understanding and "
                f"knowledge, here's what I think is correct. {own}",
                role,
            )
        ]
    if name == "confidence_verb":
        phrases = ["I'm really not sure about this, but", "I'm not completely sure about this, but"]
        phrases += ["I don't have strong feelings either way, but", "I'm fairly confident that"]
        level = sum(5 * row["mu"] > fifths for fifths in (1, 2, 3, 4))
        phrase = [*phrases, "I'm absolutely certain that"][level]
        return [
            (f"{phrase} {own if row['options'] == LETTERS[: len(row['options'])] and row['p'] else lowered(own)}", role)
        ]
    if name == "idk_sft":
        return [(right[pick("idk_sft", id, len(right))] if right and not row["p"] else row["gold"], role)]
    return [(row["gold"], role)]


def lowered(text):
    return text[0].lower() + text[1:]


def random_table(rng):
    """Rows by id: all open-ended or all with options; some made elsewhere, with neither samples nor probabilities."""
    kind, number = rng.choice(["samples", "samples", "options"]), rng.choice([1, 3, 5, 8, 10, 10, 10, 20])
    letters, bare, unmeasured = rng.random() < 0.5, rng.choice([0, 0, 0.1, 1]), rng.choice([0, 0, 0, 0.1, 0.5, 1])
    table = {}
    for place in rng.sample(range(100), rng.randint(0, 14)):
        row = {"p": [], "samples": [], "options": (), "gold": "Gold", "greedy": None, "greedy_right": None}
        elsewhere = rng.random() < bare
        if kind == "options":
            cuts = sorted(rng.choice([0, 10, 20, 30, 40, 50, 60, 80, 100, rng.randint(0, 100)]) for _ in range(2))
            row["p"] = [Fraction(part, 100) for part in (cuts[0], cuts[1] - cuts[0], 100 - cuts[1])]
            row["options"] = LETTERS[:3] if letters else ("Rome", "Paris", "Oslo")
            row["target"] = rng.randrange(3)
            row["gold"], row["mu"] = row["options"][row["target"]], row["p"][row["target"]]
        else:
            known = rng.choice([0, 0, 0.5, 0.5, 0.9, 1])
            pool = [[text for text, right in SAMPLED_TEXTS.items() if right is wanted] for wanted in (False, True)]
            row["samples"] = [rng.choice(pool[rng.random() < known]) for _ in range(number)]
            row["mu"] = Fraction(sum(SAMPLED_TEXTS[text] for text in row["samples"]), number)
            if elsewhere:
                row["samples"] = []
            elif rng.random() < 0.8:
                row["greedy"] = rng.choice(list(SAMPLED_TEXTS))
                row["greedy_right"] = SAMPLED_TEXTS[row["greedy"]]
        row["sigma"] = rng.choice([-0.2, 0.0, 0.1, 0.5, 0.5, 0.9, 1.0])
        row["after"] = min(
            Fraction(1), max(Fraction(0), row["mu"] + Fraction(rng.choice([-2, -1, 0, 0, 1, 2]), number))
        )
        measured = (rng.choice([-0.5, 0.0, 0.25, 0.25, 0.5]), rng.choice([-0.25, 0.0, 0.25]))
        row["influence"] = None if rng.random() < unmeasured else measured
        table[f"id{place}"] = row
    return table


def state_of(rng, id, row):
    texts = list(dict.fromkeys(row["samples"]))
    answers = sorted(
        (Answer(text=t, count=row["samples"].count(t), correct=SAMPLED_TEXTS[t]) for t in texts), key=lambda a: -a.count
    )
    return KnowledgeState(
        id=id,
        question="?",
        answers=(row["gold"],),
        options=("Rome", "Paris", "Oslo") if row["p"] else (),
        target=row.get("target"),
        correctness=float(row["mu"]),
        certainty=row["sigma"],
        responses=tuple(answers),
        probabilities=tuple(float(share) for share in row["p"]),
        greedy=row["greedy"],
        greedy_correct=row["greedy_right"],
    )


def taught_by(name, table, settings, rng):
    states = [state_of(rng, id, row) for id, row in table.items()]
    flows = [
        KnowledgeFlow(
            id=id,
            correctness_before=float(row["mu"]),
            correctness_after=float(row["after"]),
            certainty_before=row["sigma"],
            certainty_after=0.0,
        )
        for id, row in table.items()
    ]
    influences = [
        Influence(id=id, refusal=row["influence"][0], over_refusal=row["influence"][1])
        for id, row in table.items()
        if row["influence"]
    ]
    chosen = Construction(
        vanilla=settings["vanilla"],
        idk=settings["idk"],
        threshold=float(settings["threshold"]),
        dead_band=float(settings["band"]),
        known_from=float(settings["known_from"]),
        flow_rule=settings["rule"],
        seed=settings["seed"],
    )
    for records in (states, flows, influences):
        rng.shuffle(records)
    try:
        decisions = construct(name, states, flows, chosen, influences).decisions
    except InputError:
        return "input"
    except ShortageError:
        return "short"
    assert [d.id for d in decisions] == [state.id for state in states], "every question is placed exactly once"
    rng.shuffle(states)
    rows = examples(
        name,
        states,
        decisions,
        lambda state: state.id,
        lambda state: Wording(table[state.id]["gold"], "IdK", table[state.id]["options"]),
        str,
    )
    assert all(row.prompt == row.id for row in rows)
    taught = {(row.id, row.completion, str(row.role)): row.weight for row in rows}
    assert len(taught) == len(rows), "equal rows are one"
    return taught


@pytest.mark.parametrize("name", ALL)
def test_agrees_with_a_second_implementation_on_random_tables(name):
    rng = random.Random(f"peers {name}")
    met = Counter()
    for _ in range(2000):
        table = random_table(rng)
        settings = {
            "vanilla": rng.randint(0, 4),
            "idk": rng.randint(1, 2),
            "threshold": Fraction(rng.randint(1, 9), 10),
            "band": Fraction(rng.choice([0, 0, 0, 1, 5, 10]), 100),
            "known_from": Fraction(rng.choice([1, 5, 8, 10, 10]), 10),
            "rule": rng.choice(["negative", "non_positive"]),
            "seed": rng.randint(0, 9),
        }
        expected, found = reference(name, table, settings), taught_by(name, table, settings, rng)
        outcome = expected if isinstance(expected, str) else "taught"
        if outcome == "taught" and isinstance(found, dict):
            assert found == pytest.approx(expected), (table, settings)
        else:
            assert found == expected, (table, settings)
        met[outcome] += 1
    # Each outcome was met often.
    wants_more = {"r_tuning_u", "grait", "grait_unweighted"}
    assert met["taught"] > 400 and met["short"] > 300 and (met["input"] > 50) is (name in wants_more), met
