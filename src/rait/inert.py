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
# Passwords in addresses, and keys of known forms. Each pattern looks no further than some hundred characters, for a
# text may be long and hostile; what a group holds is no secret and stays.
_SECRET = re.compile(
    # https://user:password@host: what stands before the @, or a colon that no port follows, and up to the last @. A
    # password may hold / and @, as people type it, so of https://host:8000/@me it matters that 8000 is a port.
    r"(?<=://)(?:[^\s'\"/@]++(?=@)|[^\s'\"/@:\[]*+:(?!\d*[/?#])[^\s'\"@]{1,500}(?=@))(?:@[^\s'\"]{0,500}(?=@))?"
    r"|((?i:[?&](?:[\w-]{0,40}[_-])?(?:token|secret|password|passwd|pwd|signature|sig|(?:api|access|auth)?key)=))"
    r"[^\s'\"&#]+"
    r"|(?<![A-Za-z0-9])(?:"
    r"hf_[A-Za-z0-9]{20,}"  # Hugging Face
    r"|sk-(?=[\w-]{0,40}[A-Z0-9])[\w-]{20,}"  # OpenAI, Anthropic; sk- alone is Slovak
    r"|gh[oprsu]_[A-Za-z0-9]{20,}|github_pat_\w{20,}"  # GitHub
    r"|gl(?:pat|dt|rt|cbt|ptt|ft|soat|oas|agent|imt)-[\w-]{20,}"  # GitLab
    r"|(?:xox[abceoprs]|xapp)-(?=[\w-]{0,10}\d)[\w-]{10,}"  # Slack
    r"|A[KS]IA[0-9A-Z]{16}(?![0-9A-Z])|AIza[\w-]{30,})"  # AWS, Google
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
    return inert(_SECRET.sub(r"\1***", text), keep="\n\t")


def holds_secret(text: str) -> bool:
    """Whether a text holds a password in an address, or a key of a known form."""
    return _SECRET.search(text) is not None


def _commands(character: str) -> bool:
    return character in _DIRECTIONS or unicodedata.category(character) in ("Cc", "Cs", "Zl", "Zp")
