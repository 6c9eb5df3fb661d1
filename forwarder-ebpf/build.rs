//! Has cargo relink when bpf-linker changes, which is no dependency cargo can see, and tells it how.

use which::which;

fn main() {
    println!("cargo:rerun-if-changed=build.rs");
    println!("cargo:rerun-if-env-changed=PATH");
    // Otherwise LLVM calls memset and memmove, loops over single bytes, for what is a few stores of words.
    println!("cargo:rustc-link-arg=--disable-expand-memcpy-in-order");
    match which("bpf-linker") {
        Ok(linker) => println!("cargo:rerun-if-changed={}", linker.display()),
        Err(error) => println!("cargo:warning=bpf-linker: {error}; run `cargo xtask setup`"),
    }
}
