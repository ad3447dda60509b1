//! Running the scenarios of `crates/hub/examples/instructions.rs` under callgrind.

use std::ffi::OsStr;
use std::io;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Calls of a function that are counted; the result is for one.
const CALLS: u64 = 2_000;

/// The scenario that runs on a shard's thread, the function that tells that thread, and the two
/// numbers of calls whose difference is counted.
const TURN: &str = "shard_event_to_1000_subscribers";
const TURN_FUNCTION: &str = "gush_hub::shard::Shard::run";
const TURN_CALLS: [u64; 2] = [50, 250];

/// What counts depend on besides our code: compiler, valgrind, C library, and the instructions of
/// the processor for which the libraries choose their code.
pub(super) fn environment() -> io::Result<String> {
    let first_line = |text: String| text.lines().next().unwrap_or("").trim().to_owned();
    let rustc = first_line(output("rustc", ["--version"])?);
    let valgrind = output("valgrind", ["--version"])
        .map(first_line)
        .map_err(|error| {
            io::Error::other(format!(
                "{error}; `.ci/setup.sh measure` installs what is missing"
            ))
        })?;
    let libc = first_line(output("getconf", ["GNU_LIBC_VERSION"])?);
    let processor = std::fs::read_to_string("/proc/cpuinfo")?;
    let flags = processor.lines().find(|line| line.starts_with("flags"));
    let flags: Vec<&str> = flags.unwrap_or("").split_whitespace().collect();
    let used = ["avx2", "bmi2", "movbe", "pclmulqdq", "sse4_2"];
    let used: Vec<&str> = used
        .into_iter()
        .filter(|flag| flags.contains(flag))
        .collect();
    let processor = std::env::consts::ARCH;
    Ok([&rustc, &valgrind, &libc, processor, &used.join(" ")].join(", "))
}

/// The instructions of one call of each scenario, in the order of the program.
pub(super) fn all(root: &Path) -> io::Result<Vec<(String, u64)>> {
    let program = build(root)?;
    let folder = std::env::temp_dir().join(format!("gush-instructions-{}", std::process::id()));
    std::fs::create_dir_all(&folder)?;
    let counts = scenarios(&program)?
        .into_iter()
        .map(|name| {
            let count = if name == TURN {
                turn(&program, &folder)?
            } else {
                function(&program, &folder, &name)?
            };
            Ok((name, count))
        })
        .collect();
    std::fs::remove_dir_all(&folder)?;
    counts
}

fn build(root: &Path) -> io::Result<PathBuf> {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let target = std::env::var_os("CARGO_TARGET_DIR")
        .map_or_else(|| root.join("target"), |folder| root.join(folder));
    let arguments = "build --release --locked --quiet -p gush-hub --example instructions";
    let mut command = Command::new(cargo);
    command.args(arguments.split(' ')).current_dir(root);
    finished("cargo build", command.status()?.success())?;
    Ok(target.join("release/examples/instructions"))
}

fn scenarios(program: &Path) -> io::Result<Vec<String>> {
    let names = output(program, [] as [&str; 0])?;
    Ok(names.lines().map(str::to_owned).collect())
}

/// Counts what the program marks on its main thread.
fn function(program: &Path, folder: &Path, name: &str) -> io::Result<u64> {
    let file = folder.join(name);
    let toggle = ["--toggle-collect=instructions::measured"];
    callgrind(program, &file, &toggle, name, CALLS)?;
    Ok(total(&std::fs::read_to_string(&file)?)? / CALLS)
}

/// Counts a shard's thread: what it takes for more events, everything else being the same.
fn turn(program: &Path, folder: &Path) -> io::Result<u64> {
    let mut totals = [0; 2];
    for (total, calls) in totals.iter_mut().zip(TURN_CALLS) {
        let file = folder.join(format!("{TURN}-{calls}"));
        let threads = ["--separate-threads=yes", "--fair-sched=yes"];
        callgrind(program, &file, &threads, TURN, calls)?;
        *total = total_of_thread(folder, &file)?;
    }
    Ok(totals[1].saturating_sub(totals[0]) / (TURN_CALLS[1] - TURN_CALLS[0]))
}

/// The total of the one thread that runs a shard; each thread has a file of its own.
fn total_of_thread(folder: &Path, file: &Path) -> io::Result<u64> {
    let start = file.file_name().unwrap_or_default().to_string_lossy();
    for entry in std::fs::read_dir(folder)? {
        let path = entry?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        if name.starts_with(&format!("{start}-")) {
            let text = std::fs::read_to_string(&path)?;
            if text.contains(TURN_FUNCTION) {
                return total(&text);
            }
        }
    }
    Err(io::Error::other(format!("no thread ran {TURN_FUNCTION}")))
}

fn callgrind(
    program: &Path,
    file: &Path,
    options: &[&str],
    name: &str,
    calls: u64,
) -> io::Result<()> {
    let mut command = Command::new("valgrind");
    command
        .args(["--tool=callgrind", "--quiet"])
        .arg(format!("--callgrind-out-file={}", file.display()))
        .args(options)
        .arg(program)
        .arg(name)
        .arg(calls.to_string());
    let output = command.output()?;
    finished(name, output.status.success()).map_err(|error| {
        let text = String::from_utf8_lossy(&output.stderr);
        io::Error::other(format!("{error}\n{text}"))
    })
}

fn total(text: &str) -> io::Result<u64> {
    text.lines()
        .find_map(|line| line.strip_prefix("totals:")?.trim().parse().ok())
        .ok_or_else(|| io::Error::other("callgrind's file has no total"))
}

fn output<const N: usize>(program: impl AsRef<OsStr>, arguments: [&str; N]) -> io::Result<String> {
    let program = program.as_ref();
    let name = program.to_string_lossy();
    let output = Command::new(program)
        .args(arguments)
        .output()
        .map_err(|error| io::Error::new(error.kind(), format!("{name}: {error}")))?;
    finished(&name, output.status.success())?;
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

fn finished(what: &str, is_ok: bool) -> io::Result<()> {
    if is_ok {
        return Ok(());
    }
    Err(io::Error::other(format!("{what} failed")))
}
