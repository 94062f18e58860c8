-- The manager's data base, form 8: the first part, behind which access.sql, approvals.sql and identity.sql are run.
-- Times are milliseconds since the Unix epoch, ids are raw bytes.
-- Every constraint that a row must hold stands here as well as in the code: a data base that was
-- edited by hand fails at the edit and not at a guest.

-- Guests, removed ones too: their requests and receipts stay readable, and their sequences stay used.
CREATE TABLE guests (
    id              BLOB PRIMARY KEY CHECK (length(id) = 16),
    name            TEXT NOT NULL CHECK (length(name) BETWEEN 1 AND 63),
    -- Where it is met: one of the two, or only in the directory that it shares.
    cid             INTEGER CHECK (cid BETWEEN 3 AND 4294967294),
    hybrid_socket   TEXT CHECK (hybrid_socket LIKE '/%'),
    qmp             TEXT,
    share           TEXT CHECK (share LIKE '/%'),
    -- How its requests come to it.
    trigger         TEXT NOT NULL DEFAULT 'ring' CHECK (trigger IN ('ring', 'poll', 'push', 'store', 'ring-store')),
    set_clock       INTEGER NOT NULL DEFAULT 0 CHECK (set_clock IN (0, 1)),
    -- The approved key; without one nothing is offered.
    public_key      BLOB CHECK (length(public_key) = 32),
    -- SHA-256 of the session token that the guest has on disk, and of the one that was given last and is
    -- not confirmed yet. Hashes, so that a copy of this file opens no session.
    token_current   BLOB CHECK (length(token_current) = 32),
    token_next      BLOB CHECK (length(token_next) = 32),
    -- Whether any token was issued since the last approval.
    token_issued    INTEGER NOT NULL DEFAULT 0 CHECK (token_issued IN (0, 1)),
    -- The bearer of its key that was turned away for a stale token since the last approval (JSON).
    copy            TEXT CHECK (json_valid(copy)),
    -- The key that waits for approval, where and when its bearer was met.
    pending_key     BLOB CHECK (length(pending_key) = 32),
    pending_met_at  TEXT,
    pending_seen_ms INTEGER,
    -- The key that was refused last: a bearer that tries again and again is one audit record.
    refused_key     BLOB CHECK (length(refused_key) = 32),
    -- What the agent said of itself when it was last admitted (JSON).
    agent           TEXT CHECK (json_valid(agent)),
    -- The sequence that the next request gets. Only grows.
    next_sequence   INTEGER NOT NULL DEFAULT 1 CHECK (next_sequence >= 1),
    -- The highest sequence of whose start it has told: its journal has it, unless the guest was rewound.
    started_max     INTEGER NOT NULL DEFAULT 0 CHECK (started_max >= 0),
    -- How many ordinary requests it has in hand at once.
    concurrency     INTEGER NOT NULL DEFAULT 1 CHECK (concurrency BETWEEN 1 AND 8),
    added_at_ms     INTEGER NOT NULL,
    last_seen_ms    INTEGER,
    removed_at_ms   INTEGER,
    CHECK (cid IS NULL OR hybrid_socket IS NULL),
    CHECK (cid IS NOT NULL OR hybrid_socket IS NOT NULL OR share IS NOT NULL),
    CHECK (share IS NOT NULL OR trigger NOT IN ('store', 'ring-store')),
    CHECK ((pending_key IS NULL) = (pending_met_at IS NULL)),
    CHECK ((pending_key IS NULL) = (pending_seen_ms IS NULL))
) STRICT, WITHOUT ROWID;

-- A name, a place and a key belong to one guest that is not removed.
CREATE UNIQUE INDEX guests_name ON guests (name) WHERE removed_at_ms IS NULL;
CREATE UNIQUE INDEX guests_cid ON guests (cid) WHERE removed_at_ms IS NULL;
CREATE UNIQUE INDEX guests_hybrid_socket ON guests (hybrid_socket) WHERE removed_at_ms IS NULL;
CREATE UNIQUE INDEX guests_share ON guests (share) WHERE removed_at_ms IS NULL AND share IS NOT NULL;
CREATE UNIQUE INDEX guests_public_key ON guests (public_key) WHERE removed_at_ms IS NULL;

-- The same for what a guest presents in its share: no row before any token was issued since the last approval.
CREATE TABLE share_tokens (
    guest           BLOB PRIMARY KEY REFERENCES guests (id),
    current         BLOB CHECK (length(current) = 32),
    next            BLOB CHECK (length(next) = 32)
) STRICT, WITHOUT ROWID;

CREATE TABLE requests (
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
        'queued', 'offered', 'fetched', 'started',
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
    UNIQUE (guest, sequence),
    CHECK ((expires_in_ms IS NULL) = (expires_at_ms IS NULL)),
    CHECK (awaits_program = 0 OR source IS NOT NULL)
) STRICT;

-- The open requests of a guest in order, and those that a pull settles first: a pull of a guest with a long
-- queue reads no more than it moves.
CREATE INDEX requests_open ON requests (guest, sequence)
    WHERE state IN ('queued', 'offered', 'fetched', 'started');
CREATE INDEX requests_waiting ON requests (guest, urgent, sequence)
    WHERE state IN ('queued', 'offered', 'fetched');
CREATE INDEX requests_awaiting ON requests (number) WHERE awaits_program = 1 AND state = 'queued';
CREATE INDEX requests_killed ON requests (on_disconnect)
    WHERE on_disconnect = 'kill' AND state IN ('queued', 'offered', 'fetched', 'started');
CREATE INDEX requests_started ON requests (guest) WHERE state IN ('started', 'unconfirmed');
CREATE INDEX requests_expiring ON requests (guest, expires_at_ms)
    WHERE expires_at_ms IS NOT NULL AND state IN ('queued', 'offered', 'fetched');
CREATE INDEX requests_cancelled ON requests (guest)
    WHERE cancel_asked = 1 AND state IN ('queued', 'offered', 'fetched');
CREATE INDEX requests_due ON requests (expires_at_ms) WHERE expires_at_ms IS NOT NULL AND state = 'queued';

-- What retention looks for: what has been over for long, what takes most, and who names a program.
CREATE INDEX requests_ended ON requests (ended_at_ms) WHERE ended_at_ms IS NOT NULL;
CREATE INDEX requests_output ON requests (ended_at_ms, output_bytes)
    WHERE output_bytes > 0 AND output_removed_at_ms IS NULL;
CREATE INDEX requests_payload ON requests (payload, ended_at_ms) WHERE payload IS NOT NULL;

-- Requests that retention removed: their ids are refused for much longer, so that none is ever run again.
CREATE TABLE ended (
    id              BLOB PRIMARY KEY CHECK (length(id) = 16),
    guest           BLOB NOT NULL REFERENCES guests (id),
    sequence        INTEGER NOT NULL CHECK (sequence >= 1),
    state           TEXT NOT NULL,
    ended_at_ms     INTEGER NOT NULL,
    removed_at_ms   INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
CREATE INDEX ended_removed ON ended (removed_at_ms);

-- What came of a request: one row for each that has a final state.
CREATE TABLE receipts (
    request         BLOB PRIMARY KEY REFERENCES requests (id),
    -- The receipt as the API shows it (JSON). Its seal stands in the audit record `audit_number`.
    receipt         TEXT NOT NULL CHECK (json_valid(receipt)),
    audit_number    INTEGER NOT NULL UNIQUE REFERENCES audit (number),
    -- What the guest said (JSON); none where the manager closed the request itself.
    acknowledgement TEXT CHECK (json_valid(acknowledgement)),
    -- What the guest said of a request that had its receipt already, where it was something else.
    late            TEXT CHECK (json_valid(late)),
    -- The receipt that this one took the place of (JSON).
    amended         TEXT CHECK (json_valid(amended))
) STRICT, WITHOUT ROWID;

-- The stations of a request, microseconds since the Unix epoch; of the guest's own ones also by the guest's
-- clock since its boot, and how far its place on the host's can be wrong. Stations are numbered in their order.
CREATE TABLE stages (
    request         BLOB NOT NULL REFERENCES requests (id),
    station         INTEGER NOT NULL CHECK (station BETWEEN 0 AND 12),
    at_us           INTEGER NOT NULL CHECK (at_us >= 0),
    guest_us        INTEGER CHECK (guest_us >= 0),
    error_us        INTEGER CHECK (error_us >= 0),
    PRIMARY KEY (request, station),
    CHECK ((guest_us IS NULL) = (error_us IS NULL))
) STRICT, WITHOUT ROWID;

-- Requests that came through a spool directory. A row is no part of its request: as long as the file may lie in
-- the inbox it has to be known as taken, whatever becomes of the request; it goes when nothing is left to be done.
CREATE TABLE spooled (
    request         BLOB PRIMARY KEY CHECK (length(request) = 16),
    guest           BLOB NOT NULL REFERENCES guests (id),
    -- What its entries in the outbox are called.
    stem            TEXT NOT NULL,
    inode           INTEGER NOT NULL,
    -- Whether the file has gone from the inbox, so that one that looks the same is another one.
    gone            INTEGER NOT NULL DEFAULT 0 CHECK (gone IN (0, 1)),
    -- The state of the receipt that was put into the outbox.
    delivered       TEXT
) STRICT, WITHOUT ROWID;
CREATE INDEX spooled_of ON spooled (guest, stem);

-- The audit trail: a chain of hashes, written in the transaction of what it tells of.
CREATE TABLE audit (
    number          INTEGER PRIMARY KEY CHECK (number >= 1),
    at_ms           INTEGER NOT NULL,
    actor           TEXT NOT NULL,
    event           TEXT NOT NULL,
    guest           TEXT,
    request         TEXT,
    detail          TEXT NOT NULL,
    -- What whoever asked for it said of it.
    reason          TEXT,
    ticket          TEXT,
    previous        BLOB NOT NULL UNIQUE CHECK (length(previous) = 32),
    hash            BLOB NOT NULL UNIQUE CHECK (length(hash) = 32)
) STRICT;

-- Where the trail ends, so that a cut tail shows even without a head kept elsewhere.
CREATE TABLE audit_head (
    only            INTEGER PRIMARY KEY CHECK (only = 1),
    number          INTEGER NOT NULL,
    hash            BLOB NOT NULL CHECK (length(hash) = 32)
) STRICT;
INSERT INTO audit_head (only, number, hash) VALUES (1, 0, zeroblob(32));

-- The newest head that the manager's key has signed; no row before the first.
CREATE TABLE audit_signed (
    only            INTEGER PRIMARY KEY CHECK (only = 1),
    number          INTEGER NOT NULL,
    hash            BLOB NOT NULL CHECK (length(hash) = 32),
    at_ms           INTEGER NOT NULL,
    key             BLOB NOT NULL CHECK (length(key) = 32),
    signature       BLOB NOT NULL CHECK (length(signature) = 64)
) STRICT;

-- A slip of a later change, or of a hand, does not rewrite the trail.
CREATE TRIGGER audit_is_never_altered BEFORE UPDATE ON audit
BEGIN SELECT RAISE(ABORT, 'the audit trail is only added to'); END;
CREATE TRIGGER audit_is_never_shortened BEFORE DELETE ON audit
BEGIN SELECT RAISE(ABORT, 'the audit trail is only added to'); END;
CREATE TRIGGER guests_are_never_deleted BEFORE DELETE ON guests
BEGIN SELECT RAISE(ABORT, 'a guest is marked removed, its requests stay'); END;
