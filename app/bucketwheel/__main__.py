"""`python -m bucketwheel` is the command line."""

from bucketwheel.cli import main

main()
