-- The part of the form with the second person: requests that wait for one. Run behind the parts before on a new data base, and on
-- one of an older form behind what that has not; with foreign keys off, for the table is made anew: a state more is a
-- constraint that SQLite does not change in place.

CREATE TABLE requests_of_this_form (
    -- The order of acceptance over all guests.
    number          INTEGER PRIMARY KEY AUTOINCREMENT,
    id              BLOB NOT NULL UNIQUE CHECK (length(id) = 16),
    guest           BLOB NOT NULL REFERENCES guests (id),
    -- The place in the guest's order.
    sequence        INTEGER NOT NULL CHECK (sequence >= 1),
    action          TEXT NOT NULL CHECK (json_valid(action)),
    timeout_ms      INTEGER CHECK (timeout_ms >= 0),
    expires_in_ms   INTEGER CHECK (expires_in_ms >= 0),
    expires_at_ms   INTEGER,
    idempotent      INTEGER NOT NULL CHECK (idempotent IN (0, 1)),
    -- Whether it goes before the ordinary ones, and whether it is cancelled without a client.
    urgent          INTEGER NOT NULL DEFAULT 0 CHECK (urgent IN (0, 1)),
    on_disconnect   TEXT NOT NULL DEFAULT 'keep' CHECK (on_disconnect IN ('keep', 'kill')),
    reason          TEXT,
    ticket          TEXT,
    -- Where the program lives when that is elsewhere (JSON), and whether it has to be fetched from there first.
    source          TEXT CHECK (json_valid(source)),
    awaits_program  INTEGER NOT NULL DEFAULT 0 CHECK (awaits_program IN (0, 1)),
    -- The signature that it is offered with (JSON): handed on as it came.
    signed          TEXT CHECK (json_valid(signed)),
    asked_by        TEXT NOT NULL,
    accepted_at_ms  INTEGER NOT NULL,
    state           TEXT NOT NULL CHECK (state IN (
        'unapproved', 'queued', 'offered', 'fetched', 'started',
        'succeeded', 'failed', 'killed', 'timed-out', 'cancelled', 'refused', 'interrupted', 'not-retrieved',
        'not-received', 'not-verified', 'not-started', 'expired', 'undeliverable', 'unconfirmed')),
    cancel_asked    INTEGER NOT NULL DEFAULT 0 CHECK (cancel_asked IN (0, 1)),
    offers          INTEGER NOT NULL DEFAULT 0 CHECK (offers >= 0),
    starts          INTEGER NOT NULL DEFAULT 0 CHECK (starts >= 0),
    -- How often its program has asked for a reboot and got it, and one.
    step            INTEGER NOT NULL DEFAULT 1 CHECK (step BETWEEN 1 AND 255),
    -- How long its guest may be away once it has started.
    confirm_within_ms INTEGER NOT NULL CHECK (confirm_within_ms >= 0),
    -- Where the output of this step begins behind that of the steps before.
    stdout_base     INTEGER NOT NULL DEFAULT 0 CHECK (stdout_base >= 0),
    stderr_base     INTEGER NOT NULL DEFAULT 0 CHECK (stderr_base >= 0),
    -- The program or file that it names, where it names one: that stays as long as somebody may need it.
    payload         BLOB CHECK (length(payload) = 32),
    -- When it got its final state, how much output is on the disk since, and when retention took that away.
    ended_at_ms     INTEGER,
    output_bytes    INTEGER NOT NULL DEFAULT 0 CHECK (output_bytes >= 0),
    output_removed_at_ms INTEGER,
    -- The owner of its guest when it was accepted.
    tenant          TEXT REFERENCES tenants (name),
    -- Who asked, as one person: two tokens of one name are one. And who has approved it, as the trail names whoever does
    -- something, and as one person.
    asker           TEXT,
    approved_by     TEXT,
    approver        TEXT,
    UNIQUE (guest, sequence),
    CHECK ((expires_in_ms IS NULL) = (expires_at_ms IS NULL)),
    CHECK (awaits_program = 0 OR source IS NOT NULL),
    CHECK ((approved_by IS NULL) = (approver IS NULL)),
    CHECK (approver IS NULL OR approver <> asker)
) STRICT;
INSERT INTO requests_of_this_form (
    number, id, guest, sequence, action, timeout_ms, expires_in_ms, expires_at_ms, idempotent, urgent,
    on_disconnect, reason, ticket, source, awaits_program, signed, asked_by, accepted_at_ms, state,
    cancel_asked, offers, starts, step, confirm_within_ms, stdout_base, stderr_base, payload, ended_at_ms,
    output_bytes, output_removed_at_ms, tenant)
SELECT
    number, id, guest, sequence, action, timeout_ms, expires_in_ms, expires_at_ms, idempotent, urgent,
    on_disconnect, reason, ticket, source, awaits_program, signed, asked_by, accepted_at_ms, state,
    cancel_asked, offers, starts, step, confirm_within_ms, stdout_base, stderr_base, payload, ended_at_ms,
    output_bytes, output_removed_at_ms, tenant
FROM requests;
DROP TABLE requests;
ALTER TABLE requests_of_this_form RENAME TO requests;

-- The open requests of a guest in order, and those that a pull settles first: a pull of a guest with a long
-- queue reads no more than it moves.
CREATE INDEX requests_open ON requests (guest, sequence)
    WHERE state IN ('unapproved', 'queued', 'offered', 'fetched', 'started');
CREATE INDEX requests_waiting ON requests (guest, urgent, sequence)
    WHERE state IN ('queued', 'offered', 'fetched');
CREATE INDEX requests_awaiting ON requests (number) WHERE awaits_program = 1 AND state = 'queued';
CREATE INDEX requests_killed ON requests (on_disconnect)
    WHERE on_disconnect = 'kill' AND state IN ('unapproved', 'queued', 'offered', 'fetched', 'started');
CREATE INDEX requests_started ON requests (guest) WHERE state IN ('started', 'unconfirmed');
CREATE INDEX requests_expiring ON requests (guest, expires_at_ms)
    WHERE expires_at_ms IS NOT NULL AND state IN ('queued', 'offered', 'fetched');
CREATE INDEX requests_cancelled ON requests (guest)
    WHERE cancel_asked = 1 AND state IN ('queued', 'offered', 'fetched');
CREATE INDEX requests_due ON requests (expires_at_ms) WHERE expires_at_ms IS NOT NULL AND state IN ('unapproved', 'queued');

-- What retention looks for: what has been over for long, what takes most, and who names a program.
CREATE INDEX requests_ended ON requests (ended_at_ms) WHERE ended_at_ms IS NOT NULL;
CREATE INDEX requests_output ON requests (ended_at_ms, output_bytes)
    WHERE output_bytes > 0 AND output_removed_at_ms IS NULL;
CREATE INDEX requests_payload ON requests (payload, ended_at_ms) WHERE payload IS NOT NULL;
CREATE INDEX requests_tenant ON requests (tenant, number) WHERE tenant IS NOT NULL;
