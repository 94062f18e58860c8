-- The fourth part of the form: which keys are let in. Run behind the third part on a new data base, and on one of an
-- older form behind what that has not.

-- Keys that the operator has rejected: their bearers are turned away until that very key is approved.
CREATE TABLE rejected_keys (
    guest           BLOB NOT NULL REFERENCES guests (id),
    key             BLOB NOT NULL CHECK (length(key) = 32),
    rejected_at_ms  INTEGER NOT NULL,
    PRIMARY KEY (guest, key)
) STRICT, WITHOUT ROWID;
