"""What is asked: questions from files, from Hugging Face datasets, and the embedded set "atlas"."""

from rait.questions.readers import load_questions

__all__ = ["load_questions"]
