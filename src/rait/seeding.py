"""Randomness that belongs to a question: derived from the seed, what it is for, and the question's id.

So neither the order of the questions nor the batch they were in nor an interruption changes what is drawn.
"""

from hashlib import sha256


def ticket(seed: int, purpose: str, id: str) -> bytes:
    """A question's place in a random order: sort by it and take the first."""
    return sha256(f"{seed}/{purpose}/{id}".encode(errors="surrogatepass")).digest()


def seed_for(seed: int, purpose: str, id: str) -> int:
    """A seed in [0, 2**64) for a random generator of the question's own."""
    return int.from_bytes(ticket(seed, purpose, id)[:8], "big")
