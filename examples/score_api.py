"""Answers made by any chat API: collected, judged as rait judges its own, and measured against a baseline.

    export API_URL=http://localhost:8000/v1 API_KEY=...
    python examples/score_api.py collect test.jsonl before.jsonl NAME
    python examples/score_api.py collect test.jsonl after.jsonl  NAME "If you don't know, reply \"I don't know\"."
    python examples/score_api.py score   test.jsonl after.jsonl before.jsonl

`collect` works with every server that speaks the OpenAI form; `score` needs no server: it takes a file of id and
response, whoever made it.
"""

import json
import os
import sys
from dataclasses import asdict
from pathlib import Path

from huggingface_hub import InferenceClient

from rait import Verdict, evaluate, judge, judge_choice, load_questions
from rait.evaluation.metrics import format_metric


def collect(questions, out, model, system="Answer as briefly as possible."):
    """Ask every question once, and write id and response."""
    client = InferenceClient(base_url=os.environ["API_URL"], api_key=os.environ.get("API_KEY", "none"))
    with Path(out).open("w", encoding="utf-8") as file:
        for question in load_questions(questions):
            turns = [{"role": "system", "content": system}, {"role": "user", "content": question.question}]
            reply = client.chat.completions.create(model=model, messages=turns, temperature=0, max_tokens=50)
            row = {"id": question.id, "response": reply.choices[0].message.content or ""}
            file.write(json.dumps(row, ensure_ascii=False) + "\n")


def judged(questions, answers):
    """A verdict on every question; one that has no answer in the file is an error, not a refusal."""
    rows = [json.loads(line) for line in Path(answers).read_text("utf-8").splitlines()]
    response = {row["id"]: row["response"] for row in rows}
    if missing := [question.id for question in questions if question.id not in response]:
        sys.exit(f"{answers} has no answer to {len(missing)} questions, such as {missing[0]!r}; collect them too")
    return [verdict(question, response[question.id]) for question in questions]


def verdict(question, response):
    """Correct, wrong or refused."""
    if question.options:
        outcome, rule = judge_choice(response, question.options, question.target)
    else:
        outcome, rule = judge(response, question.answers)
    return Verdict(**asdict(question), response=response, outcome=outcome, rule=rule)


def score(questions, after, before):
    """P_c, P_w, P_r and THS of the answers `after`, in points with 95 % intervals; `before` is the baseline."""
    asked = load_questions(questions)
    metrics = evaluate(judged(asked, after), judged(asked, before))
    for name in ("P_c", "P_w", "P_r", "THS", "over_refusal"):
        print(f"{name:<13} {format_metric(metrics.overall[name])}")


if __name__ == "__main__":
    if len(sys.argv) < 5 or sys.argv[1] not in ("collect", "score"):
        sys.exit(__doc__)
    {"collect": collect, "score": score}[sys.argv[1]](*sys.argv[2:])
