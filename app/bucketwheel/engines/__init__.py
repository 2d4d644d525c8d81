"""Engines run the kernel over slices and buckets; they contain no data logic."""
