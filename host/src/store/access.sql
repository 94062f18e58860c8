-- The second part of the form: who owns what, and who is let in. Run behind the first part on a new data base, and on
-- one of an older form behind what that has not.

-- Tenants, removed ones too: a name is not given again, so that nobody inherits what was another's.
CREATE TABLE tenants (
    name            TEXT PRIMARY KEY CHECK (length(name) BETWEEN 1 AND 63),
    added_at_ms     INTEGER NOT NULL,
    removed_at_ms   INTEGER
) STRICT, WITHOUT ROWID;

-- A guest's owner; of a request and of what retention left of one, the owner of its guest when it was accepted.
ALTER TABLE guests ADD COLUMN tenant TEXT REFERENCES tenants (name);
ALTER TABLE requests ADD COLUMN tenant TEXT REFERENCES tenants (name);
ALTER TABLE ended ADD COLUMN tenant TEXT REFERENCES tenants (name);
CREATE INDEX guests_tenant ON guests (tenant) WHERE tenant IS NOT NULL AND removed_at_ms IS NULL;
CREATE INDEX requests_tenant ON requests (tenant, number) WHERE tenant IS NOT NULL;

-- Whoever is known by a token or a certificate, revoked ones too. Of a token only a hash is here.
CREATE TABLE principals (
    id              BLOB PRIMARY KEY CHECK (length(id) = 8),
    name            TEXT NOT NULL CHECK (length(name) BETWEEN 1 AND 63),
    kind            TEXT NOT NULL CHECK (kind IN ('token', 'cert-sha256', 'cert-dns')),
    token           BLOB CHECK (length(token) = 32),
    -- The fingerprint in hexadecimal digits, or the name.
    certificate     TEXT,
    tenant          TEXT REFERENCES tenants (name),
    role            TEXT NOT NULL CHECK (role IN ('viewer', 'operator', 'admin')),
    -- The actions it is limited to (JSON).
    actions         TEXT CHECK (json_valid(actions)),
    added_by        TEXT NOT NULL,
    added_at_ms     INTEGER NOT NULL,
    expires_at_ms   INTEGER,
    revoked_at_ms   INTEGER,
    last_used_ms    INTEGER,
    CHECK ((kind = 'token') = (token IS NOT NULL)),
    CHECK ((kind = 'token') = (certificate IS NULL))
) STRICT, WITHOUT ROWID;
-- A certificate is one principal's.
CREATE UNIQUE INDEX principals_certificate ON principals (kind, certificate)
    WHERE certificate IS NOT NULL AND revoked_at_ms IS NULL;

-- Which tenant has uploaded or fetched which program: for it, no other program is there, whoever else has it.
CREATE TABLE holdings (
    tenant          TEXT NOT NULL REFERENCES tenants (name),
    digest          BLOB NOT NULL CHECK (length(digest) = 32),
    used_at_ms      INTEGER NOT NULL,
    PRIMARY KEY (tenant, digest)
) STRICT, WITHOUT ROWID;
CREATE INDEX holdings_digest ON holdings (digest);

-- Whose a record of the audit trail is: who may read it. Beside the chain, for it is no part of what was decided.
CREATE TABLE audit_owners (
    tenant          TEXT NOT NULL REFERENCES tenants (name),
    number          INTEGER NOT NULL REFERENCES audit (number),
    PRIMARY KEY (tenant, number)
) STRICT, WITHOUT ROWID;
