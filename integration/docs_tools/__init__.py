"""Writes the generated parts of the documentation from the code: `make docs`, or `python -m integration.docs_tools`.

A part is what stands between `<!-- begin NAME -->` and `<!-- end -->`; everything around it is written by hand. Where
the code has no words for a setting or a field, those that stand in its row of the page are kept.
"""
