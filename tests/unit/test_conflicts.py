"""Conflicts against loops over all pairs in exact integer arithmetic, counts by hand, and maps that repeat."""

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rait.construction.conflicts import (
    THRESHOLDS,
    ConflictingPair,
    CrssPoint,
    Directions,
    conflict_map,
    conflicting_pairs,
    crss,
    dynamic,
    dynamic_by_role,
    project,
)
from rait.errors import InputError
from rait.records import Decision, KnowledgeFlow, Role

# Of small integers, many pairs have exactly these cosines: (3, 4) and (1, 0) have 3/5.
TAUS = [Fraction(0), Fraction(1, 2), Fraction(3, 5), Fraction(4, 5), Fraction(97, 100), Fraction(1)]


def squared(a, b):
    """The squared cosine with its sign, exactly; it orders as the cosine does."""
    dot, lengths = sum(x * y for x, y in zip(a, b, strict=True)), sum(x * x for x in a) * sum(y * y for y in b)
    return Fraction(dot * abs(dot), lengths) if lengths else Fraction(0)


def slow_crss(vanilla, idk, tau):
    """CRSS from a loop over all pairs: the share of idk samples that have a vanilla sample above tau."""
    conflicts = 0
    for one in idk:
        above = False
        for other in vanilla:
            above = above or squared(one, other) > tau * tau
        conflicts += above
    return conflicts / len(idk)


@st.composite
def roles(draw):
    width = draw(st.integers(1, 3))
    row = st.lists(st.integers(-4, 4), min_size=width, max_size=width)
    return draw(st.lists(row, min_size=1, max_size=12)), draw(st.lists(row, min_size=1, max_size=12))


def matrix(rows):
    return np.array(rows, dtype=np.float32)


@given(roles())
def test_crss_is_that_of_a_loop_over_all_pairs_with_ties_zeros_and_duplicates(of):
    vanilla, idk = of
    points = crss(matrix(vanilla), matrix(idk), [float(tau) for tau in TAUS])
    assert points == [CrssPoint(float(tau), slow_crss(vanilla, idk, tau), len(idk)) for tau in TAUS]


@given(st.integers(0, 2**32 - 1), st.integers(1, 40), st.integers(1, 40))
def test_crss_falls_with_the_threshold(seed, vanilla, idk):
    rng = np.random.default_rng(seed)
    points = crss(
        rng.normal(size=(vanilla, 3)).astype(np.float32),
        rng.normal(size=(idk, 3)).astype(np.float32),
        np.linspace(-1, 1, 41).tolist(),
    )
    shares = [point.share for point in points]
    assert shares == sorted(shares, reverse=True)
    assert shares[-1] == 0


def test_crss_by_hand():
    vanilla = matrix([[1, 0], [0, 1]])
    idk = matrix([[3, 4], [5, 0], [-1, -1], [0, 0]])  # nearest cosines 0.8, 1, -0.71 and 0
    points = crss(vanilla, idk, [-1, -0.1, 0, 0.79, 0.8, 0.99, 1])
    assert [point.share for point in points] == [1, 0.75, 0.5, 0.5, 0.25, 0.25, 0]


@pytest.mark.parametrize(("vanilla", "idk"), [(0, 3), (3, 0), (0, 0)])
def test_crss_of_nothing_is_undefined(vanilla, idk):
    points = crss(np.ones((vanilla, 2), np.float32), np.ones((idk, 2), np.float32))
    assert points == [CrssPoint(tau, None, 0) for tau in THRESHOLDS]
    assert 0.97 in THRESHOLDS


@given(roles(), st.integers(0, 15), st.randoms())
def test_pairs_are_the_most_similar_of_all_whatever_the_order(of, k, random):
    numbers = random.sample(range(100), 24)  # distinct: an id is a question's own
    named = [
        [(f"{name}{number}", row) for number, row in zip(numbers, rows, strict=False)]
        for name, rows in zip("vi", of, strict=True)
    ]
    expected = []
    for id, row in named[1]:
        near, other = min(((-squared(row, against), other) for other, against in named[0]))
        expected.append((near, id, other))
    for part in named:
        random.shuffle(part)
    (van_ids, vanilla), (idk_ids, idk) = (list(zip(*part, strict=True)) for part in named)
    found = conflicting_pairs(van_ids, matrix(vanilla), idk_ids, matrix(idk), k)

    assert [(pair.idk, pair.vanilla) for pair in found] == [pair[1:] for pair in sorted(expected)[:k]]
    for pair, (near, *_) in zip(found, sorted(expected), strict=False):
        assert pair.similarity * abs(pair.similarity) == pytest.approx(float(-near), abs=1e-11)


def test_pairs_by_hand_and_of_nothing():
    vanilla, idk = matrix([[1, 0], [0, 1]]), matrix([[3, 4], [5, 0]])
    assert conflicting_pairs(["a", "b"], vanilla, ["p", "q"], idk, 5) == [
        ConflictingPair("q", "a", 1.0),
        ConflictingPair("p", "b", 0.8),
    ]
    assert conflicting_pairs([], vanilla[:0], ["p", "q"], idk, 5) == []
    assert conflicting_pairs(["a", "b"], vanilla, [], idk[:0], 5) == []


def flow(id, before, after):
    return KnowledgeFlow(
        id=id, correctness_before=before, correctness_after=after, certainty_before=0.5, certainty_after=0.5
    )


FLOWS = [
    flow("a", 0.0, 0.0),
    flow("b", 0.1, 0.4),
    flow("c", 0.3, 0.1 + 0.2),  # 0.30000000000000004: stays
    flow("d", 0.4, 0.1),
    flow("e", 0.5, 0.1),
    flow("f", 0.9, 1.0),
]


def test_directions_of_the_unknown():
    found = dynamic(iter(FLOWS), 0.5)
    assert found == Directions(rising=1, staying=2, falling=1)
    assert found.n == 4 and found.share(found.staying) == 0.5
    assert dynamic(FLOWS, 1.0) == Directions(rising=2, staying=2, falling=2)


def test_directions_of_nothing_are_undefined():
    found = dynamic(FLOWS, 0.0)
    assert found == Directions(0, 0, 0)
    assert found.share(found.rising) is None


def test_directions_of_what_a_strategy_chose():
    chosen = [
        Decision(id=id, role=role, reason="")
        for id, role in zip("abdef", (Role.IDK, Role.IDK, Role.IDK, Role.VANILLA, Role.DROPPED), strict=True)
    ]
    assert dynamic_by_role(chosen, FLOWS) == {
        Role.IDK: Directions(1, 1, 1),
        Role.VANILLA: Directions(0, 0, 1),
        Role.DROPPED: Directions(1, 0, 0),
    }


def test_a_decision_without_flow_is_named():
    with pytest.raises(InputError, match="1 questions that are decided about have no knowledge flow \\('z'\\)"):
        dynamic_by_role([Decision(id="z", role=Role.IDK, reason="")], FLOWS)


def clusters(sizes, width=80):
    """Features around as many directions as there are sizes, and which of them each row is near."""
    rng = np.random.default_rng(1)
    centres = rng.normal(size=(len(sizes), width))
    labels = np.repeat(np.arange(len(sizes)), sizes)
    return (centres[labels] + 0.05 * rng.normal(size=(len(labels), width))).astype(np.float32), labels


def test_projection_is_the_same_for_a_seed_and_keeps_neighbours_together():
    features, labels = clusters([25, 20, 15])
    places = project(features, seed=3)
    assert places.shape == (60, 2) and np.isfinite(places).all()
    np.testing.assert_array_equal(places, project(features, seed=3))
    distances = np.linalg.norm(places[:, None] - places, axis=2) + np.diag(np.full(60, np.inf))
    assert (labels[distances.argmin(axis=1)] == labels).all()


@pytest.mark.parametrize("count", [4, 5, 31])
def test_projection_of_few_points(count):
    places = project(clusters([count])[0], seed=0)
    assert places.shape == (count, 2) and np.isfinite(places).all()


@pytest.mark.parametrize("count", [0, 1, 2, 3])
def test_fewer_than_4_points_lie_as_far_apart_as_their_directions(count):
    features = clusters([1] * count)[0] if count else np.zeros((0, 80), np.float32)
    places = project(features, seed=0)
    unit = features / np.linalg.norm(features, axis=1, keepdims=True)
    expected = np.linalg.norm(unit[:, None] - unit, axis=2)
    np.testing.assert_allclose(np.linalg.norm(places[:, None] - places, axis=2), expected, atol=1e-5)


def test_pca_is_that_of_the_singular_value_decomposition():
    features, _ = clusters([30, 10], width=12)
    unit = (features / np.linalg.norm(features, axis=1, keepdims=True)).astype(np.float64)
    centred = unit - unit.mean(axis=0)
    u, s, _ = np.linalg.svd(centred, full_matrices=False)
    np.testing.assert_allclose(np.abs(project(features, 0, "pca")), np.abs(u[:, :2] * s[:2]), atol=1e-6)


def test_projection_looks_at_directions_alone_and_takes_zeros_and_duplicates():
    features, _ = clusters([12, 8])
    np.testing.assert_allclose(project(features * 4, 0), project(features, 0))
    features[3:9] = features[2]
    features[10] = 0
    assert np.isfinite(project(features, 0)).all()
    assert np.isfinite(project(np.ones((9, 1), np.float32), 0)).all()


ROLES = [Role.VANILLA, Role.VANILLA, Role.IDK, Role.DROPPED, Role.DROPPED, Role.DROPPED]


def test_the_map_says_what_it_shows(tmp_path):
    points = np.random.default_rng(0).normal(size=(6, 2))
    path = tmp_path / "map.svg"
    conflict_map(path, "craft", points, ROLES, CrssPoint(0.97, 0.25, 4))
    text = path.read_text()
    for part in ("craft: 2 vanilla, 1 idk, CRSS(0.97) 25.0%", "vanilla (2)", "idk (1)", "dropped (3)"):
        assert f"<!-- {part} -->" in text
    conflict_map(str(tmp_path / "again.svg"), "craft", points, ROLES, CrssPoint(0.97, 0.25, 4))
    assert (tmp_path / "again.svg").read_bytes() == path.read_bytes()


def test_a_map_of_nothing_and_one_in_pixels(tmp_path):
    conflict_map(tmp_path / "none.svg", "van_tuning", np.zeros((0, 2)), [], CrssPoint(0.97, None, 0))
    assert "van_tuning: 0 vanilla, 0 idk, CRSS(0.97) n/a" in (tmp_path / "none.svg").read_text()
    with (tmp_path / "map.png").open("wb") as file:
        conflict_map(file, "craft", np.zeros((6, 2)), ROLES, CrssPoint(0.97, 0.0, 1))
    header = (tmp_path / "map.png").read_bytes()[:24]
    assert header[:8] == b"\x89PNG\r\n\x1a\n"
    assert int.from_bytes(header[16:20]) >= 1000  # readable: at least so many pixels wide
