"""Training data: endless procedural rooms (`rooms`)."""
