//! The second table of a run, which docs/benchmarks.md has of messages of a user's own.

use std::fmt::{self, Display, Formatter};

use crate::at_once::AtOnce;
use crate::messages::{NAMES, Way};
use crate::plan::Plan;
use crate::report::{at_most, over, signed, two_digits, whole, write_line, zip};
use crate::rounds::Lowest;
use crate::workload::Costs;

/// CPU of a message in what the capture of a row of the same size adds to that row.
const OF_AN_EVENT: f64 = 1.5;

/// The same of a statement of many.
const OF_ROWS_AT_ONCE: f64 = 3.0;

/// Everything that was measured.
#[derive(Debug)]
pub struct MessageReport {
    pub plan: Plan,
    pub environment: String,
    pub unrest: f64,
    pub ways: Lowest<Way>,
    pub pg_amqp: Result<Costs, String>,
    pub at_once: AtOnce,
}

impl MessageReport {
    /// Per message, over what making its body up takes.
    fn added(&self, way: Way) -> Result<Costs, &str> {
        if way == Way::PgAmqp {
            return self.pg_amqp.as_ref().map(|costs| *costs).map_err(String::as_str);
        }
        Ok(over(self.costs(way)?, self.costs(way.floor())?))
    }

    fn costs(&self, way: Way) -> Result<Costs, &str> {
        let (_, found) = self.ways.iter().find(|(one, _)| *one == way).expect("all were measured");
        found.as_ref().map(|costs| *costs).map_err(String::as_str)
    }

    fn micros(&self, way: Way) -> Option<[f64; 3]> {
        self.added(way).ok().map(|costs| costs.map(|cost| cost.micros))
    }

    fn write_ratios(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let [publish, captured, row] =
            [Way::Publish, Way::Captured, Way::Row].map(|way| self.micros(way));
        if let (Some(publish), Some(captured), Some(row)) = (publish, captured, row) {
            let event = zip(captured, row, |captured, row| captured - row);
            let of_event = zip(publish, event, |publish, event| publish / event);
            let name = "CPU: **`amqp.publish`** ÷ what capture adds to a row of that size";
            write_line(f, name, of_event.map(|ratio| at_most(ratio, OF_AN_EVENT)))?;
            let of_row = zip(publish, captured, |publish, captured| publish / captured);
            let name = "CPU: `amqp.publish` ÷ a captured row of that size, the row included";
            write_line(f, name, of_row.map(|ratio| format!("{ratio:.2}")))?;
        }
        let AtOnce { messages, captured, published } = self.at_once;
        let ratio = published.micros / captured.micros;
        let each = |micros: f64| micros / messages as f64;
        let cells = [
            at_most(ratio, OF_ROWS_AT_ONCE),
            format!("{:.2} ÷ {:.2} µs each", each(published.micros), each(captured.micros)),
            String::new(),
        ];
        let name =
            format!("CPU of one statement of {messages}: **`amqp.publish`** ÷ rows captured");
        write_line(f, &name, cells)
    }

    fn write_ways(&self, f: &mut Formatter<'_>) -> fmt::Result {
        type Cell = fn(crate::meter::Cost) -> String;
        let kinds: [(&str, Cell); 2] =
            [("CPU, µs", |cost| two_digits(cost.micros)), ("WAL, bytes", |cost| whole(cost.wal))];
        for (what, cell) in kinds {
            let is_told = |way: &Way| ![Way::None, Way::Jsonb].contains(way);
            for way in Way::ALL.into_iter().chain([Way::PgAmqp]).filter(is_told) {
                let cells = match self.added(way) {
                    Ok(costs) => costs.map(|cost| signed(&cell(cost))),
                    Err(reason) => [reason.to_owned(), String::new(), String::new()],
                };
                write_line(f, &format!("{what}: {}", way.name()), cells)?;
            }
        }
        Ok(())
    }
}

impl Display for MessageReport {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let Plan { rows, rounds, .. } = self.plan;
        writeln!(
            f,
            "`make bench-capture ONLY=messages ROWS={rows} ROUNDS={rounds}`: {}; medians {:.0} % above the lowest\n",
            self.environment,
            self.unrest * 100.0
        )?;
        let [small, middle, large] = NAMES;
        writeln!(f, "| a body of | {small} | {middle} | {large} |\n| --- | --- | --- | --- |")?;
        self.write_ratios(f)?;
        self.write_ways(f)
    }
}
