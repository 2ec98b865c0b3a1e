"""The whole pipeline in Python, stage by stage. `rait.run(recipe, folder)` does all of it in one call, and resumably.

python examples/pipeline.py my-run default seed=1
"""

import sys
from pathlib import Path

from rait import (
    Renderer,
    answer,
    construct,
    evaluate,
    fine_tune,
    flows,
    load,
    load_embedder,
    load_recipe,
    query,
    question_sets,
    rehearsal_examples,
    tuning_examples,
    write_records,
)

if len(sys.argv) < 3:
    sys.exit("usage: python examples/pipeline.py FOLDER RECIPE [KEY=VALUE]...")
out, recipe = Path(sys.argv[1]), load_recipe(sys.argv[2], sys.argv[3:])
sets, shots = question_sets(recipe, print)
embed = load_embedder(recipe.probe.embedder)

# What does the initial model know? And how does it answer the test questions?
model = load(recipe.model)
render = Renderer(model.tokenizer, recipe.prompt, shots)
initial = list(query(model, sets["train"], render, recipe.probe, embed, seed=recipe.seed))
write_records(out / "initial.parquet", initial)
before = list(answer(model, sets["id"], render, recipe.evaluation))

# Rehearse it on what it knows best, and ask again: what rises, what falls?
best, note = rehearsal_examples(model.tokenizer, out / "initial.parquet", recipe)
fine_tune(model, best, recipe.rehearsal.tuning, out / "rehearsal", seed=recipe.seed)
model = load(recipe.model, adapter=out / "rehearsal/adapter")
rehearsed = list(query(model, sets["train"], render, recipe.probe, embed, seed=recipe.seed))

# Choose what is kept and what becomes "I don't know", and teach that to the initial model.
settings = recipe.construction.model_copy(update={"seed": recipe.seed})
selection = construct("craft", initial, flows(initial, rehearsed), settings)
taught = tuning_examples(model.tokenizer, "craft", out / "initial.parquet", selection.decisions, recipe.prompt)
fine_tune(load(recipe.model), taught, recipe.tuning, out / "craft", seed=recipe.seed)

# What came of it?
model = load(recipe.model, adapter=out / "craft/adapter")
after = list(answer(model, sets["id"], Renderer(model.tokenizer, recipe.prompt, may_refuse=True), recipe.evaluation))
metrics = evaluate(after, before)
print({name: metrics.overall[name].value for name in ("P_c", "P_w", "P_r", "THS")})
