-- What hosts share, for each app on an api of a Lark: its "scope". Moments are seconds since 1970 by the server's clock,
-- so that no host's clock matters.

CREATE TABLE larkdrop.meta (
    only_row boolean PRIMARY KEY DEFAULT true CHECK (only_row),
    version integer NOT NULL,
    oldest integer NOT NULL, -- the oldest version that a host may know and still take part
    born uuid NOT NULL DEFAULT gen_random_uuid()
);

-- How the calls of an app are spaced, and why they are held.
CREATE TABLE larkdrop.apps (
    scope text PRIMARY KEY,
    due float8 NOT NULL DEFAULT 0, -- when the last call was due at the even rate
    due_fresh float8 NOT NULL DEFAULT 0, -- the same of fresh drops
    steps float8[] NOT NULL DEFAULT '{}', -- seconds between calls at the even rate: of fresh drops, of the backlog
    tidied_at float8 NOT NULL DEFAULT 0, -- when calls were forgotten that count no more, and the steps with them
    paused_until float8 NOT NULL DEFAULT 0, -- Lark asked for a pause
    hold jsonb, -- whose code, message and hint; NULL where calls may go
    probe_at float8 NOT NULL DEFAULT 0,
    prober text NOT NULL DEFAULT '' -- the host that found out, or probed last
);

CREATE TABLE larkdrop.hosts (
    scope text NOT NULL,
    host text NOT NULL,
    instance uuid NOT NULL, -- of the process
    version text NOT NULL,
    since float8 NOT NULL,
    seen float8 NOT NULL,
    stopped boolean NOT NULL DEFAULT false, -- as it should, so that nothing of it is waited for
    per_second integer NOT NULL,
    per_minute integer NOT NULL,
    had integer NOT NULL DEFAULT 0, -- calls of the last minute and the next moment
    wants integer NOT NULL DEFAULT 0, -- calls
    waiting integer NOT NULL DEFAULT 0, -- files
    held text NOT NULL DEFAULT '', -- why
    PRIMARY KEY (scope, host)
) WITH (fillfactor = 50);

-- The calls of the last minute, and those of the next moment. After a crash hosts tell of theirs again.
CREATE UNLOGGED TABLE larkdrop.calls (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    scope text NOT NULL,
    host text NOT NULL,
    at float8 NOT NULL,
    moved float8 NOT NULL DEFAULT 0, -- by how much it moved on when the next is due at the even rate
    moved_fresh float8 NOT NULL DEFAULT 0, -- the same of fresh drops
    extra boolean NOT NULL DEFAULT false -- of a fresh drop, on a host that has had its part
);
CREATE INDEX calls_at ON larkdrop.calls (scope, at);
CREATE INDEX calls_extra ON larkdrop.calls (scope) WHERE extra;

-- Which host works on a file, or uploads a content; ends with that host's heartbeat.
CREATE TABLE larkdrop.claims (
    scope text NOT NULL,
    name text NOT NULL,
    host text NOT NULL,
    instance uuid NOT NULL,
    number bigint NOT NULL, -- of the process's claims, so that a late release ends no other one
    PRIMARY KEY (scope, name)
);

CREATE TABLE larkdrop.keys (
    scope text NOT NULL,
    image_type text NOT NULL,
    sha256 text NOT NULL,
    image_key text NOT NULL,
    log_id text NOT NULL,
    host text NOT NULL, -- that uploaded it
    file text NOT NULL, -- its name there
    size bigint NOT NULL, -- bytes
    at timestamptz NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (scope, image_type, sha256)
);
CREATE INDEX keys_at ON larkdrop.keys (scope, at);
