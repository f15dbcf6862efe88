"""Training of the models in `scenetok_core` (see `docs/training.md`)."""
