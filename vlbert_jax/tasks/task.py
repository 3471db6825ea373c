"""What a task file offers to plan, pipeline and step (Term: see ../terms.py)."""

from vlbert_jax.terms import Term

__all__ = ["Term"]
