//! Where PostgreSQL enters the library: the functions that it looks up by name, in SQL and for the worker. What
//! they lead to is told by `_PG_init`, since nothing here knows the rest of the library.

use std::sync::OnceLock;

use pgrx::pg_sys;

use super::function_call::{Answer, FunctionCall};
use super::trigger::TriggerCall;
use super::{event_trigger, guard, worker_process};

/// What the functions lead to.
pub struct Destinations {
    /// The trigger function; none for a call that PostgreSQL did not make as a trigger.
    pub capture: fn(Option<TriggerCall<'_>>),
    /// A DDL command has dropped something.
    pub dropped: fn(),
    /// A DDL command ends.
    pub command_ended: fn(),
    /// A user has a message to send.
    pub publish: fn(FunctionCall<'_>, BodyType, When) -> Answer,
    /// The same, by a function of pg_amqp's.
    pub publish_to_broker: fn(FunctionCall<'_>, When) -> Answer,
    /// A user wants an exchange declared, by a function of pg_amqp's.
    pub declare_exchange: fn(FunctionCall<'_>) -> Answer,
    /// CREATE EXTENSION begins.
    pub check_names: fn(),
    /// The worker.
    pub work: fn() -> !,
    /// The worker has failed, and ends.
    pub failed: fn(&str),
}

/// The type of the body that a function which sends a message takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BodyType {
    Jsonb,
    Json,
    Text,
    Bytea,
}

/// When a message counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum When {
    /// If the transaction commits, with it.
    AtCommit,
    /// At once, whatever becomes of the transaction.
    AtOnce,
}

static DESTINATIONS: OnceLock<Destinations> = OnceLock::new();

/// Says what the functions lead to. Only from `_PG_init`, which PostgreSQL calls before any of them.
pub fn lead_to(destinations: Destinations) {
    // The library is loaded once.
    let _ = DESTINATIONS.set(destinations);
}

/// Called by PostgreSQL for each row, or for each TRUNCATE. Declared in sql/amqp_cdc--*.sql.
///
/// # Safety
///
/// Only PostgreSQL's function manager may call this.
#[unsafe(no_mangle)]
pub unsafe extern "C-unwind" fn amqp_change_data_capture(
    fcinfo: pg_sys::FunctionCallInfo,
) -> pg_sys::Datum {
    if let Some(destinations) = DESTINATIONS.get() {
        // SAFETY: the function manager passes a valid call, and the context that it names lasts as long as
        // the call. C called this function, and nothing here has a destructor.
        unsafe {
            let call = TriggerCall::of(fcinfo);
            guard::at_boundary(|| (destinations.capture)(call));
        }
    }
    // What an AFTER trigger returns is ignored.
    pg_sys::Datum::from(0)
}

/// Called by PostgreSQL when a DDL command has dropped something. Declared in sql/amqp_cdc--*.sql.
///
/// # Safety
///
/// Only PostgreSQL's function manager may call this.
#[unsafe(no_mangle)]
pub unsafe extern "C-unwind" fn amqp_cdc_sql_drop(
    fcinfo: pg_sys::FunctionCallInfo,
) -> pg_sys::Datum {
    // SAFETY: the function manager calls this function, with a valid call; nothing here has a destructor.
    unsafe { at_event(fcinfo, |destinations| destinations.dropped) }
}

/// Called by PostgreSQL at the end of each DDL command. Declared in sql/amqp_cdc--*.sql.
///
/// # Safety
///
/// Only PostgreSQL's function manager may call this.
#[unsafe(no_mangle)]
pub unsafe extern "C-unwind" fn amqp_cdc_ddl_command_end(
    fcinfo: pg_sys::FunctionCallInfo,
) -> pg_sys::Datum {
    // SAFETY: the function manager calls this function, with a valid call; nothing here has a destructor.
    unsafe { at_event(fcinfo, |destinations| destinations.command_ended) }
}

/// Leads a call of an event trigger on, if it is one.
///
/// # Safety
///
/// `fcinfo` is what the function manager passed to the caller, which has nothing that would have to be dropped.
unsafe fn at_event(
    fcinfo: pg_sys::FunctionCallInfo,
    destination: impl FnOnce(&Destinations) -> fn(),
) -> pg_sys::Datum {
    // SAFETY: a valid call; C called the caller, and nothing there or here has a destructor.
    unsafe {
        if let Some(destinations) = DESTINATIONS.get()
            && event_trigger::is_call_for_an_event(fcinfo)
        {
            guard::at_boundary(destination(destinations));
        }
    }
    pg_sys::Datum::from(0)
}

/// Called by CREATE EXTENSION, before anything of it is there. Declared in sql/amqp_cdc--*.sql.
///
/// # Safety
///
/// Only PostgreSQL's function manager may call this.
#[unsafe(no_mangle)]
pub unsafe extern "C-unwind" fn amqp_cdc_check_names(
    _fcinfo: pg_sys::FunctionCallInfo,
) -> pg_sys::Datum {
    if let Some(destinations) = DESTINATIONS.get() {
        // SAFETY: C called this function, and nothing here has a destructor.
        unsafe { guard::at_boundary(destinations.check_names) };
    }
    pg_sys::Datum::from(0)
}

/// Functions that SQL calls with arguments of its own. Declared in sql/amqp_cdc--*.sql.
macro_rules! sql_functions {
    ($($name:ident, $info:ident => |$destinations:ident, $call:ident| $answer:expr;)*) => {$(
        /// # Safety
        ///
        /// Only PostgreSQL's function manager may call this.
        #[unsafe(no_mangle)]
        pub unsafe extern "C-unwind" fn $name(info: pg_sys::FunctionCallInfo) -> pg_sys::Datum {
            let Some($destinations) = DESTINATIONS.get() else { return pg_sys::Datum::from(0) };
            // SAFETY: the function manager passes a valid call, with arguments of the types that the SQL says. C
            // called this function, and nothing here has a destructor.
            unsafe {
                let $call = FunctionCall::of(info);
                guard::at_boundary(|| $answer.0)
            }
        }

        /// Tells the function manager how to call the function.
        #[unsafe(no_mangle)]
        pub extern "C" fn $info() -> &'static pg_sys::Pg_finfo_record {
            &VERSION_1
        }
    )*};
}

sql_functions! {
    amqp_cdc_publish_jsonb, pg_finfo_amqp_cdc_publish_jsonb =>
        |to, call| (to.publish)(call, BodyType::Jsonb, When::AtCommit);
    amqp_cdc_publish_json, pg_finfo_amqp_cdc_publish_json =>
        |to, call| (to.publish)(call, BodyType::Json, When::AtCommit);
    amqp_cdc_publish_text, pg_finfo_amqp_cdc_publish_text =>
        |to, call| (to.publish)(call, BodyType::Text, When::AtCommit);
    amqp_cdc_publish_bytea, pg_finfo_amqp_cdc_publish_bytea =>
        |to, call| (to.publish)(call, BodyType::Bytea, When::AtCommit);
    amqp_cdc_autonomous_publish_jsonb, pg_finfo_amqp_cdc_autonomous_publish_jsonb =>
        |to, call| (to.publish)(call, BodyType::Jsonb, When::AtOnce);
    amqp_cdc_autonomous_publish_json, pg_finfo_amqp_cdc_autonomous_publish_json =>
        |to, call| (to.publish)(call, BodyType::Json, When::AtOnce);
    amqp_cdc_autonomous_publish_text, pg_finfo_amqp_cdc_autonomous_publish_text =>
        |to, call| (to.publish)(call, BodyType::Text, When::AtOnce);
    amqp_cdc_autonomous_publish_bytea, pg_finfo_amqp_cdc_autonomous_publish_bytea =>
        |to, call| (to.publish)(call, BodyType::Bytea, When::AtOnce);
    amqp_cdc_publish_to_broker, pg_finfo_amqp_cdc_publish_to_broker =>
        |to, call| (to.publish_to_broker)(call, When::AtCommit);
    amqp_cdc_autonomous_publish_to_broker, pg_finfo_amqp_cdc_autonomous_publish_to_broker =>
        |to, call| (to.publish_to_broker)(call, When::AtOnce);
    amqp_cdc_exchange_declare, pg_finfo_amqp_cdc_exchange_declare =>
        |to, call| (to.declare_exchange)(call);
}

/// Where the postmaster starts the worker. The argument is unused.
#[unsafe(no_mangle)]
pub extern "C-unwind" fn amqp_cdc_worker_main(_argument: pg_sys::Datum) {
    let Some(destinations) = DESTINATIONS.get() else { return };
    // SAFETY: C called this function, and nothing here has a destructor.
    unsafe {
        guard::at_boundary(|| {
            let Err(failure) = worker_process::catch(destinations.work);
            (destinations.failed)(failure.message());
            failure.rethrow()
        })
    }
}

static VERSION_1: pg_sys::Pg_finfo_record = pg_sys::Pg_finfo_record { api_version: 1 };

/// Tells the function manager how to call [`amqp_change_data_capture`] (fmgr.h: `PG_FUNCTION_INFO_V1`).
#[unsafe(no_mangle)]
pub extern "C" fn pg_finfo_amqp_change_data_capture() -> &'static pg_sys::Pg_finfo_record {
    &VERSION_1
}

/// Tells the function manager how to call [`amqp_cdc_sql_drop`].
#[unsafe(no_mangle)]
pub extern "C" fn pg_finfo_amqp_cdc_sql_drop() -> &'static pg_sys::Pg_finfo_record {
    &VERSION_1
}

/// Tells the function manager how to call [`amqp_cdc_ddl_command_end`].
#[unsafe(no_mangle)]
pub extern "C" fn pg_finfo_amqp_cdc_ddl_command_end() -> &'static pg_sys::Pg_finfo_record {
    &VERSION_1
}

/// Tells the function manager how to call [`amqp_cdc_check_names`].
#[unsafe(no_mangle)]
pub extern "C" fn pg_finfo_amqp_cdc_check_names() -> &'static pg_sys::Pg_finfo_record {
    &VERSION_1
}
