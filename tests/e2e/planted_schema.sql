-- More places for planted values: views of views, and what speaks when a row fails.
CREATE VIEW planted_nested AS SELECT who || ': ' || what AS line, upper(what) AS loud FROM charts;
CREATE MATERIALIZED VIEW planted_frozen AS SELECT id, last_name AS who, ssn AS code FROM patients;
CREATE TYPE planted_hue AS ENUM ('red', 'green');
CREATE TABLE planted_checked (
    id integer PRIMARY KEY, quux text NOT NULL CHECK (length(quux) < 12));
CREATE TABLE planted_parted (ssn text) PARTITION BY LIST (ssn);
CREATE TABLE planted_parted_one PARTITION OF planted_parted FOR VALUES IN ('000-00-0000');
CREATE TABLE planted_noisy (id integer, quux text);
CREATE FUNCTION planted_shout(text) RETURNS text LANGUAGE plpgsql STABLE AS $$
BEGIN
    RAISE EXCEPTION 'found %', $1 USING DETAIL = $1, HINT = $1;
END $$;
CREATE FUNCTION planted_tell() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE WARNING 'a row %', NEW USING DETAIL = NEW.quux, HINT = NEW.quux;
    RAISE NOTICE 'a row %', (SELECT string_agg(p::text, ' ') FROM patients p);
    RETURN NEW;
END $$;
CREATE TRIGGER planted_tell BEFORE INSERT ON planted_noisy
    FOR EACH ROW EXECUTE FUNCTION planted_tell();
GRANT SELECT ON ALL TABLES IN SCHEMA public TO th_reader;
GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA public TO th_writer;
