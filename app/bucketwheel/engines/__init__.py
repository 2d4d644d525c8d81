"""Engines run the kernel over slices and buckets; none has data logic of its own."""
