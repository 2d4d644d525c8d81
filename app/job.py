"""The script that AWS Glue (`--scriptLocation`), EMR Serverless (`entryPoint`) and `spark-submit` start."""

import sys

from bucketwheel.cli.job import main

if __name__ == "__main__":
    main(sys.argv[1:])
