-- compat: 1
-- (The version before knows the phrase and the sheets only, reads `key_slot`, and goes on without these.)

-- Ways to open the records that hang on a thing: key fobs, and the TPM of this box. Apart from `key_slot`, whose rows
-- stand in clear at the head of each backup: a lost fob opens no backup.
CREATE TABLE held_slot (
    slot_id  TEXT PRIMARY KEY,  -- random; a fob's file names it
    kind     TEXT NOT NULL,     -- fob, tpm
    name     TEXT NOT NULL,     -- as the lead called it, so that a lost one can be told; clear, never a patient
    salt     BLOB NOT NULL,     -- of the derivation
    wrapped  BLOB NOT NULL,     -- nonce and AES-256-GCM of the clinic's private key
    sealed   BLOB NOT NULL,     -- what only this box's TPM opens, and only for its PIN; empty for a fob
    sequence INTEGER NOT NULL   -- audit entry
) STRICT;
