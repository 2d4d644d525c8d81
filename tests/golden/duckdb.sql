CREATE OR REPLACE VIEW "omc_flywheel_local"."bucketed_ibe_01" AS
SELECT * FROM read_parquet(['/out/ibe_01/2025-10-22-20251101T041109Z-3f9a1c/000000_0.snappy.parquet', '/out/ibe_01/2025-10-22-20251101T041109Z-3f9a1c/000001_0.snappy.parquet'], hive_partitioning = false);

CREATE OR REPLACE VIEW "odd ""schema"""."Ext Größe" AS
SELECT * FROM read_parquet(['/data/it''s [[]here]/[*][?]/ibe_01/2025-10-22-20251101T041109Z-3f9a1c/000000_0.snappy.parquet'], hive_partitioning = false);

DROP VIEW IF EXISTS "omc_flywheel_local"."bucketed_ibe_01";

DROP VIEW IF EXISTS "odd ""schema"""."Ext Größe";

