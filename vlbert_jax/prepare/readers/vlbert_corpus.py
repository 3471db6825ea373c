"""the VL-BERT release's text corpus: bc1g.doc, wiki.doc, one passage a line, joined in order"""

from vlbert_jax.prepare.readers.text import KIND, read

__all__ = ["KIND", "read"]
