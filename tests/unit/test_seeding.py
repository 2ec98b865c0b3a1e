"""Randomness that belongs to a question."""

import hashlib
from collections import Counter
from itertools import permutations

from hypothesis import given
from hypothesis import strategies as st

from rait.seeding import seed_for, ticket

PLACES = [(seed, purpose, id) for seed in (0, 1, 12) for purpose in ("shots", "idk") for id in ("q", "q1", "", "a/b")]


def test_tickets_are_pinned():
    """A ticket stays what it is for good: a run repeated with a later version draws the same questions."""
    assert ticket(7, "rehearsal", "capital/FR") == hashlib.sha256(b"7/rehearsal/capital/FR").digest()
    assert ticket(0, "idk", "Köln") == hashlib.sha256("0/idk/Köln".encode()).digest()
    assert seed_for(7, "rehearsal", "capital/FR") == int(hashlib.sha256(b"7/rehearsal/capital/FR").hexdigest()[:16], 16)


def test_seed_purpose_and_id_all_matter():
    assert len({ticket(*place) for place in PLACES}) == len(PLACES)
    assert len({seed_for(*place) for place in PLACES}) == len(PLACES)


@given(st.integers(), st.text(), st.text(st.characters()))
def test_any_seed_and_text_has_a_ticket_and_a_seed(seed, purpose, id):
    assert len(ticket(seed, purpose, id)) == 32
    assert 0 <= seed_for(seed, purpose, id) < 2**64


def test_half_a_surrogate_pair_has_a_ticket_too():
    assert ticket(0, "idk", "\ud83e") != ticket(0, "idk", "\ud83d")


def test_every_order_of_the_ids_is_equally_likely():
    tickets = ({ticket(seed, "shots", id): id for id in "abc"} for seed in range(6000))
    orders = Counter(tuple(drawn[place] for place in sorted(drawn)) for drawn in tickets)

    # 6000 draws of one in six: 1000 each, standard deviation 29.
    assert orders.keys() == set(permutations("abc"))
    assert all(abs(count - 1000) < 150 for count in orders.values())


def test_seeds_spread_over_their_range():
    eighths = Counter(seed_for(0, "samples", f"q{number}") >> 61 for number in range(8000))

    # 8000 seeds in eight parts: 1000 each, standard deviation 30.
    assert eighths.keys() == set(range(8))
    assert all(abs(count - 1000) < 150 for count in eighths.values())
