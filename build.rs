//! Keeps the section from which `cargo pgrx` reads the extension's SQL: the linker would drop it.
//! Only for the library that PostgreSQL loads. cargo-pgrx would pass the same flag to every crate,
//! and so build all dependencies a second time; the Makefile tells it not to.

fn main() {
    println!("cargo:rerun-if-changed=build.rs");
    if std::env::var("CARGO_CFG_TARGET_OS").is_ok_and(|os| os == "linux") {
        println!("cargo:rustc-cdylib-link-arg=-Wl,--no-gc-sections");
    }
}
