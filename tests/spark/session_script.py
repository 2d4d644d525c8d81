"""Start the session of the spark engine as a `spark-submit` job does, write its settings to a file, and wait.

session_script.py TARGET ANSWER
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path

from bucketwheel.engines.spark.session import spark_session
from bucketwheel.settings import Settings


def main() -> None:
    session = spark_session(Settings(target=sys.argv[1]))
    # Workers listen too, or not: it needs one that has been at work.
    assert session.range(1).mapInArrow(lambda batches: batches, "id bigint").count() == 1
    hadoop = session.sparkContext._jsc.hadoopConfiguration()
    names = ("fs.s3.impl", "fs.s3a.endpoint", "fs.s3a.endpoint.region")
    answer = Path(sys.argv[2])
    aside = answer.with_suffix(".aside")
    aside.write_text(json.dumps({name: hadoop.get(name) for name in names}))
    aside.rename(answer)
    time.sleep(600)


if __name__ == "__main__":
    main()
