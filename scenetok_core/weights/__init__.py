"""Weights and scenes on disk: where published ones come from, how files of any form are read, and what is written."""
