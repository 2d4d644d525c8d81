"""Join three bucketed tables of the demo's catalog and print the result: `python join.py CATALOG`."""

import sys

import duckdb

JOIN = """
SELECT a.ibe8695_marital_status AS marital_status, count(*) AS people,
       round(avg(a.ibe8688_age), 1) AS average_age, count(DISTINCT c.household_id) AS households
FROM demo.bucketed_ibe_01 AS a
JOIN demo.bucketed_ibe_02 AS b USING (customer_user_id)
JOIN demo.bucketed_addressable_ids AS c USING (customer_user_id)
GROUP BY ALL ORDER BY people DESC LIMIT 8
"""


def main() -> None:
    with duckdb.connect(sys.argv[1], read_only=True) as catalog:
        print(JOIN.strip())
        print(catalog.sql(JOIN))


if __name__ == "__main__":
    main()
