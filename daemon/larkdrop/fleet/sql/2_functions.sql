-- What hosts ask, a round trip each. They are called in autocommit mode and keep nothing in the session, so that
-- PgBouncer may give each call another connection.

-- The server's clock.
CREATE FUNCTION larkdrop.moment() RETURNS float8 LANGUAGE sql VOLATILE AS $$
    SELECT extract(epoch FROM clock_timestamp())::float8
$$;

-- For what may be lost in a crash; so that nobody waits for a lock for longer than a host waits for an answer; and
-- without a new plan each time, which takes longer than what is planned.
CREATE FUNCTION larkdrop.settings() RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    PERFORM set_config('synchronous_commit', 'off', true), set_config('lock_timeout', '1500ms', true),
        set_config('plan_cache_mode', 'force_generic_plan', true);
END
$$;

-- Seconds between heartbeats of a host, where so many share an app.
CREATE FUNCTION larkdrop.beat(p_hosts bigint) RETURNS float8 LANGUAGE sql IMMUTABLE AS $$
    SELECT greatest(2.0, p_hosts / 50.0)
$$;

-- Whether a host counts: it has not stopped, and was seen in the last minute.
CREATE FUNCTION larkdrop.counts(h larkdrop.hosts, p_now float8) RETURNS boolean LANGUAGE sql IMMUTABLE AS $$
    SELECT NOT h.stopped AND h.seen > p_now - 60
$$;

-- Whether the process that made a claim is there to finish it.
CREATE FUNCTION larkdrop.alive(p_scope text, p_host text, p_instance uuid) RETURNS boolean LANGUAGE plpgsql AS $$
DECLARE
    now CONSTANT float8 := larkdrop.moment();
BEGIN
    RETURN EXISTS (
        SELECT FROM larkdrop.hosts WHERE scope = p_scope AND host = p_host AND instance = p_instance AND NOT stopped
        AND seen > now - 15 - larkdrop.beat(
            (SELECT count(*) FROM larkdrop.hosts h WHERE h.scope = p_scope AND larkdrop.counts(h, now))
        )
    );
END
$$;

-- A host begins to take part, or does again: its calls of the last minute are as it says, seconds ago each. Those of an
-- earlier process of its name count besides.
-- Of two processes with one name the later one stays: one that was replaced comes back only where the other is gone.
-- Returns whether it takes part.
CREATE FUNCTION larkdrop.enter(
    p_scope text, p_host text, p_instance uuid, p_version text, p_running float8, p_per_second integer,
    p_per_minute integer, p_ages float8[], p_was_replaced boolean
) RETURNS boolean LANGUAGE plpgsql AS $$
DECLARE
    now float8;
    is_back boolean;
BEGIN
    PERFORM larkdrop.settings();
    INSERT INTO larkdrop.apps (scope) VALUES (p_scope) ON CONFLICT DO NOTHING;
    PERFORM FROM larkdrop.apps WHERE scope = p_scope FOR UPDATE;
    IF p_was_replaced AND EXISTS (
        SELECT FROM larkdrop.hosts WHERE scope = p_scope AND host = p_host AND instance <> p_instance
        AND larkdrop.alive(scope, host, instance)
    ) THEN
        RETURN false;
    END IF;
    now := larkdrop.moment();
    is_back := EXISTS (
        SELECT FROM larkdrop.hosts WHERE scope = p_scope AND host = p_host AND instance = p_instance
    );
    INSERT INTO larkdrop.hosts AS h (scope, host, instance, version, since, seen, per_second, per_minute)
        VALUES (p_scope, p_host, p_instance, p_version, now - p_running, now, p_per_second, p_per_minute)
        ON CONFLICT (scope, host) DO UPDATE SET
            instance = excluded.instance, version = excluded.version, since = excluded.since, seen = excluded.seen,
            stopped = false, per_second = excluded.per_second, per_minute = excluded.per_minute, wants = 0, held = '';
    DELETE FROM larkdrop.claims WHERE scope = p_scope AND host = p_host AND instance <> p_instance;
    DELETE FROM larkdrop.calls WHERE scope = p_scope AND host = p_host AND is_back;
    INSERT INTO larkdrop.calls (scope, host, at) SELECT p_scope, p_host, now - age FROM unnest(p_ages) age;
    PERFORM larkdrop.count_calls(p_scope);
    RETURN true;
END
$$;

-- How many calls each host had in the last minute, counted anew: others only add and subtract.
CREATE FUNCTION larkdrop.count_calls(p_scope text) RETURNS void LANGUAGE sql AS $$
    UPDATE larkdrop.hosts h SET had = (
        SELECT count(*) FROM larkdrop.calls c WHERE c.scope = p_scope AND c.host = h.host
    ) WHERE h.scope = p_scope
$$;

-- A host stops: nothing is kept for it.
CREATE FUNCTION larkdrop.leave(p_scope text, p_host text, p_instance uuid) RETURNS void LANGUAGE sql AS $$
    UPDATE larkdrop.hosts SET stopped = true, wants = 0, waiting = 0, seen = larkdrop.moment()
        WHERE scope = p_scope AND host = p_host AND instance = p_instance;
    DELETE FROM larkdrop.claims WHERE scope = p_scope AND host = p_host AND instance = p_instance;
$$;

-- How many calls a minute each host may have, by what all want and have had: those that want less than an equal part
-- leave the rest to the others (max-min fairness). A host that is not seen any more may go on alone with an equal part,
-- which is kept for it for a minute. The host p_host is here, and wants p_wants.
CREATE FUNCTION larkdrop.parts(
    p_scope text, p_host text, p_wants integer, p_now float8,
    OUT hosts bigint, OUT per_second integer, OUT per_minute integer,
    OUT used bigint, -- calls of the last minute and the next moment
    OUT alone bigint, -- hosts that are not seen any more
    OUT kept float8, -- calls a minute that they may make besides those that are known
    OUT reserve integer, -- calls a minute for fresh drops of hosts that have had their part
    OUT level integer -- calls a minute that each host may have
) LANGUAGE plpgsql AS $$
#variable_conflict use_column
BEGIN
    WITH each AS (
        SELECT h.host, h.had, h.per_second, h.per_minute, h.host = p_host OR larkdrop.counts(h, p_now) AS takes_part,
            CASE WHEN h.host = p_host THEN p_now ELSE h.seen END AS seen,
            h.had + CASE WHEN h.host = p_host THEN p_wants ELSE h.wants END AS needs
        FROM larkdrop.hosts h WHERE h.scope = p_scope
    ), app AS (
        SELECT count(*) FILTER (WHERE takes_part) AS hosts, min(per_second) FILTER (WHERE takes_part) AS per_second,
            min(per_minute) FILTER (WHERE takes_part) AS per_minute, sum(had) AS used
        FROM each
    ), limits AS (
        SELECT *, per_minute::float8 / hosts AS part, least(per_minute - 1, greatest(1, per_minute / 200)) AS reserve
        FROM app
    ), gone AS (
        SELECT count(*) AS alone, coalesce(sum(greatest(0, part - had)), 0) AS kept,
            coalesce(sum(greatest(part, had)), 0) AS taken
        FROM each, limits WHERE takes_part AND seen <= p_now - 3 * larkdrop.beat(hosts)
    ), sharing AS (
        SELECT needs, limits.per_minute - reserve - taken - coalesce(sum(needs) OVER before, 0) AS rest,
            hosts - alone - count(*) OVER before AS sharers
        FROM each, limits, gone WHERE takes_part AND seen > p_now - 3 * larkdrop.beat(hosts)
        WINDOW before AS (ORDER BY needs ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING)
    )
    SELECT limits.hosts, limits.per_second, limits.per_minute, limits.used, gone.alone, gone.kept, limits.reserve,
        coalesce(
            (SELECT greatest(1, ceil(rest / sharers)) FROM sharing WHERE needs * sharers > rest ORDER BY needs LIMIT 1),
            limits.per_minute
        )
        INTO hosts, per_second, per_minute, used, alone, kept, reserve, level FROM limits, gone;
END
$$;

-- Seconds between calls at the highest even rate that can be kept up for the length of a window. Before a call expires,
-- its age counted from p_end, there is room for as many as there is now, and as expire before it.
CREATE FUNCTION larkdrop.even_step(p_scope text, p_room bigint, p_end float8) RETURNS float8 LANGUAGE sql AS $$
    SELECT max((one.at + p_end) / (p_room + one.place)) FROM (
        SELECT at, row_number() OVER (ORDER BY at) AS place FROM larkdrop.calls WHERE scope = p_scope
    ) AS one
$$;

-- A heartbeat, and tickets: for at most so many calls of fresh drops and of the backlog, of all that the host wants, each
-- with the moment from which it may be used. The policy for the windows is that of larkdrop's lark/windows.py, for all
-- hosts together. While the app is held, one host has a ticket for the probe.
CREATE FUNCTION larkdrop.take(
    p_scope text, p_host text, p_instance uuid, p_fresh integer, p_backlog integer, p_wants integer,
    p_waiting integer, p_held text,
    p_returned bigint[], p_late bigint[], p_late_by float8[], p_pause float8, p_hold jsonb, p_opened boolean,
    p_fixed boolean, p_probe_seconds float8
) RETURNS jsonb LANGUAGE plpgsql AS $$
DECLARE
    horizon float8; -- seconds in advance that tickets are given
    second CONSTANT float8 := 1.5; -- windows a little longer than the platform's keep late arrivals apart
    minute CONSTANT float8 := 60.1;
    tidying CONSTANT float8 := 0.25; -- seconds after which calls are forgotten that expired, and the even rate is computed
    catch_up CONSTANT float8 := 5; -- seconds of the even rate that may be made up for
    app larkdrop.apps;
    parts record;
    now float8;
    recent float8[]; -- moments of the last calls, in order
    mine integer; -- calls that this host had in the last minute
    is_fresh boolean;
    wanted integer;
    in_second integer; -- calls that may be in a window, besides those that are kept
    in_minute integer;
    count integer;
    due float8;
    due_next float8;
    step float8; -- seconds between calls at the even rate
    slot float8;
    slots float8[] := '{}';
    moves float8[] := '{}'; -- of the slots: by how much each moved on what is due
    fresh_moves float8[] := '{}';
    fresh integer := 0; -- of the slots
    ids bigint[];
    extras boolean[] := '{}';
    again float8; -- seconds until asking is worth it
    agains float8[] := '{}'; -- for fresh drops, for the backlog
    held float8 := 0; -- the same, whatever the windows say
    seen_before float8;
    probe boolean := false;
BEGIN
    PERFORM larkdrop.settings();
    SELECT * INTO app FROM larkdrop.apps WHERE scope = p_scope FOR UPDATE;
    now := larkdrop.moment();
    -- The clock may have been set back: nothing is later than it can be.
    app.due := least(app.due, now + 1);
    app.due_fresh := least(app.due_fresh, now + 1);
    app.probe_at := least(app.probe_at, now + p_probe_seconds);
    app.paused_until := least(app.paused_until, now + 3600);
    IF app.tidied_at NOT BETWEEN now - tidying AND now THEN
        WITH gone AS (
            DELETE FROM larkdrop.calls WHERE scope = p_scope AND at <= now - minute RETURNING host
        ), ahead AS (
            DELETE FROM larkdrop.calls WHERE scope = p_scope AND at > now + 2 RETURNING host
        )
        UPDATE larkdrop.hosts h SET had = h.had - one.calls
            FROM (
                SELECT host, count(*) AS calls FROM (SELECT * FROM gone UNION ALL SELECT * FROM ahead) AS all_of
                GROUP BY host
            ) AS one
            WHERE h.scope = p_scope AND h.host = one.host;
        UPDATE larkdrop.hosts SET seen = now WHERE scope = p_scope AND seen > now + 2;
        app.steps := '{}';
        app.tidied_at := now;
    END IF;
    IF cardinality(p_returned) > 0 THEN
        WITH gone AS (
            DELETE FROM larkdrop.calls WHERE id = ANY(p_returned) AND scope = p_scope AND host = p_host
            RETURNING moved, moved_fresh
        )
        SELECT count(*), app.due - coalesce(sum(moved), 0), app.due_fresh - coalesce(sum(moved_fresh), 0)
            INTO count, app.due, app.due_fresh FROM gone;
        UPDATE larkdrop.hosts SET had = had - count WHERE scope = p_scope AND host = p_host;
    END IF;
    IF cardinality(p_late) > 0 THEN
        UPDATE larkdrop.calls SET at = at + late_by FROM unnest(p_late, p_late_by) AS late(late_id, late_by)
            WHERE id = late_id AND scope = p_scope AND host = p_host;
    END IF;
    SELECT seen, had INTO seen_before, mine FROM larkdrop.hosts
        WHERE scope = p_scope AND host = p_host AND instance = p_instance AND NOT stopped;
    IF NOT FOUND THEN
        RETURN jsonb_build_object('replaced', EXISTS (
            SELECT FROM larkdrop.hosts WHERE scope = p_scope AND host = p_host AND NOT stopped
        ));
    END IF;
    SELECT p.*, (SELECT count(*) FROM larkdrop.calls WHERE scope = p_scope AND calls.extra) AS extra, (
        SELECT coalesce(array_agg(at ORDER BY at), '{}') FROM (
            SELECT at FROM larkdrop.calls WHERE scope = p_scope ORDER BY at DESC LIMIT p.per_second
        ) AS last
    ) AS recent INTO parts FROM larkdrop.parts(p_scope, p_host, p_wants, now) AS p;
    recent := parts.recent;
    IF cardinality(recent) = 0 AND parts.used > 0 THEN
        PERFORM larkdrop.count_calls(p_scope); -- the calls were lost in a crash
        mine := 0;
        parts.used := 0;
    END IF;

    app.paused_until := greatest(app.paused_until, now + p_pause);
    IF p_opened THEN
        app.hold := NULL;
    ELSIF app.hold IS NULL AND p_hold IS NOT NULL THEN
        app.hold := p_hold;
        app.prober := p_host;
        app.probe_at := now + p_probe_seconds;
    END IF;
    IF p_fixed THEN
        app.paused_until := 0;
        app.probe_at := 0;
    END IF;
    IF app.hold IS NOT NULL THEN
        held := 1;
        -- A host that has a file to probe with goes first, and one that did not probe last: what holds the app may be
        -- the fault of that one alone.
        probe := now >= app.probe_at AND (p_waiting > 0 OR NOT EXISTS (
            SELECT FROM larkdrop.hosts WHERE scope = p_scope AND NOT stopped AND seen > now - 10 AND waiting > 0
        )) AND (app.prober <> p_host OR now >= app.probe_at + 3 OR p_fixed OR NOT EXISTS (
            SELECT FROM larkdrop.hosts
            WHERE scope = p_scope AND NOT stopped AND seen > now - 10 AND waiting > 0 AND host <> p_host
        ));
        p_fresh := probe::integer;
        p_backlog := 0;
    END IF;
    IF now < app.paused_until THEN
        held := app.paused_until - now;
        p_fresh := 0;
        p_backlog := 0;
    END IF;

    FOREACH is_fresh IN ARRAY '{true,false}'::boolean[] LOOP
        wanted := CASE WHEN is_fresh THEN p_fresh ELSE p_backlog END;
        due := CASE WHEN is_fresh THEN app.due_fresh ELSE app.due END;
        in_second := greatest(1, parts.per_second - ceil(parts.per_second::float8 * parts.alone / parts.hosts)
            - CASE WHEN is_fresh THEN 0 ELSE parts.per_second / 20 END);
        in_minute := greatest(1, parts.per_minute - ceil(parts.kept)
            - CASE WHEN is_fresh THEN 0 ELSE parts.reserve END);
        horizon := CASE WHEN is_fresh THEN 0.5 ELSE 0.25 END;
        step := 0;
        again := held;
        WHILE wanted > 0 LOOP
            -- All hosts together may have so many more for fresh drops that each keeps four fifths of its part.
            IF mine >= parts.level AND NOT (is_fresh AND (probe OR parts.extra < parts.reserve + parts.level / 5)) THEN
                -- Until the first of its calls expires that are too many; or until the others may want less.
                again := greatest(again, tidying, least(greatest(1, 30.0 * parts.hosts / parts.per_minute), minute - now + (
                    SELECT at FROM larkdrop.calls WHERE scope = p_scope AND host = p_host
                    ORDER BY at OFFSET mine - parts.level LIMIT 1
                )));
                EXIT;
            END IF;
            slot := now;
            count := cardinality(recent);
            IF count >= in_second THEN
                slot := greatest(slot, recent[count - in_second + 1] + second);
            END IF;
            IF parts.used >= in_minute THEN
                slot := greatest(slot, minute + (
                    SELECT at FROM larkdrop.calls WHERE scope = p_scope ORDER BY at OFFSET parts.used - in_minute LIMIT 1
                ));
            ELSIF parts.used >= in_minute * 0.5 THEN
                step := coalesce(app.steps[2 - is_fresh::integer],
                    larkdrop.even_step(p_scope, in_minute - parts.used, minute - now));
                app.steps[2 - is_fresh::integer] := step;
                slot := greatest(slot, due + step);
            END IF;
            IF slot > now + horizon THEN
                -- The backlog asks when its call is due, and has what became due meanwhile, too.
                again := greatest(again, slot - now - CASE WHEN is_fresh THEN horizon / 2 ELSE 0 END);
                EXIT;
            END IF;
            -- A fresh drop takes a turn of the backlog, too.
            due_next := greatest(due + step, slot - catch_up);
            fresh_moves := fresh_moves || CASE WHEN is_fresh THEN due_next - due ELSE 0 END;
            IF is_fresh THEN
                app.due_fresh := due_next;
                due_next := greatest(app.due + step, slot - catch_up);
            END IF;
            extras := extras || (mine >= parts.level);
            moves := moves || due_next - app.due;
            app.due := due_next;
            due := CASE WHEN is_fresh THEN app.due_fresh ELSE app.due END;
            slots := slots || slot;
            IF count > 0 AND slot < recent[count] THEN
                SELECT array_agg(at ORDER BY at) INTO recent FROM unnest(recent || slot) AS one(at);
            ELSE
                recent := recent || slot;
            END IF;
            mine := mine + 1;
            parts.used := parts.used + 1;
            wanted := wanted - 1;
            IF is_fresh THEN
                fresh := fresh + 1;
                parts.extra := parts.extra + (mine > parts.level)::integer;
            END IF;
        END LOOP;
        agains := agains || again;
    END LOOP;

    probe := probe AND fresh = 1;
    IF probe THEN
        app.probe_at := now + p_probe_seconds;
        app.prober := p_host;
    END IF;
    WITH paced AS (
        UPDATE larkdrop.apps SET due = app.due, due_fresh = app.due_fresh, steps = app.steps, tidied_at = app.tidied_at,
            paused_until = app.paused_until, hold = app.hold, probe_at = app.probe_at, prober = app.prober
            WHERE scope = p_scope
    ), seen AS (
        UPDATE larkdrop.hosts SET seen = now, had = mine, wants = p_wants, waiting = p_waiting, held = p_held
            WHERE scope = p_scope AND host = p_host
    ), made AS (
        INSERT INTO larkdrop.calls (scope, host, at, moved, moved_fresh, extra)
            SELECT p_scope, p_host, one.* FROM unnest(slots, moves, fresh_moves, extras) AS one
        RETURNING id
    )
    SELECT coalesce(array_agg(id ORDER BY id), '{}') INTO ids FROM made;
    count := cardinality(recent);
    WHILE count > 0 AND recent[count] > now - 1 LOOP
        count := count - 1;
    END LOOP;
    RETURN jsonb_build_object(
        'ids', ids, 'slots', slots, 'now', now, 'fresh', fresh, 'again', agains,
        'silence', now - seen_before,
        'beat', larkdrop.beat(parts.hosts), 'hosts', parts.hosts, 'used_second', cardinality(recent) - count,
        'used_minute', parts.used, 'level', parts.level, 'hold', app.hold, 'probe', probe
    );
END
$$;

-- Take a claim, unless another host has it and is alive.
CREATE FUNCTION larkdrop.claim(p_scope text, p_host text, p_instance uuid, p_name text, p_number bigint)
RETURNS boolean LANGUAGE plpgsql AS $$
BEGIN
    PERFORM larkdrop.settings();
    INSERT INTO larkdrop.claims AS c (scope, name, host, instance, number)
        VALUES (p_scope, p_name, p_host, p_instance, p_number)
        ON CONFLICT (scope, name) DO UPDATE SET host = p_host, instance = p_instance, number = p_number
        WHERE c.host = p_host OR NOT larkdrop.alive(p_scope, c.host, c.instance);
    RETURN FOUND;
END
$$;

-- The key of a content; where there is none and p_name is given, that is claimed.
CREATE FUNCTION larkdrop.find_or_claim(
    p_scope text, p_host text, p_instance uuid, p_image_type text, p_sha256 text, p_name text,
    p_number bigint, OUT claimed boolean, OUT image_key text, OUT log_id text, OUT host text
) LANGUAGE plpgsql AS $$
BEGIN
    -- The key is looked for after the claim: the one who had it before has shared the key first.
    claimed := p_name IS NULL OR larkdrop.claim(p_scope, p_host, p_instance, p_name, p_number);
    SELECT k.image_key, k.log_id, k.host INTO image_key, log_id, host FROM larkdrop.keys k
        WHERE k.scope = p_scope AND k.image_type = p_image_type AND k.sha256 = p_sha256;
END
$$;

-- Which of the claims no other host has any more.
CREATE FUNCTION larkdrop.ended(p_scope text, p_host text, p_names text[]) RETURNS SETOF text LANGUAGE sql AS $$
    SELECT name FROM unnest(p_names) AS name WHERE NOT EXISTS (
        SELECT FROM larkdrop.claims c WHERE c.scope = p_scope AND c.name = name.name AND c.host <> p_host
        AND larkdrop.alive(p_scope, c.host, c.instance)
    )
$$;

-- A host is done with claims.
CREATE FUNCTION larkdrop.release(p_scope text, p_host text, p_instance uuid, p_names text[], p_numbers bigint[])
RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    PERFORM larkdrop.settings();
    DELETE FROM larkdrop.claims c USING unnest(p_names, p_numbers) AS done(name, number)
        WHERE c.scope = p_scope AND c.instance = p_instance AND c.name = done.name AND c.number = done.number;
END
$$;

-- Keys that a host has got. The first one of a content stays.
CREATE FUNCTION larkdrop.add_keys(
    p_scopes text[], p_image_types text[], p_sha256s text[], p_image_keys text[], p_log_ids text[], p_host text,
    p_files text[], p_sizes bigint[]
) RETURNS void LANGUAGE sql AS $$
    INSERT INTO larkdrop.keys (scope, image_type, sha256, image_key, log_id, host, file, size)
        SELECT one.scope, image_type, sha256, image_key, log_id, p_host, file, size
        FROM unnest(p_scopes, p_image_types, p_sha256s, p_image_keys, p_log_ids, p_files, p_sizes)
            AS one(scope, image_type, sha256, image_key, log_id, file, size)
        ORDER BY 1, 2, 3 -- so that two hosts lock in the same order
        ON CONFLICT DO NOTHING
$$;
