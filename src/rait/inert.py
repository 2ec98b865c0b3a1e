"""Texts of others as people may be shown them: nothing in them acts on a terminal, and no password or key is seen.

    inert("a\\x1b[2J")                                           # "a\\ufffd[2J"
    presentable("cannot fetch https://me:secret@host/model")    # "cannot fetch https://***@host/model"

Ids, questions, answers and the words of libraries stand in messages. An escape could set the window's title, hide what
was printed, or write a link over it; an address may hold a password.
"""

import re
import unicodedata

# Unicode's Bidi_Control.
_DIRECTIONS = frozenset("\u061c\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")
# Who logs in at an address (https://user:password@host), and keys of known forms: Hugging Face, OpenAI, GitHub, AWS.
_SECRET = re.compile(
    r"(?<=://)[^/@\s'\"]+(?=@)|\bhf_[A-Za-z0-9]{20,}|\bsk-[\w-]{20,}|\bgh[oprsu]_[A-Za-z0-9]{20,}"
    r"|\bgithub_pat_\w{20,}|\bAKIA[0-9A-Z]{16}\b"
)
_MARKUP = re.compile(r"[\\`*|<>\[\]~&$]|(?<!\w)_|_(?!\w)|^(?=[#+=-])")


def inert(text: str, keep: str = "") -> str:
    """A text without what would command a terminal: line breaks, escapes, marks of writing direction.

    What writing needs stays, such as the joiners of Persian and of emoji, and spaces of other widths; so do the
    characters in `keep`.
    """
    return "".join(each if each in keep or not _commands(each) else "\ufffd" for each in text)


def inert_json(text: str) -> str:
    """JSON with the same content in which such characters are escaped."""
    return "".join(each if each == "\n" or not _commands(each) else f"\\u{ord(each):04x}" for each in text)


def inert_markdown(text: str) -> str:
    """A text as one line of Markdown in which nothing is markup: no link, no HTML, no emphasis, no table."""
    return _MARKUP.sub(r"\\\g<0>", inert(text))


def presentable(text: str) -> str:
    """A text of one or more lines as people may be shown it: inert, and without passwords and keys."""
    return inert(_SECRET.sub("***", text), keep="\n\t")


def holds_secret(text: str) -> bool:
    """Whether a text holds a password in an address, or a key of a known form."""
    return _SECRET.search(text) is not None


def _commands(character: str) -> bool:
    return character in _DIRECTIONS or unicodedata.category(character) in ("Cc", "Cs", "Zl", "Zp")
