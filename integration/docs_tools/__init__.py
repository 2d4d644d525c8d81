"""Generate parts of the documentation from the code: `make docs`, or `python -m integration.docs_tools`.

A part is the text between `<!-- begin NAME -->` and `<!-- end -->`; the text around it is written by hand. If the
code does not describe a setting or a field, the description in its row of the page stays.
"""
