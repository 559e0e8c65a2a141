-- compat: 1
-- (The oldest program schema that can still read and write a database with this migration.)
--
-- What is clear and what is sealed. A row's clear columns say which record it is, to which it belongs, when it came,
-- and who made it: never a name, a number, a place on the body, a word that somebody wrote. Those are in `sealed`,
-- AES-256-GCM (sealing.py) under the data key `key_id`; the row's clear columns are its associated data, so a sealed
-- content opens in its own row only. Fields of each sealed content: content.py.
--
-- Columns that every record table has:
--   ..._id          the record's id, 32 hexadecimal digits, random
--   revision        1 when made; one more each time its content is changed (the earlier one goes to earlier_revision)
--   sequence        number of the audit entry that describes the change: the order of all things, clock or no clock
--   recorded_at     the box's date, UTC, ISO 8601; may be wrong on a box without internet
--   date_confirmed  1 when that date could be believed, 0 for "date not confirmed"
--   operator_id     who did it; NULL for the station itself, or capture without a PIN in an emergency
--   key_id          data key of `sealed`; NULL once erased
--   sealed          the content; empty once erased

CREATE TABLE meta (
    name  TEXT PRIMARY KEY,  -- clinic_id, public_key, signing_key, audit_origin, audit_key, compat, clinic_name
    value BLOB NOT NULL      -- bytes, or UTF-8 text
) STRICT;

CREATE TABLE audit (
    sequence       INTEGER PRIMARY KEY,  -- 1, 2, 3, ... without a gap
    recorded_at    TEXT NOT NULL,        -- as above
    date_confirmed INTEGER NOT NULL,     -- as above
    operator_id    TEXT,                 -- as above
    action         TEXT NOT NULL,        -- from the fixed list in audit.py
    objects        TEXT NOT NULL,        -- JSON: [[table, id, revision, SHA-256 of sealed in hex], ...]
    detail         TEXT NOT NULL,        -- fixed words and ids only, never what somebody wrote
    previous       BLOB NOT NULL,        -- hash of the entry before; 32 zero bytes for the first
    hash           BLOB NOT NULL,        -- SHA-256 over all of the above
    mac            BLOB NOT NULL         -- HMAC-SHA256 of hash under a key that is gone after the entry (audit.py)
) STRICT;

CREATE TABLE key_slot (
    slot_id  TEXT PRIMARY KEY,  -- random
    kind     TEXT NOT NULL,     -- phrase, recovery
    salt     BLOB NOT NULL,     -- of the derivation
    wrapped  BLOB NOT NULL,     -- nonce and AES-256-GCM of the clinic's private key
    sequence INTEGER NOT NULL   -- audit entry
) STRICT;

CREATE TABLE data_key (
    key_id     TEXT PRIMARY KEY,  -- random
    owner_kind TEXT NOT NULL,     -- subject, encounter
    owner_id   TEXT NOT NULL,     -- whose; an encounter has another one for each time it was continued while locked
    sealed     BLOB NOT NULL,     -- HPKE to the clinic's public key; bound to the three columns above
    sequence   INTEGER NOT NULL   -- audit entry
) STRICT;
CREATE INDEX data_key_owner ON data_key (owner_kind, owner_id);

CREATE TABLE user (
    user_id   TEXT PRIMARY KEY,       -- random
    name      TEXT NOT NULL,          -- on the sign-in tile, so clear: staff, never a patient
    role      TEXT NOT NULL,          -- nurse, lead, clinician, technician
    pin_hash  TEXT NOT NULL,          -- Argon2id of the PIN mixed with the box's secret; empty when it must be set anew
    is_active INTEGER NOT NULL,       -- 0 once removed; never deleted, for the audit names it
    sequence  INTEGER NOT NULL        -- audit entry of the last change
) STRICT;

CREATE TABLE pin_guard (
    user_id  TEXT PRIMARY KEY REFERENCES user,  -- whose guesses
    guesses  INTEGER NOT NULL,                  -- in a row; counted and committed before the PIN is looked at
    boot_id  TEXT NOT NULL,                     -- the kernel's boot in which the last guess was made
    guess_s  REAL NOT NULL                      -- its moment on that boot's monotonic clock
) STRICT;

CREATE TABLE device (
    device_id    TEXT PRIMARY KEY,       -- random
    name         TEXT NOT NULL,          -- as the lead called it
    token_sha256 BLOB NOT NULL,          -- of its random token; the token itself is on the device only
    paired_by    TEXT REFERENCES user,   -- the lead
    is_revoked   INTEGER NOT NULL,       -- 1 once it may not come any more
    sequence     INTEGER NOT NULL        -- audit entry of the last change
) STRICT;

CREATE TABLE backup (
    sequence INTEGER PRIMARY KEY,  -- audit entry of the backup; it holds everything before
    label    TEXT NOT NULL,        -- the stick's, as written on it
    name     TEXT NOT NULL,        -- of the archive
    records  INTEGER NOT NULL,     -- how many encounters it holds
    bytes    INTEGER NOT NULL      -- its size
) STRICT;

-- Sealed: pseudonym, local number, name, birth year, sex, skin tone by Fitzpatrick (1-6) and Monk (1-10), contact.
CREATE TABLE subject (
    subject_id TEXT PRIMARY KEY,
    revision INTEGER NOT NULL, sequence INTEGER NOT NULL, recorded_at TEXT NOT NULL, date_confirmed INTEGER NOT NULL,
    operator_id TEXT, key_id TEXT, sealed BLOB NOT NULL
) STRICT;

-- Sealed: body site (SNOMED CT), laterality, DICOM tracking UID, where exactly.
CREATE TABLE lesion (
    lesion_id  TEXT PRIMARY KEY,
    subject_id TEXT NOT NULL REFERENCES subject,  -- whose
    revision INTEGER NOT NULL, sequence INTEGER NOT NULL, recorded_at TEXT NOT NULL, date_confirmed INTEGER NOT NULL,
    operator_id TEXT, key_id TEXT, sealed BLOB NOT NULL
) STRICT;
CREATE INDEX lesion_subject ON lesion (subject_id);

-- Sealed: the tiers agreed to (care, referral, teaching, research), how, and by whom. The newest one holds.
CREATE TABLE consent (
    consent_id TEXT PRIMARY KEY,
    subject_id TEXT NOT NULL REFERENCES subject,  -- whose
    revision INTEGER NOT NULL, sequence INTEGER NOT NULL, recorded_at TEXT NOT NULL, date_confirmed INTEGER NOT NULL,
    operator_id TEXT, key_id TEXT, sealed BLOB NOT NULL
) STRICT;
CREATE INDEX consent_subject ON consent (subject_id);

-- Sealed: reason for coming, history, whether it is closed.
CREATE TABLE encounter (
    encounter_id TEXT PRIMARY KEY,
    subject_id   TEXT NOT NULL REFERENCES subject,  -- who came
    revision INTEGER NOT NULL, sequence INTEGER NOT NULL, recorded_at TEXT NOT NULL, date_confirmed INTEGER NOT NULL,
    operator_id TEXT, key_id TEXT, sealed BLOB NOT NULL
) STRICT;
CREATE INDEX encounter_subject ON encounter (subject_id);

-- Sealed: media type, SHA-256 and size of the original bytes, modality, how it was taken. The bytes: blobs/xx/capture_id.
CREATE TABLE captured_image (
    capture_id   TEXT PRIMARY KEY,
    encounter_id TEXT NOT NULL REFERENCES encounter,  -- the visit on the screen when the shutter fired
    lesion_id    TEXT REFERENCES lesion,              -- of what; NULL while not said
    revision INTEGER NOT NULL, sequence INTEGER NOT NULL, recorded_at TEXT NOT NULL, date_confirmed INTEGER NOT NULL,
    operator_id TEXT, key_id TEXT, sealed BLOB NOT NULL
) STRICT;
CREATE INDEX captured_image_encounter ON captured_image (encounter_id);

-- Sealed: checklist, question, answer.
CREATE TABLE checklist_answer (
    answer_id    TEXT PRIMARY KEY,
    encounter_id TEXT NOT NULL REFERENCES encounter,  -- in which visit
    lesion_id    TEXT REFERENCES lesion,              -- about what; NULL for the subject as a whole
    revision INTEGER NOT NULL, sequence INTEGER NOT NULL, recorded_at TEXT NOT NULL, date_confirmed INTEGER NOT NULL,
    operator_id TEXT, key_id TEXT, sealed BLOB NOT NULL
) STRICT;
CREATE INDEX checklist_answer_encounter ON checklist_answer (encounter_id);

-- Sealed: what the nurse thought before the model was shown: urgency, words; or that she would not say.
CREATE TABLE nurse_impression (
    impression_id TEXT PRIMARY KEY,
    encounter_id  TEXT NOT NULL REFERENCES encounter,  -- in which visit
    lesion_id     TEXT REFERENCES lesion,              -- of what
    revision INTEGER NOT NULL, sequence INTEGER NOT NULL, recorded_at TEXT NOT NULL, date_confirmed INTEGER NOT NULL,
    operator_id TEXT, key_id TEXT, sealed BLOB NOT NULL
) STRICT;
CREATE INDEX nurse_impression_encounter ON nurse_impression (encounter_id);

-- Sealed: the model's statement as JSON, its raw text, the model's identity, the prompt's version.
CREATE TABLE assessment (
    assessment_id TEXT PRIMARY KEY,
    encounter_id  TEXT NOT NULL REFERENCES encounter,  -- in which visit
    lesion_id     TEXT REFERENCES lesion,              -- of what
    capture_id    TEXT REFERENCES captured_image,      -- the photo that the model saw
    revision INTEGER NOT NULL, sequence INTEGER NOT NULL, recorded_at TEXT NOT NULL, date_confirmed INTEGER NOT NULL,
    operator_id TEXT, key_id TEXT, sealed BLOB NOT NULL
) STRICT;
CREATE INDEX assessment_encounter ON assessment (encounter_id);

-- Sealed: urgency, what to do, whether the nurse agreed with the model, why not.
CREATE TABLE decision (
    decision_id  TEXT PRIMARY KEY,
    encounter_id TEXT NOT NULL REFERENCES encounter,  -- in which visit
    lesion_id    TEXT REFERENCES lesion,              -- about what
    revision INTEGER NOT NULL, sequence INTEGER NOT NULL, recorded_at TEXT NOT NULL, date_confirmed INTEGER NOT NULL,
    operator_id TEXT, key_id TEXT, sealed BLOB NOT NULL
) STRICT;
CREATE INDEX decision_encounter ON decision (encounter_id);

-- Sealed: the report's canonical bytes and its signature.
CREATE TABLE report (
    report_id    TEXT PRIMARY KEY,
    encounter_id TEXT NOT NULL REFERENCES encounter,  -- about which visit
    revision INTEGER NOT NULL, sequence INTEGER NOT NULL, recorded_at TEXT NOT NULL, date_confirmed INTEGER NOT NULL,
    operator_id TEXT, key_id TEXT, sealed BLOB NOT NULL
) STRICT;
CREATE INDEX report_encounter ON report (encounter_id);

-- Sealed: when to come again, why, whether it happened.
CREATE TABLE follow_up (
    follow_up_id TEXT PRIMARY KEY,
    encounter_id TEXT NOT NULL REFERENCES encounter,  -- decided in which visit
    lesion_id    TEXT REFERENCES lesion,              -- of what
    revision INTEGER NOT NULL, sequence INTEGER NOT NULL, recorded_at TEXT NOT NULL, date_confirmed INTEGER NOT NULL,
    operator_id TEXT, key_id TEXT, sealed BLOB NOT NULL
) STRICT;
CREATE INDEX follow_up_encounter ON follow_up (encounter_id);

-- Sealed: what it turned out to be, who said so, how sure (clinical, histology).
CREATE TABLE outcome (
    outcome_id   TEXT PRIMARY KEY,
    encounter_id TEXT NOT NULL REFERENCES encounter,  -- of which visit
    lesion_id    TEXT REFERENCES lesion,              -- of what
    revision INTEGER NOT NULL, sequence INTEGER NOT NULL, recorded_at TEXT NOT NULL, date_confirmed INTEGER NOT NULL,
    operator_id TEXT, key_id TEXT, sealed BLOB NOT NULL
) STRICT;
CREATE INDEX outcome_encounter ON outcome (encounter_id);

-- Sealed: the fields typed so far. One for each form of a visit and operator; gone when the form is saved.
CREATE TABLE draft (
    draft_id     TEXT PRIMARY KEY,
    encounter_id TEXT NOT NULL REFERENCES encounter,  -- of which visit
    subject_id   TEXT NOT NULL REFERENCES subject,    -- of whom; never opens under anybody else
    form         TEXT NOT NULL,                       -- which form, a fixed word
    revision INTEGER NOT NULL, sequence INTEGER NOT NULL, recorded_at TEXT NOT NULL, date_confirmed INTEGER NOT NULL,
    operator_id TEXT, key_id TEXT, sealed BLOB NOT NULL
) STRICT;
CREATE UNIQUE INDEX draft_place ON draft (encounter_id, form, ifnull(operator_id, ''));

-- What a record said before it was changed. Nothing is ever written over.
CREATE TABLE earlier_revision (
    table_name TEXT NOT NULL,     -- of the record
    record_id  TEXT NOT NULL,     -- its id
    revision INTEGER NOT NULL, sequence INTEGER NOT NULL, recorded_at TEXT NOT NULL, date_confirmed INTEGER NOT NULL,
    operator_id TEXT, key_id TEXT, sealed BLOB NOT NULL,
    parents    TEXT NOT NULL,     -- JSON: the clear references that it had
    PRIMARY KEY (table_name, record_id, revision)
) STRICT;

-- The nurse says what she thinks before she is shown what the model says.
CREATE TRIGGER impression_comes_first BEFORE INSERT ON nurse_impression
WHEN EXISTS (SELECT 1 FROM assessment WHERE encounter_id = NEW.encounter_id AND lesion_id IS NEW.lesion_id)
BEGIN SELECT RAISE(ABORT, 'order: impression after assessment'); END;
CREATE TRIGGER impression_stays BEFORE UPDATE OF revision ON nurse_impression
WHEN EXISTS (SELECT 1 FROM assessment WHERE encounter_id = NEW.encounter_id AND lesion_id IS NEW.lesion_id)
BEGIN SELECT RAISE(ABORT, 'order: impression changed after assessment'); END;
CREATE TRIGGER assessment_comes_after BEFORE INSERT ON assessment
WHEN NOT EXISTS (SELECT 1 FROM nurse_impression WHERE encounter_id = NEW.encounter_id AND lesion_id IS NEW.lesion_id)
BEGIN SELECT RAISE(ABORT, 'order: assessment without impression'); END;
-- The audit only grows.
CREATE TRIGGER audit_stays BEFORE UPDATE ON audit BEGIN SELECT RAISE(ABORT, 'the audit only grows'); END;
CREATE TRIGGER audit_is_kept BEFORE DELETE ON audit BEGIN SELECT RAISE(ABORT, 'the audit only grows'); END;
