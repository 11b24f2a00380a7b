"""The tables and functions in the database: made and brought forward by whoever comes first, one at a time."""

from __future__ import annotations

from importlib.resources import files

from larkdrop.fleet.database import SET_UP, STANDBY, Away, Database

# Each brings the schema from the version before to its own; one that was released is never changed.
MIGRATIONS = ("1_tables.sql", "2_functions.sql")
VERSION = len(MIGRATIONS)
# The oldest version that a host may know and still take part after all of these.
OLDEST = 2
# Of the advisory lock: "larkdrop" in ASCII.
LOCK = int.from_bytes(b"larkdrop", "big")
OLDEST_SERVER = 13
# For all migrations together.
MIGRATION_SECONDS = 60.0


def prepare(database: Database) -> str:
    """Bring the schema forward where that is needed and allowed. Returns the id that it was born with. Raises Away."""
    version, born = look(database)
    if version < VERSION:
        try:
            database.ask(_script(), seconds=MIGRATION_SECONDS)
        except Away as why:
            if version == 0:
                raise
            message = f"the fleet's tables have version {version} and can't be brought to version {VERSION}"
            raise Away(f"{message}: {why.message}", hint=SET_UP) from None
        version, born = look(database)
    return born


def look(database: Database) -> tuple[int, str]:
    """The schema's version, 0 where there is none, and the id that it was born with. Raises Away: not usable."""
    ((server, encoding, standby, there),) = database.ask(
        "SELECT current_setting('server_version_num')::integer / 10000, current_setting('server_encoding'),"
        " pg_is_in_recovery(), to_regclass('larkdrop.meta') IS NOT NULL"
    )
    if server < OLDEST_SERVER:
        raise Away(f"this is PostgreSQL {server}", hint=f"larkdrop needs {OLDEST_SERVER} or newer.")
    if encoding != "UTF8":
        raise Away(f"the database's encoding is {encoding}", hint=f"It has to be UTF8. {SET_UP}")
    if standby:
        raise Away("the database is a read-only standby", hint=STANDBY)
    if not there:
        return 0, ""
    ((version, oldest, born),) = database.ask("SELECT version, oldest, born::text FROM larkdrop.meta")
    if oldest > VERSION:
        message = f"the fleet's tables have version {version}; this larkdrop knows versions up to {VERSION}"
        raise Away(message, hint="Update larkdrop on this host; the others go on meanwhile.")
    return version, born


def _script() -> str:
    """All migrations as one transaction that takes those that are missing; harmless where another host was faster."""
    steps = "\n".join(
        f"IF version < {number} THEN\nEXECUTE $migration${_text(name)}$migration$;\nEND IF;"
        for number, name in enumerate(MIGRATIONS, 1)
    )
    # Nothing in it comes from outside.
    return f"""
        DO $do$
        DECLARE version integer := 0;
        BEGIN
            PERFORM pg_advisory_xact_lock({LOCK});
            IF to_regnamespace('larkdrop') IS NULL THEN
                CREATE SCHEMA larkdrop;
            END IF;
            IF to_regclass('larkdrop.meta') IS NOT NULL THEN
                SELECT meta.version INTO version FROM larkdrop.meta;
            END IF;
            {steps}
            INSERT INTO larkdrop.meta (version, oldest) VALUES ({VERSION}, {OLDEST})
                ON CONFLICT (only_row) DO UPDATE SET
                    version = greatest(meta.version, excluded.version), oldest = greatest(meta.oldest, excluded.oldest);
        END
        $do$
    """  # noqa: S608


def _text(name: str) -> str:
    return files("larkdrop.fleet").joinpath("sql", name).read_text(encoding="utf-8")
