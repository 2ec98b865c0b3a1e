"""The 57 subjects of MMLU and the four groups of them over which it reports averages.

    evaluate(verdicts, baseline, groups=groups_of({verdict.category for verdict in verdicts}))

Names and grouping are those of the published evaluation (Hendrycks et al., Measuring Massive Multitask Language
Understanding, arXiv 2009.03300; github.com/hendrycks/test, categories.py), which calls the groups categories; here the
category of a question is its subject. Other evaluations differ in one subject: they count anatomy as STEM, while the
published one counts it, like all of health, among the others.
"""

from collections.abc import Iterable, Mapping

_GROUPS = {
    "STEM": """
        abstract_algebra astronomy college_biology college_chemistry college_computer_science college_mathematics
        college_physics computer_security conceptual_physics electrical_engineering elementary_mathematics
        high_school_biology high_school_chemistry high_school_computer_science high_school_mathematics
        high_school_physics high_school_statistics machine_learning
    """,
    "humanities": """
        formal_logic high_school_european_history high_school_us_history high_school_world_history international_law
        jurisprudence logical_fallacies moral_disputes moral_scenarios philosophy prehistory professional_law
        world_religions
    """,
    "social sciences": """
        econometrics high_school_geography high_school_government_and_politics high_school_macroeconomics
        high_school_microeconomics high_school_psychology human_sexuality professional_psychology public_relations
        security_studies sociology us_foreign_policy
    """,
    "other (business, health, misc.)": """
        anatomy business_ethics clinical_knowledge college_medicine global_facts human_aging management marketing
        medical_genetics miscellaneous nutrition professional_accounting professional_medicine virology
    """,
}

SUBJECTS: Mapping[str, str] = {subject: group for group, subjects in _GROUPS.items() for subject in subjects.split()}


def groups_of(categories: Iterable[str]) -> dict[str, str]:
    """Map each of `categories` to its group of MMLU; {} if there are none, or if not all are subjects of MMLU."""
    found = sorted(set(categories))
    return {subject: SUBJECTS[subject] for subject in found} if SUBJECTS.keys() >= set(found) else {}
