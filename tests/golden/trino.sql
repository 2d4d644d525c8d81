CREATE TABLE "hive"."omc_flywheel_prod"."tmp_bucketwheel_20251101t041109z_3f9a1c_07b2aa_ibe_01"
WITH (
  format = 'PARQUET',
  external_location = 's3://bucket/target/people/ibe_01/ctas-2025-10-22-20251101T041109Z-3f9a1c-07b2aa/',
  bucketed_by = ARRAY['customer_user_id'],
  bucket_count = 64,
  bucketing_version = 1
) AS
SELECT
  "customer_user_id",
  "order",
  "1st_value"
FROM "hive"."omc_flywheel_prod"."ext_ibe_01";

CREATE TABLE "hive"."odd ""schema"""."tmp_bucketwheel_20251101t041109z_3f9a1c_07b2aa_it's"
WITH (
  format = 'PARQUET',
  external_location = 's3://bucket/target/people/it''s/ctas-2025-10-22-20251101T041109Z-3f9a1c-07b2aa/',
  bucketed_by = ARRAY['customer_user_id'],
  bucket_count = 64,
  bucketing_version = 2,
  sorted_by = ARRAY['customer_user_id']
) AS
SELECT
  "customer_user_id",
  "order",
  "1st_value"
FROM "hive"."odd ""schema"""."ext_it's";

CREATE TABLE "hive"."omc_flywheel_prod"."tmp_bucketwheel_20251101t041109z_3f9a1c_07b2aa_ibe_01"
WITH (
  format = 'PARQUET',
  external_location = 's3://bucket/target/people/ibe_01/ctas-2025-10-22-20251101T041109Z-3f9a1c-07b2aa/'
) AS
SELECT
  "customer_user_id",
  "order",
  "1st_value"
FROM "hive"."omc_flywheel_prod"."ext_ibe_01";

SELECT count(*), to_hex(checksum("customer_user_id"))
FROM "hive"."omc_flywheel_prod"."ext_ibe_01";

DROP TABLE IF EXISTS "hive"."omc_flywheel_prod"."tmp_bucketwheel_20251101t041109z_3f9a1c_07b2aa_ibe_01";

