//! Tells the servers which version of their library they are built on: what Cargo.lock says.

fn main() {
    println!("cargo::rerun-if-changed=Cargo.lock");
    let lock = std::fs::read_to_string("Cargo.lock").expect("Cargo.lock is there: it is committed");
    let mut lines = lock.lines();
    while let Some(line) = lines.next() {
        let Some(name) = quoted(line, "name = ") else { continue };
        if let Some(version) = lines.next().and_then(|line| quoted(line, "version = ")) {
            println!("cargo::rustc-env=VERSION_{}={name} {version}", name.to_uppercase());
        }
    }
}

fn quoted<'a>(line: &'a str, key: &str) -> Option<&'a str> {
    line.strip_prefix(key)?.strip_prefix('"')?.strip_suffix('"')
}
