//! Boots a kernel on this machine's files and runs one command there.

use std::{
    env, fs,
    io::{self, BufRead as _, BufReader, PipeReader},
    os::unix::process::CommandExt as _,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::mpsc::{self, RecvTimeoutError},
    thread,
    time::Duration,
};

use anyhow::{Context as _, Result, bail};
use nix::{
    sys::signal::{Signal, killpg},
    unistd::Pid,
};

use super::kernel::cache;
use crate::{
    setup,
    shell::{quietly, step},
};

/// The version that the options below are for.
const VIRTME_NG: &str = "virtme-ng==1.42";

/// Lines on the console around what the command prints.
const BEGIN: &str = "--- vm: begin";
const END: &str = "--- vm: exit code ";

/// How long a guest may take to boot and to power off, emulated on a busy machine.
const BOOT: Duration = Duration::from_secs(180);

/// Console lines shown when the command did not come to its end.
const SHOWN: usize = 30;

/// QEMU and virtme-ng.
pub fn ensure() -> Result<()> {
    setup::vm_packages()?;
    if virtme().exists() {
        return Ok(());
    }
    fs::create_dir_all(cache())?;
    let venv = cache().join("venv");
    let mut create = Command::new("python3");
    create.args(["-m", "venv", "--clear"]).arg(&venv);
    quietly(&mut create).context("a Python with venv is needed (Debian: python3-venv)")?;
    let mut install = Command::new(venv.join("bin/pip"));
    install.args(["install", "--quiet", VIRTME_NG]);
    step(&format!("installing {VIRTME_NG}"), &mut install)
}

fn virtme() -> PathBuf {
    cache().join("venv/bin/vng")
}

/// Runs a shell command on a kernel, shows what it prints, and returns its exit code.
///
/// The guest sees this machine's files and cannot change them: its writes go to memory and end with it.
pub fn run(image: &Path, command: &str, timeout: u64) -> Result<u8> {
    let directory = tempfile::tempdir()?;
    let script = directory.path().join("command");
    fs::write(&script, script_for(command, timeout)?)?;
    let path = env::join_paths(
        virtme()
            .parent()
            .map(Path::to_owned)
            .into_iter()
            .chain(env::split_paths(&env::var_os("PATH").unwrap_or_default())),
    )?;
    let (console, console_writer) = io::pipe()?;
    let mut guest = Command::new(virtme())
        // The whole console, which is also where the command's output comes; quieter modes need a virtio port that
        // some of these kernels have too late.
        .args(["--verbose", "--disable-kvm", "--cpus=2", "--memory=2G"])
        .arg("--run")
        .arg(image)
        .arg("--")
        .arg(format!("sh {}", script.display()))
        .env("PATH", path)
        .stdin(Stdio::null())
        .stdout(console_writer.try_clone()?)
        .stderr(console_writer)
        // QEMU is a grandchild; only the group can be stopped as a whole.
        .process_group(0)
        .spawn()
        .context("cannot run virtme-ng")?;
    let outcome = follow(console, Duration::from_secs(timeout) + BOOT);
    stop(&mut guest)?;
    outcome
}

/// What the guest runs: the mounts and the environment that the command would find here.
fn script_for(command: &str, timeout: u64) -> Result<String> {
    let here = env::current_dir()?;
    let path = env::var("PATH").unwrap_or_default();
    let quote = |text: &str| format!("'{}'", text.replace('\'', "'\\''"));
    Ok(format!(
        "mount -t bpf bpf /sys/fs/bpf\n\
         ulimit -l unlimited\n\
         # Kernel messages would come in the middle of the command's lines.\n\
         dmesg -n 1\n\
         export PATH={}\n\
         cd {}\n\
         echo; echo '{BEGIN}'\n\
         timeout {timeout} sh -c {} 2>&1\n\
         code=$?; echo; echo \"{END}$code\"\n",
        quote(&path),
        quote(&here.to_string_lossy()),
        quote(command),
    ))
}

/// Shows the command's lines as they come, until its exit code does.
fn follow(console: PipeReader, limit: Duration) -> Result<u8> {
    let (sender, lines) = mpsc::channel();
    thread::spawn(move || {
        for line in BufReader::new(console).split(b'\n').map_while(Result::ok) {
            let line = String::from_utf8_lossy(&line);
            if sender.send(line.trim_end().to_owned()).is_err() {
                break;
            }
        }
    });
    let started = std::time::Instant::now();
    let mut kept = Vec::new();
    let mut inside = false;
    loop {
        let left = limit.saturating_sub(started.elapsed());
        match lines.recv_timeout(left) {
            Ok(line) if line == BEGIN => inside = true,
            Ok(line) => {
                if inside && let Some(code) = line.strip_prefix(END) {
                    return code.parse().context("the guest's shell gave no exit code");
                }
                if inside {
                    println!("  {line}");
                }
                kept.push(line);
            }
            Err(reason) => {
                let end = kept[kept.len().saturating_sub(SHOWN)..].join("\n");
                let what = match reason {
                    RecvTimeoutError::Timeout => "took too long",
                    RecvTimeoutError::Disconnected => "ended before the command did",
                };
                bail!("the virtual machine {what}; its console ends with:\n{end}");
            }
        }
    }
}

/// Nothing in the guest is worth waiting for its power-off.
fn stop(guest: &mut Child) -> Result<()> {
    let group = Pid::from_raw(i32::try_from(guest.id())?);
    // The group may be gone already.
    let _ = killpg(group, Signal::SIGTERM);
    guest.wait()?;
    Ok(())
}
