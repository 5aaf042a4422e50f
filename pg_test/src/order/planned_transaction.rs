//! The transactions of a session, decided before they run: each a few steps and an end. A step may
//! stand behind a savepoint, so that a constraint it violates does not cost the transaction.

use std::fmt::{self, Display, Formatter};

use super::statement_generator::{CALLS, Call, PROCEDURES, StatementGenerator, TELL};
use super::tables::{Kind, MADE, TABLES, make_table};
use crate::dice::Dice;

/// A transaction, or several: a procedure may commit.
#[derive(Clone, Debug)]
pub(super) struct PlannedTransaction {
    pub steps: Vec<Step>,
    pub end: End,
}

/// A part of a transaction.
#[derive(Clone, Debug)]
pub(super) enum Step {
    /// Statements.
    Run(String),
    /// Behind a savepoint, which is rolled back to if one fails, and released.
    Guarded(Vec<Step>),
    /// Behind a savepoint that is rolled back to in any case.
    Undone(Vec<Step>),
}

/// How a transaction ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum End {
    /// It has no BEGIN: each step is a transaction.
    Alone,
    Commit,
    Rollback,
    /// PREPARE TRANSACTION, and COMMIT PREPARED.
    Prepare,
}

/// The transactions of a session. The first one fills the tables.
pub(super) fn transactions(dice: &mut Dice) -> Vec<PlannedTransaction> {
    let count = dice.between(18, 26);
    let mut transactions = vec![fill()];
    for number in 1..=count {
        let mut generator = TransactionGenerator { dice, number, copied: 0, made: 0 };
        transactions.push(generator.transaction());
    }
    transactions
}

fn fill() -> PlannedTransaction {
    let steps = TABLES.iter().filter(|table| table.kind != Kind::Log).map(|table| {
        let parent = if table.parent.is_some() { "nullif(g / 3, 0)" } else { "g * 10" };
        Step::Guarded(vec![Step::Run(format!(
            "INSERT INTO {} (id, n, v) SELECT g, {parent}, 'v' || g FROM generate_series(1, 12) g",
            table.name
        ))])
    });
    PlannedTransaction { steps: steps.collect(), end: End::Commit }
}

/// Writes one transaction.
struct TransactionGenerator<'a> {
    dice: &'a mut Dice,
    number: u64,
    copied: u64,
    made: u64,
}

impl TransactionGenerator<'_> {
    fn transaction(&mut self) -> PlannedTransaction {
        let end = match self.dice.between(1, 100) {
            1..=20 => End::Alone,
            21..=78 => End::Commit,
            79..=88 => End::Rollback,
            _ => End::Prepare,
        };
        if end == End::Alone {
            let steps = (0..self.dice.between(1, 3)).map(|_| self.alone()).collect();
            return PlannedTransaction { steps, end };
        }
        let guarded = self.dice.chance(75);
        let mut steps = Vec::new();
        for _ in 0..self.dice.between(1, 7) {
            let step = self.part();
            steps.push(if guarded { Step::Guarded(step) } else { Step::Guarded(step).flat() });
        }
        PlannedTransaction { steps, end }
    }

    /// A step that is a transaction, or some.
    fn alone(&mut self) -> Step {
        let k = self.statements().constant();
        Step::Run(match self.dice.between(1, 10) {
            1..=3 => format!("CALL {}({k})", self.dice.pick(&PROCEDURES)),
            4 => self.anonymous(),
            5 => {
                let statements: Vec<_> = (0..3).map(|_| self.statement()).collect();
                statements.join("; ")
            }
            _ => self.statement(),
        })
    }

    fn statements(&mut self) -> StatementGenerator<'_> {
        StatementGenerator::new(self.dice, Call::only(&CALLS))
    }

    fn anonymous(&mut self) -> String {
        let k = self.statements().constant();
        let body = self.statements().block("k", None);
        format!("DO $$ DECLARE k int := {k}; r record; BEGIN {body} END $$")
    }

    /// One statement.
    fn statement(&mut self) -> String {
        let mut generator = self.statements();
        let k = generator.constant();
        match generator.dice.between(1, 100) {
            1..=70 => generator.single(&k, None),
            71..=78 => {
                let function = generator.function().unwrap_or("f1");
                format!("SELECT {function}(g) FROM generate_series({k}, {k} + 2) g")
            }
            79..=86 => {
                let function = generator.function().unwrap_or("f1");
                let table = generator.table(None);
                format!(
                    "UPDATE {} SET v = 'r' WHERE id BETWEEN {k} AND {k} + 3 RETURNING {function}(id)",
                    table.name
                )
            }
            87..=94 => self.anonymous(),
            _ => {
                let table = generator.table(None);
                generator.truncate(table)
            }
        }
    }

    /// Steps that belong together.
    fn part(&mut self) -> Vec<Step> {
        match self.dice.between(1, 100) {
            1..=47 => vec![Step::Run(self.statement())],
            48..=52 => {
                let k = self.statements().constant();
                vec![Step::Run(format!("SELECT {TELL}({k})"))]
            }
            53..=55 => self.execute(),
            56..=61 => {
                let table = self.statements().table(None).name;
                vec![self.copy(table, false)]
            }
            62..=68 => self.freeze(),
            69..=75 => self.truncate(),
            76..=82 => self.cursor(),
            83..=88 => {
                let undone = vec![Step::Run(self.statement()), Step::Run(self.statement())];
                vec![
                    Step::Guarded(vec![Step::Run(self.statement())]),
                    Step::Undone(undone),
                    Step::Guarded(vec![Step::Run(self.statement())]),
                ]
            }
            89..=90 => vec![Step::Run("SET CONSTRAINTS ALL IMMEDIATE".to_owned())],
            91..=95 => self.make(),
            _ => self.make_in_a_function(),
        }
    }

    /// COPY of rows with ids that are new.
    fn copy(&mut self, table: &str, freeze: bool) -> Step {
        let mut lines = String::new();
        for _ in 0..self.dice.between(1, 4) {
            self.copied += 1;
            let number = self.dice.pick(&["", "", "1", "2"]);
            lines += &format!("{},{number},copy\\n", 1000 + self.number * 100 + self.copied);
        }
        let freeze = if freeze { ", FREEZE" } else { "" };
        Step::Run(format!(
            "COPY {table} (id, n, v) FROM PROGRAM 'printf ''{lines}''' WITH (FORMAT csv{freeze})"
        ))
    }

    /// COPY FREEZE into a table that was emptied in the same transaction.
    fn freeze(&mut self) -> Vec<Step> {
        let table = self.dice.pick(&["a", "b", "grand", "child", "a", "b", "unlogged"]);
        let emptied = TABLES.into_iter().find(|one| one.name == table).unwrap_or(TABLES[0]);
        let mut steps = vec![Step::Run(self.statements().truncate(emptied))];
        if self.dice.chance(30) {
            steps.push(Step::Run(self.statement()));
        }
        steps.push(self.copy(table, true));
        steps
    }

    fn truncate(&mut self) -> Vec<Step> {
        let mut generator = self.statements();
        let mut steps = Vec::new();
        if generator.dice.chance(30) {
            let table = generator.table(None).name;
            steps.push(Step::Run(format!("LOCK TABLE {table}")));
            let k = generator.constant();
            let insert = format!("INSERT INTO {table} (id) VALUES ({k}) ON CONFLICT DO NOTHING");
            steps.push(Step::Run(insert));
            let truncate = format!("TRUNCATE {table} CASCADE");
            steps.push(Step::Guarded(vec![Step::Run(truncate)]));
            return steps;
        }
        let mut names: Vec<&str> =
            (0..generator.dice.between(1, 3)).map(|_| generator.table(None).name).collect();
        names.dedup();
        if names.len() > 1 {
            // A trigger of another table may write to it before it is emptied: see `Schema::truncate`.
            names.retain(|name| *name != "deferred");
        }
        let identity = generator.dice.pick(&["", "", " RESTART IDENTITY"]);
        steps.push(Step::Run(format!("TRUNCATE {}{identity} CASCADE", names.join(", "))));
        steps
    }

    /// A query that writes as it is fetched, with others in between.
    fn cursor(&mut self) -> Vec<Step> {
        let function = self.statements().function().unwrap_or("f1");
        let (first, second) = (self.dice.between(1, 3), self.dice.between(1, 5));
        let source = if self.dice.chance(50) {
            "generate_series(1, 5) g".to_owned()
        } else {
            let table = self.statements().table(None).name;
            format!("(SELECT id AS g FROM {table} WHERE id > 0 ORDER BY id) g")
        };
        let between = self.statement();
        vec![
            Step::Run(format!("DECLARE c CURSOR FOR SELECT {function}(g) FROM {source}")),
            Step::Run(format!("FETCH {first} FROM c")),
            Step::Guarded(vec![Step::Run(between)]),
            Step::Run(format!("FETCH {second} FROM c")),
            Step::Run("CLOSE c".to_owned()),
        ]
    }

    /// A prepared statement, whose parameter sends a message before the statement begins.
    fn execute(&mut self) -> Vec<Step> {
        let mut generator = self.statements();
        let (k, statement) = (generator.constant(), generator.single("$1", None));
        vec![
            // Of one that failed it is still there.
            Step::Run("DEALLOCATE ALL".to_owned()),
            Step::Run(format!("PREPARE p(int) AS {statement}")),
            Step::Run(format!("EXECUTE p({TELL}({k}))")),
        ]
    }

    /// A table that is made, filled, emptied and filled again.
    fn make(&mut self) -> Vec<Step> {
        self.made += 1;
        let name = format!("{MADE}{}_{}", self.number, self.made);
        let mut steps = vec![Step::Run(make_table(&name))];
        if self.dice.chance(40) {
            let trigger = self.dice.pick(&["B_", "q_"]);
            steps.push(Step::Run(format!(
                "CREATE FUNCTION {name}() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN \
                 INSERT INTO audit (n, v) VALUES (NEW.id, 'new'); RETURN NEW; END $$; \
                 CREATE TRIGGER \"{trigger}\" {} INSERT ON {name} \
                 FOR EACH ROW EXECUTE FUNCTION {name}()",
                self.dice.pick(&["BEFORE", "AFTER"])
            )));
        }
        for _ in 0..self.dice.between(2, 5) {
            let step = match self.dice.between(1, 5) {
                1 => self.copy(&name, false),
                2 => self.copy(&name, true),
                3 => Step::Run(format!("TRUNCATE {name}")),
                4 => Step::Run(format!("UPDATE {name} SET v = 'u', id = id + 5000 WHERE id > 0")),
                _ => {
                    let function = self.statements().function().unwrap_or("f1");
                    Step::Run(format!(
                        "INSERT INTO {name} (id, n) SELECT g, {function}(g) \
                         FROM generate_series(1, 3) g ON CONFLICT DO NOTHING"
                    ))
                }
            };
            steps.push(if self.dice.chance(50) { Step::Guarded(vec![step]) } else { step });
        }
        steps
    }

    /// The same in a function, in the middle of a captured statement.
    fn make_in_a_function(&mut self) -> Vec<Step> {
        let mut generator = self.statements();
        let (k, table) = (generator.constant(), generator.table(None).name);
        vec![Step::Run(format!(
            "INSERT INTO {table} (id, v) SELECT make(g), 'mk' FROM generate_series({k}, {k} + 1) g \
             ON CONFLICT (id) DO UPDATE SET v = 'mk2'"
        ))]
    }
}

impl Step {
    /// The same without the savepoint around it.
    fn flat(self) -> Step {
        match self {
            Step::Guarded(mut steps) if steps.len() == 1 => steps.remove(0),
            step => step,
        }
    }
}

impl Display for Step {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let all = |f: &mut Formatter<'_>, steps: &[Step]| {
            steps.iter().try_for_each(|step| write!(f, "{step}"))
        };
        match self {
            Step::Run(statements) => writeln!(f, "{statements};"),
            Step::Guarded(steps) => {
                writeln!(f, "SAVEPOINT s;")?;
                all(f, steps)?;
                writeln!(f, "-- ROLLBACK TO s if one failed\nRELEASE s;")
            }
            Step::Undone(steps) => {
                writeln!(f, "SAVEPOINT u;")?;
                all(f, steps)?;
                writeln!(f, "ROLLBACK TO u;")
            }
        }
    }
}

impl Display for PlannedTransaction {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let (begin, end) = match self.end {
            End::Alone => ("", ""),
            End::Commit => ("BEGIN;\n", "COMMIT;\n"),
            End::Rollback => ("BEGIN;\n", "ROLLBACK;\n"),
            End::Prepare => ("BEGIN;\n", "PREPARE TRANSACTION 'p'; COMMIT PREPARED 'p';\n"),
        };
        write!(f, "{begin}")?;
        self.steps.iter().try_for_each(|step| write!(f, "{step}"))?;
        write!(f, "{end}")
    }
}
