"""Catalogs publish tables: one definition, changed in one update."""
