"""Evaluation: from verdicts to the shares, the Truthful Helpfulness Score and what became of each answer.

`verdicts` reads verdicts, and judges plain responses made elsewhere; `metrics` scores them, against a baseline's
verdicts if there are any; `intervals` gives every number its bootstrap interval. Nothing here needs a model.
"""
