//! Has cargo relink when bpf-linker changes, which is no dependency cargo can see.

use which::which;

fn main() {
    println!("cargo:rerun-if-changed=build.rs");
    println!("cargo:rerun-if-env-changed=PATH");
    match which("bpf-linker") {
        Ok(linker) => println!("cargo:rerun-if-changed={}", linker.display()),
        Err(error) => println!("cargo:warning=bpf-linker: {error}; run `cargo xtask setup`"),
    }
}
