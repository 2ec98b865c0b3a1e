"""Who is asked: loading models, the tree of prefixes, the sampler, sentence embeddings."""
