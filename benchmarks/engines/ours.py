"""rait itself: the draw alone, which is what the other engines do, and the whole probe.

The whole probe is what `rait probe` does with the questions: tokenise, draw, match, embed, certainty.
"""

from collections.abc import Sequence
from typing import Any

from engines import Answers, Asked, Job, Ready
from engines.counting import count_rows

SETTINGS: dict[str, list[dict[str, Any]]] = {
    "rait_probe": [{"dtype": "bfloat16"}, {"dtype": "float32"}],
    "rait_draw": [{"dtype": "bfloat16"}, {"dtype": "float32"}],
}


def rait_draw(job: Job) -> Ready:
    """The tree of distinct prefixes."""
    from rait.models.sampler import Sampling, draw

    loaded = _load(job)

    def ask(asked: Sequence[Asked], samples: int) -> Answers:
        sampling = Sampling(samples, 1.0, job.max_new_tokens)
        prompts, seeds = [one["prompt"] for one in asked], [one["seed"] for one in asked]
        drawn = dict(draw(loaded.model, loaded.tokenizer, prompts, seeds, sampling))
        return [drawn[index].counts for index in range(len(asked))]

    return Ready(ask, count_rows(loaded.model))


def rait_probe(job: Job) -> Ready:
    """The whole knowledge state query."""
    from rait.knowledge.query import query
    from rait.models.embedding import load_embedder
    from rait.recipe import Probe
    from rait.records import Question

    loaded = _load(job)
    embed = load_embedder()

    def ask(asked: Sequence[Asked], samples: int) -> Answers:
        prompts = {one["question"]: one["prompt"] for one in asked}
        questions = [
            Question(id=one["id"], question=one["question"], answers=tuple(one["answers"]), category=one["category"])
            for one in asked
        ]
        probe = Probe(samples=samples, max_new_tokens=job.max_new_tokens)
        states = query(loaded, questions, lambda asked: prompts[asked.question], probe, embed, seed=0)
        return [{answer.text: answer.count for answer in state.responses} for state in states]

    return Ready(ask, count_rows(loaded.model))


def _load(job: Job) -> Any:
    from rait.models.loading import load
    from rait.recipe import Model

    return load(Model(source=job.model, dtype=job.setting["dtype"]))
