CREATE TABLE "omc_flywheel_prod"."tmp_bucketwheel_20251101t041109z_3f9a1c_07b2aa_ibe_01"
WITH (
  format = 'PARQUET',
  write_compression = 'SNAPPY',
  external_location = 's3://bucket/target/people/ibe_01/ctas-2025-10-22-20251101T041109Z-3f9a1c-07b2aa/',
  bucketed_by = ARRAY['customer_user_id'],
  bucket_count = 64
) AS
SELECT
  "customer_user_id",
  "order",
  "1st_value"
FROM "omc_flywheel_prod"."ext_ibe_01";

CREATE TABLE "table"."tmp_bucketwheel_20251101t041109z_3f9a1c_07b2aa_select"
WITH (
  format = 'PARQUET',
  write_compression = 'SNAPPY',
  external_location = 's3://bucket/target/people/select/ctas-2025-10-22-20251101T041109Z-3f9a1c-07b2aa/',
  bucketed_by = ARRAY['customer_user_id', 'order'],
  bucket_count = 100
) AS
SELECT
  "customer_user_id",
  "order",
  "1st_value"
FROM "table"."ext_select";

CREATE TABLE "omc_flywheel_prod"."tmp_bucketwheel_20251101t041109z_3f9a1c_07b2aa_ibe_01"
WITH (
  format = 'PARQUET',
  write_compression = 'SNAPPY'
) AS
SELECT
  "customer_user_id",
  "order",
  "1st_value"
FROM "omc_flywheel_prod"."ext_ibe_01";

SELECT count(*), to_hex(checksum("customer_user_id")), to_hex(checksum("order"))
FROM "omc_flywheel_prod"."ext_ibe_01";

DROP TABLE IF EXISTS `omc_flywheel_prod`.`tmp_bucketwheel_20251101t041109z_3f9a1c_07b2aa_ibe_01`;

DROP TABLE IF EXISTS `table`.`odd``name`;

