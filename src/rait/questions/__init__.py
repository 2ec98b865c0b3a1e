"""What is asked: questions from files, Hugging Face datasets and published sets, and the embedded set "atlas"."""

from rait.questions.readers import load_questions, read_questions
from rait.questions.validation import validate, without, without_leaks

__all__ = ["load_questions", "read_questions", "validate", "without", "without_leaks"]
