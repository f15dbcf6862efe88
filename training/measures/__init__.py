"""Measures as functions of tensors; `docs/evaluation.md` lists them.

What a measure needs beyond torch is imported when it is made.
"""
