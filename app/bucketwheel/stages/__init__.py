"""The seven stages; each reads earlier results from the manifest and never calls another stage."""
