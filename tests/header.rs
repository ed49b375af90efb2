//! The committed header is the one that the sources make.

#[test]
fn header_is_current() {
    let generated = include_str!(concat!(env!("OUT_DIR"), "/ahoy.h"));
    let committed = include_str!("../include/ahoy.h");
    assert!(generated == committed, "include/ahoy.h is not what the sources make: run `make header` and commit it");
}
