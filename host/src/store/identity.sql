-- The fourth part of the form: which keys are let in. Run behind the third part on a new data base, and on one of an
-- older form behind what that has not.

-- Keys that the operator has rejected: their bearers are turned away until that very key is approved.
CREATE TABLE rejected_keys (
    guest           BLOB NOT NULL REFERENCES guests (id),
    key             BLOB NOT NULL CHECK (length(key) = 32),
    rejected_at_ms  INTEGER NOT NULL,
    PRIMARY KEY (guest, key)
) STRICT, WITHOUT ROWID;

-- One-time tokens by their public half. Whoever proves one has the key that he claims taken for the guest's, once.
CREATE TABLE enrolments (
    token           BLOB PRIMARY KEY CHECK (length(token) = 32),
    guest           BLOB NOT NULL REFERENCES guests (id),
    made_at_ms      INTEGER NOT NULL,
    expires_at_ms   INTEGER NOT NULL,
    -- When it was used, and the key that was taken by it.
    used_at_ms      INTEGER,
    key             BLOB CHECK (length(key) = 32),
    CHECK ((used_at_ms IS NULL) = (key IS NULL))
) STRICT, WITHOUT ROWID;
CREATE INDEX enrolments_guest ON enrolments (guest);

-- Whether the first key that is met is taken without an approval: asked for when the guest is added, and only where its CID is
-- what the kernel says of whoever calls.
ALTER TABLE guests ADD COLUMN trust_first_key INTEGER NOT NULL DEFAULT 0
    CHECK (trust_first_key IN (0, 1) AND (trust_first_key = 0 OR cid IS NOT NULL));
