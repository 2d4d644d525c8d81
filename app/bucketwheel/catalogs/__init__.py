"""Catalogs publish tables; each table changes in a single update."""
