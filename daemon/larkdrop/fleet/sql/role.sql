-- The user by which all hosts come, and a database of its own: it may use one schema there, and nothing else.
-- Once, as a superuser or one who may make databases and roles:  psql -v password=… -f role.sql
-- It can be run again: it makes what is missing, and sets the password.
-- Another name for the database: -v database=…; it must be larkdrop's own, since nobody else is let in.

\set ON_ERROR_STOP on
\if :{?database}
\else
    \set database larkdrop
\endif
SET password_encryption = 'scram-sha-256';
SELECT 'CREATE ROLE larkdrop' WHERE to_regrole('larkdrop') IS NULL \gexec
ALTER ROLE larkdrop LOGIN PASSWORD :'password';
SELECT format('CREATE DATABASE %I ENCODING ''UTF8'' TEMPLATE template0', :'database')
    WHERE NOT EXISTS (SELECT FROM pg_database WHERE datname = :'database') \gexec
REVOKE ALL ON DATABASE :"database" FROM PUBLIC;
GRANT CONNECT ON DATABASE :"database" TO larkdrop;
\connect :"database"
REVOKE ALL ON SCHEMA public FROM PUBLIC;
GRANT larkdrop TO CURRENT_USER; -- else only a superuser may give the schema away
CREATE SCHEMA IF NOT EXISTS larkdrop AUTHORIZATION larkdrop;
