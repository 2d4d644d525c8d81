"""Builds the documentation as a site: `make site`, or `python -m integration.guide DIRECTORY`."""
