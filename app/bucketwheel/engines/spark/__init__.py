"""The spark engine: runs the kernel as Spark tasks."""
