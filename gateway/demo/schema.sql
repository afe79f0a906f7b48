-- The demo's database: four tables, a view, and the logins that the gateway uses.
CREATE TABLE patients (
    id          integer PRIMARY KEY,
    mrn         text NOT NULL UNIQUE,
    first_name  text NOT NULL,
    last_name   text NOT NULL,
    ssn         text NOT NULL UNIQUE,
    birth_date  date NOT NULL,
    email       text,
    phone       text,
    address     text,
    zip         text
);
CREATE TABLE visits (
    id          integer PRIMARY KEY,
    patient_id  integer NOT NULL REFERENCES patients,
    visited_at  timestamptz NOT NULL,
    reason_code text NOT NULL
);
CREATE TABLE claims (
    id          integer PRIMARY KEY,
    patient_id  integer NOT NULL REFERENCES patients,
    amount      numeric(10, 2) NOT NULL,
    status      text NOT NULL
);
CREATE TABLE notes (
    id          integer PRIMARY KEY,
    visit_id    integer NOT NULL REFERENCES visits ON DELETE CASCADE,
    note_text   text NOT NULL
);
CREATE VIEW claim_totals AS
    SELECT status, count(*) AS claims, sum(amount) AS amount FROM claims GROUP BY status;

-- What the reader may see is masked by the gateway; the server itself keeps it from writing.
CREATE ROLE tollhouse_reader LOGIN PASSWORD :'reader_password';
ALTER ROLE tollhouse_reader SET default_transaction_read_only = on;
GRANT SELECT ON ALL TABLES IN SCHEMA public TO tollhouse_reader;
CREATE ROLE tollhouse_writer LOGIN PASSWORD :'writer_password';
GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA public TO tollhouse_writer;
REVOKE CREATE ON SCHEMA public FROM PUBLIC;
