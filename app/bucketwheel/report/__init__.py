"""The HTML report of a run, and how numbers, sizes and times are formatted."""
