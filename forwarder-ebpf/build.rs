//! Rebuilds when the linker changes.

fn main() {
    // bpf-linker does the code generation, so another linker means another object.
    if let Ok(linker) = which::which("bpf-linker") {
        println!("cargo:rerun-if-changed={}", linker.display());
    }
}
