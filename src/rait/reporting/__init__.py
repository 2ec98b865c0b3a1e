"""Reporting: results for people and for other programs, made from what the stages found and from nothing else."""
