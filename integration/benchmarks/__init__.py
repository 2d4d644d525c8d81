"""Compare speed and memory of Bucketwheel with other tools; `make bench` runs it.

How it measures:

* Every run is a process of its own that writes to a fresh directory, removed afterwards. CPU is user and system
  time of that process and its children from the kernel (`wait4`), wall time includes its start, and peak memory
  is the kernel's largest resident size.
* The tasks of a section take turns, A B C A B C, on the same data, which has been read once before. Figures are
  medians; ratios are medians of the ratios within each round; peak memory is the largest of any run.
* Bytes written are those of Parquet files.
* Nothing leaves the machine. A slow run never fails the command; a failed run does.
"""
