"""Stage 1: what a model knows, how it is rehearsed, and where its knowledge flows (CRaFT, section 3)."""
