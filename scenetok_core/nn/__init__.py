"""The parts the networks are made of."""
