-- compat: 1
-- (The version before reads and writes these records as it did.)

-- The photos of one lesion over all visits, for the comparison with an earlier one.
CREATE INDEX captured_image_lesion ON captured_image (lesion_id);
