"""Build the documentation as a site: `make site`, or `python -m integration.site_tools DIRECTORY`."""
