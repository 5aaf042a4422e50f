//! The schema of a session: captured tables, and triggers and functions that write in the middle of
//! statements.

use std::collections::BTreeMap;
use std::fmt::Write;

use super::captured::{Captured, Promise};
use super::published::TOLD;
use super::statement_generator::{CALLS, Call, PROCEDURES, StatementGenerator, TELL};
use super::tables::{KEYS, Kind, MADE, TABLES, Table, capture_rows, capture_truncate, make_table};
use crate::dice::Dice;

/// How many partitions `part` has, of eight ids each; the last has all further ones.
const PARTITIONS: u64 = 3;

/// Names of capture triggers: before and after the triggers of foreign keys (`RI_…`), and before and
/// after others on the same table.
const CAPTURE_NAMES: [&str; 3] = ["A_cdc", "m_cdc", "zz_cdc"];

/// What the names of other triggers begin with, for the same reason.
const NAMES: [&str; 6] = ["0_", "B_", "S_", "c_", "q_", "zzz_"];

/// After so many calls of triggers and functions in a transaction the further ones write nothing.
const SPEND: u64 = 60;

/// A schema, as it grows.
pub(super) struct Schema {
    /// The statements that make it.
    pub sql: String,
    /// What is captured of each of its tables.
    pub captured: BTreeMap<String, Captured>,
    triggers: usize,
}

impl Schema {
    /// A schema of this name.
    pub fn new(name: &str, dice: &mut Dice) -> Schema {
        let mut schema = Schema { sql: String::new(), captured: BTreeMap::new(), triggers: 0 };
        schema.sequences(name);
        schema.tables(dice);
        schema.functions(dice);
        schema.triggers(dice);
        schema
    }

    fn sequences(&mut self, schema: &str) {
        self.add(&format!("CREATE SCHEMA {schema}"));
        self.add(&format!("SET search_path = {schema}, public"));
        // Names for tables that functions make, and ids for the log.
        self.add("CREATE SEQUENCE names");
        self.add("CREATE SEQUENCE ids");
        // What a transaction has done in triggers and functions, that of rolled back parts included: with
        // those forgotten, they would call each other for ever.
        self.add("CREATE SEQUENCE spending");
        // Sends a message, with PostgreSQL's own right before it: see `decoded`. In a plain statement it gives way to what
        // it consists of, and no function is called that would begin a command of its own.
        self.add(&format!(
            "CREATE FUNCTION {TELL}(k int) RETURNS int LANGUAGE sql AS $$ SELECT k + 0 * length(concat(\
             pg_logical_emit_message(true, current_schema()::text, concat('m', k)), \
             amqp.publish(current_schema() || '{TOLD}', concat('m', k)))) $$"
        ));
        self.add(
            "CREATE FUNCTION spent() RETURNS bigint LANGUAGE sql AS $$ SELECT nextval('spending') $$",
        );
    }

    fn add(&mut self, statement: &str) {
        let _ = writeln!(self.sql, "{statement};");
    }

    fn tables(&mut self, dice: &mut Dice) {
        // Tells in the stream which transaction comes.
        self.add("CREATE TABLE tag (id int PRIMARY KEY)");
        self.add("ALTER TABLE tag REPLICA IDENTITY FULL");
        self.add(&capture_rows("m_cdc", "tag", "tag"));
        let tag = Captured {
            promise: Promise::Ordered,
            rows: vec!["tag".to_owned()],
            truncates: Vec::new(),
        };
        self.captured.insert("tag".to_owned(), tag);
        for table in TABLES {
            self.table(dice, table);
        }
    }

    fn table(&mut self, dice: &mut Dice, table: Table) {
        let name = table.name;
        let unlogged = if table.kind == Kind::Unlogged { "UNLOGGED " } else { "" };
        let default = if table.kind == Kind::Log { " DEFAULT nextval('ids')" } else { "" };
        let partitioned =
            if table.kind == Kind::Partitioned { " PARTITION BY RANGE (id)" } else { "" };
        self.add(&format!(
            "CREATE {unlogged}TABLE {name} (id int{default} PRIMARY KEY, n int, v text){partitioned}"
        ));
        let mut stored = vec![name.to_owned()];
        if table.kind == Kind::Partitioned {
            stored = (0..PARTITIONS).map(|number| format!("{name}_{number}")).collect();
            for (number, partition) in (0..PARTITIONS).zip(&stored) {
                let from =
                    if number == 0 { "MINVALUE".to_owned() } else { (number * 8).to_string() };
                let to = if number + 1 == PARTITIONS {
                    "MAXVALUE".to_owned()
                } else {
                    (number * 8 + 8).to_string()
                };
                self.add(&format!(
                    "CREATE TABLE {partition} PARTITION OF {name} FOR VALUES FROM ({from}) TO ({to})"
                ));
            }
        }
        for stored in &stored {
            self.add(&format!("ALTER TABLE {stored} REPLICA IDENTITY FULL"));
        }
        if let Some(parent) = table.parent {
            let mut action = || dice.pick(&["CASCADE", "CASCADE", "SET NULL"]);
            let (delete, update) = (action(), action());
            let when = if dice.chance(30) { " DEFERRABLE INITIALLY DEFERRED" } else { "" };
            self.add(&format!(
                "ALTER TABLE {name} ADD FOREIGN KEY (n) REFERENCES {parent} \
                 ON DELETE {delete} ON UPDATE {update}{when}"
            ));
            // Cascades find their rows in the order of this index, not in that of the heap. Without the
            // nulls it answers nobody else, and which of two indexes is taken does not change.
            self.add(&format!("CREATE INDEX ON {name} (n, id) WHERE n IS NOT NULL"));
        }
        self.capture(dice, table, stored);
    }

    fn capture(&mut self, dice: &mut Dice, table: Table, stored: Vec<String>) {
        let name = table.name;
        if table.kind == Kind::Uncaptured {
            return;
        }
        if table.kind == Kind::Deferred {
            self.add(&format!(
                "CREATE CONSTRAINT TRIGGER m_cdc AFTER INSERT OR UPDATE OR DELETE ON {name} \
                 DEFERRABLE INITIALLY DEFERRED \
                 FOR EACH ROW EXECUTE FUNCTION amqp_change_data_capture('{name}')"
            ));
            let rows = vec![name.to_owned()];
            let captured = Captured { promise: Promise::Counted, rows, truncates: Vec::new() };
            self.captured.insert(name.to_owned(), captured);
            return;
        }
        let mut names = vec![dice.pick(&CAPTURE_NAMES)];
        let second = dice.pick(&CAPTURE_NAMES);
        if dice.chance(25) && second != names[0] {
            names.push(second);
        }
        let mut rows: Vec<(&str, String)> = Vec::new();
        for (number, trigger) in names.iter().enumerate() {
            let resource = if number == 0 { name.to_owned() } else { format!("{name}_again") };
            self.add(&capture_rows(trigger, name, &resource));
            rows.push((*trigger, resource));
        }
        // They fire in the order of their names.
        rows.sort_unstable();
        let trigger = format!("{}_t", dice.pick(&CAPTURE_NAMES));
        self.add(&capture_truncate(&trigger, name, name));
        let promise = if table.kind == Kind::Unlogged { Promise::Unseen } else { Promise::Ordered };
        let rows: Vec<String> = rows.into_iter().map(|(_, resource)| resource).collect();
        let truncates = vec![name.to_owned()];
        // A TRUNCATE names the partitioned table, a row its partition.
        for stored in stored.iter().filter(|stored| *stored != name) {
            let captured = Captured { promise, rows: rows.clone(), truncates: Vec::new() };
            self.captured.insert(stored.clone(), captured);
        }
        self.captured.insert(name.to_owned(), Captured { promise, rows, truncates });
    }

    /// Functions that write: two that call nothing, and one above the other two that call them.
    fn functions(&mut self, dice: &mut Dice) {
        for (level, name) in CALLS.iter().enumerate() {
            let below = &CALLS[..if level < 2 { 0 } else { level }];
            let mut generator = StatementGenerator::new(dice, Call::only(below));
            let body = generator.block("k", None);
            self.add(&format!(
                "CREATE FUNCTION {name}(k int) RETURNS int LANGUAGE plpgsql AS $$\n\
                 DECLARE r record;\nBEGIN\n\
                 IF k IS NULL OR spent() > {SPEND} THEN RETURN k; END IF;\n{body}\n\
                 RETURN k;\nEND $$"
            ));
        }
        self.add(&made_in_a_function());
        for name in PROCEDURES {
            let mut generator = StatementGenerator::new(dice, Call::only(&CALLS));
            let [first, second, third] = [(); 3].map(|()| generator.block("k", None));
            self.add(&format!(
                "CREATE PROCEDURE {name}(k int) LANGUAGE plpgsql AS $$\n\
                 DECLARE r record;\nBEGIN\n{first}\nCOMMIT;\n{second}\n{}; \n{third}\nCOMMIT;\nEND $$",
                if generator.dice.chance(50) { "COMMIT" } else { "ROLLBACK" },
            ));
        }
    }

    fn triggers(&mut self, dice: &mut Dice) {
        for _ in 0..dice.between(4, 8) {
            let among: Vec<Table> = TABLES
                .into_iter()
                .filter(|table| !matches!(table.kind, Kind::Log | Kind::Uncaptured))
                .collect();
            let table = dice.pick(&among);
            match dice.between(1, 100) {
                1..=35 => self.before_row(dice, table),
                36..=65 => self.after_row(dice, table),
                66..=73 => self.statement(dice, table),
                74..=80 => self.deferred(dice, table),
                81..=85 => self.transition(dice, table),
                _ => self.truncate(dice, table),
            }
        }
    }

    /// A trigger's name, and that of its function.
    fn name(&mut self, dice: &mut Dice) -> (String, String) {
        self.triggers += 1;
        (format!("{}{}", dice.pick(&NAMES), self.triggers), format!("t{}", self.triggers))
    }

    fn trigger_function(&mut self, function: &str, body: &str) {
        self.add(&format!(
            "CREATE FUNCTION {function}() RETURNS trigger LANGUAGE plpgsql AS $$\n\
             DECLARE k int; r record;\nBEGIN\n\
             IF TG_LEVEL = 'ROW' THEN k := CASE WHEN TG_OP = 'DELETE' THEN OLD.id ELSE NEW.id END;\n\
             ELSE k := {KEYS} / 2; END IF;\n\
             IF pg_trigger_depth() <= 3 AND spent() <= {SPEND} THEN\n{body}\nEND IF;\n\
             IF TG_OP = 'DELETE' THEN RETURN OLD; END IF;\nRETURN NEW;\nEND $$"
        ));
    }

    fn before_row(&mut self, dice: &mut Dice, table: Table) {
        let (trigger, function) = self.name(dice);
        let name = table.name;
        let mut events = events(dice);
        let mut generator = StatementGenerator::new(dice, Call::only(&CALLS));
        let body = match generator.dice.between(1, 8) {
            1 | 2 => {
                events = "INSERT".to_owned();
                format!("DELETE FROM {name} WHERE id = NEW.id;")
            }
            3 => {
                events = "INSERT".to_owned();
                format!("UPDATE {name} SET v = 'closed' WHERE id = NEW.id - 1;")
            }
            4 if table.parent.is_some() => {
                events = "INSERT OR UPDATE".to_owned();
                let parent = table.parent.unwrap_or_default();
                let missing = format!("INSERT INTO {parent} (id, v) VALUES (k, 'p')");
                format!("{missing} ON CONFLICT DO NOTHING; NEW.n := k;")
            }
            4 | 5 => generator.log("k"),
            6 => {
                events = "INSERT".to_owned();
                let others = generator.block("k", Some(name));
                format!("{others}\nIF NEW.id % 7 = 3 THEN RETURN NULL; END IF;")
            }
            _ => generator.block("k", Some(name)),
        };
        self.trigger_function(&function, &body);
        self.add(&format!(
            "CREATE TRIGGER \"{trigger}\" BEFORE {events} ON {name} \
             FOR EACH ROW EXECUTE FUNCTION {function}()"
        ));
    }

    fn after_row(&mut self, dice: &mut Dice, table: Table) {
        let (trigger, function) = self.name(dice);
        let name = table.name;
        let events = events(dice);
        let mut generator = StatementGenerator::new(dice, Call::only(&CALLS));
        let body = match generator.dice.between(1, 6) {
            1 | 2 => generator.log("k"),
            3 | 4 => format!("UPDATE {name} SET v = left(v || '+', 8) WHERE id = k;"),
            _ => generator.block("k", None),
        };
        self.trigger_function(&function, &body);
        self.add(&format!(
            "CREATE TRIGGER \"{trigger}\" AFTER {events} ON {name} \
             FOR EACH ROW EXECUTE FUNCTION {function}()"
        ));
    }

    fn statement(&mut self, dice: &mut Dice, table: Table) {
        let (trigger, function) = self.name(dice);
        let when = dice.pick(&["BEFORE", "AFTER"]);
        let events = events(dice);
        let body = StatementGenerator::new(dice, Call::only(&CALLS)).block("k", None);
        self.trigger_function(&function, &body);
        self.add(&format!(
            "CREATE TRIGGER \"{trigger}\" {when} {events} ON {} \
             FOR EACH STATEMENT EXECUTE FUNCTION {function}()",
            table.name
        ));
    }

    fn transition(&mut self, dice: &mut Dice, table: Table) {
        let (trigger, function) = self.name(dice);
        let body = "INSERT INTO audit (n, v) SELECT id, 'rows' FROM fresh ORDER BY id;";
        self.trigger_function(&function, body);
        self.add(&format!(
            "CREATE TRIGGER \"{trigger}\" AFTER {} ON {} REFERENCING NEW TABLE AS fresh \
             FOR EACH STATEMENT EXECUTE FUNCTION {function}()",
            dice.pick(&["INSERT", "UPDATE"]),
            table.name
        ));
    }

    /// A trigger that writes when its transaction commits.
    fn deferred(&mut self, dice: &mut Dice, table: Table) {
        if table.kind == Kind::Partitioned {
            return;
        }
        let (trigger, function) = self.name(dice);
        let events = events(dice);
        let body = StatementGenerator::new(dice, Call::only(&CALLS)).block("k", None);
        self.trigger_function(&function, &body);
        self.add(&format!(
            "CREATE CONSTRAINT TRIGGER \"{trigger}\" AFTER {events} ON {} \
             DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION {function}()",
            table.name
        ));
    }

    fn truncate(&mut self, dice: &mut Dice, table: Table) {
        let (trigger, function) = self.name(dice);
        let name = table.name;
        let when = dice.pick(&["BEFORE", "AFTER", "AFTER"]);
        // A row that a trigger writes behind TRUNCATE's check for pending trigger events is gone when
        // its deferred trigger fires: PostgreSQL gives that trigger whatever row has the place then.
        let when = if table.kind == Kind::Deferred { "AFTER" } else { when };
        let mut generator = StatementGenerator::new(dice, Call::only(&CALLS));
        let body = if generator.dice.chance(50) {
            let key = generator.constant();
            format!("INSERT INTO {name} (id, v) VALUES ({key}, 'seed') ON CONFLICT DO NOTHING;")
        } else {
            generator.block("k", None)
        };
        self.trigger_function(&function, &body);
        self.add(&format!(
            "CREATE TRIGGER \"{trigger}\" {when} TRUNCATE ON {name} \
             FOR EACH STATEMENT EXECUTE FUNCTION {function}()"
        ));
    }
}

/// A function that makes a table, fills it, empties it and fills it again: the same file and the
/// same places in it mean different rows.
fn made_in_a_function() -> String {
    let make = make_table("%1$I").replace('\'', "''");
    format!(
        "CREATE FUNCTION make(k int) RETURNS int LANGUAGE plpgsql AS $f$\n\
         DECLARE t text := '{}f' || nextval('names');\nBEGIN\n\
         IF spent() > {SPEND} / 2 THEN RETURN k; END IF;\n\
         EXECUTE format('{make}', t);\n\
         EXECUTE format('INSERT INTO %I SELECT g, $1, ''first'' FROM generate_series(1, 2) g', t) USING k;\n\
         EXECUTE format('TRUNCATE %I', t);\n\
         EXECUTE format('INSERT INTO %I SELECT g, $1, ''second'' FROM generate_series(1, 2) g', t) USING k;\n\
         IF k % 2 = 0 THEN EXECUTE format('UPDATE %I SET v = ''third'' WHERE id > 0', t); END IF;\n\
         INSERT INTO audit (n, v) VALUES (k, 'made');\n\
         RETURN k;\nEND $f$",
        MADE,
    )
}

fn events(dice: &mut Dice) -> String {
    dice.pick(&[
        "INSERT",
        "UPDATE",
        "DELETE",
        "INSERT OR UPDATE",
        "INSERT OR DELETE",
        "INSERT OR UPDATE OR DELETE",
    ])
    .to_owned()
}
