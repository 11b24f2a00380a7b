-- The user by which all hosts come, and the database for it: it may use one schema there, and nothing else.
-- As a superuser, once:  psql -v password=… -f role.sql
-- It can be run again: it makes what is missing, and sets the password.

\set ON_ERROR_STOP on
\if :{?database}
\else
    \set database larkdrop
\endif
SELECT 'CREATE ROLE larkdrop' WHERE to_regrole('larkdrop') IS NULL \gexec
ALTER ROLE larkdrop LOGIN PASSWORD :'password' NOSUPERUSER NOCREATEDB NOCREATEROLE NOREPLICATION NOBYPASSRLS;
SELECT format('CREATE DATABASE %I', :'database')
    WHERE NOT EXISTS (SELECT FROM pg_database WHERE datname = :'database') \gexec
REVOKE ALL ON DATABASE :"database" FROM PUBLIC;
GRANT CONNECT ON DATABASE :"database" TO larkdrop;
\connect :"database"
REVOKE ALL ON SCHEMA public FROM PUBLIC;
CREATE SCHEMA IF NOT EXISTS larkdrop AUTHORIZATION larkdrop;
