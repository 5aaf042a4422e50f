//! What a test failed with, to be said once more after the servers' logs: who sees only the end of the output must
//! not have to guess.

use std::cell::RefCell;
use std::panic;
use std::sync::Once;

thread_local! {
    static LAST: RefCell<String> = const { RefCell::new(String::new()) };
}

/// Remembers from now on what threads panic with.
pub fn remember() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let print = panic::take_hook();
        panic::set_hook(Box::new(move |panic| {
            LAST.set(panic.to_string());
            print(panic);
        }));
    });
}

/// What this thread panicked with, and where; empty if it did not.
pub fn last() -> String {
    LAST.with_borrow(String::clone)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_thread_s_last_panic_is_its_own() {
        remember();
        let failed = panic::catch_unwind(|| panic!("number {}", 7)).is_err();
        assert!(failed && last().contains("last_panic.rs") && last().ends_with("number 7"));
        let elsewhere = std::thread::spawn(last).join();
        assert_eq!(elsewhere.ok().as_deref(), Some(""));
    }
}
