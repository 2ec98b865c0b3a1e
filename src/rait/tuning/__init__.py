"""Fine-tuning, for the rehearsed and the refusal-aware model alike."""
