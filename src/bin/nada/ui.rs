//! What the user sees: bars, warnings, results as text or as one JSON object; and Ctrl-C.

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use nada::error::printable;
use nada::progress::{Cancel, Flow, Progress};
use nada::{Error, Result};
use serde_json::{json, Value};
use std::io::Write;
use std::path::Path;
use std::time::{Duration, Instant};

/// Signals that come so soon after the first are the same request: programs such as timeout(1) send one to the process and one to its group.
const SAME_REQUEST: Duration = Duration::from_millis(50);

/// Files that are named where a call ends with an error.
const MOST_NAMED: usize = 8;

pub struct Ui {
    json: bool,
    quiet: bool,
    warnings: Vec<String>,
    /// Files that are there, for a user whose call ends with an error.
    written: Vec<String>,
    /// A result went to the standard output, so that no words may.
    output_is_taken: bool,
    pub cancel: Cancel,
}

impl Ui {
    pub fn new(json: bool, quiet: bool) -> Self {
        Self { json, quiet, warnings: Vec::new(), written: Vec::new(), output_is_taken: false, cancel: Cancel::new() }
    }

    /// The first Ctrl-C (SIGTERM, SIGHUP) asks the work to stop after its step and keep what it has; another one ends the program, as does
    /// the first where the work does not look for the request. What was being written then goes.
    ///
    /// A signal that is ignored when the program starts stays ignored: nohup(1) and shells that start a job in the background mean it.
    pub fn watch_interrupts(&self, work_can_be_cancelled: bool) -> Result<()> {
        let cancel = self.cancel.clone();
        let mut first: Option<Instant> = None;
        watch_signals(move || match first {
            None if work_can_be_cancelled => {
                first = Some(Instant::now());
                cancel.cancel();
            }
            Some(at) if at.elapsed() < SAME_REQUEST => {}
            _ => {
                nada::files::remove_unfinished();
                std::process::exit(130)
            }
        })
        .map_err(|e| Error::Internal(format!("watching for Ctrl-C: {e}")))
    }

    /// At once on the standard error; with --json in the result instead.
    pub fn warn(&mut self, message: String) {
        // What is read twice says so once.
        if self.warnings.contains(&message) {
            return;
        }
        if !self.json {
            // The terminal may be gone, which is no reason to stop.
            let _ = writeln!(std::io::stderr(), "warning: {}", printable(&message));
        }
        self.warnings.push(message);
    }

    /// A result is written to `path`.
    pub fn wrote(&mut self, path: &Path, to_standard_output: bool) {
        self.written.push(name(path));
        self.output_is_taken |= to_standard_output;
    }

    /// A bar of `steps` for a long call, with rate and remaining time. Hidden where nobody looks.
    pub fn bar(&self, name: &str, steps: usize) -> ProgressBar {
        let target = if self.json || self.quiet { ProgressDrawTarget::hidden() } else { ProgressDrawTarget::stderr() };
        let bar = ProgressBar::with_draw_target(Some(steps as u64), target);
        let style = ProgressStyle::with_template("{prefix} [{bar:30}] {pos}/{len}  {per_sec}, {eta} left  {msg}");
        bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()).progress_chars("=> "));
        bar.set_prefix(name.to_string());
        bar
    }

    /// Ends a command: `text` for people, `value` (an object) for scripts.
    pub fn finish(&self, text: &str, value: Value) -> Result<()> {
        self.say(if self.quiet { "" } else { text }, value)
    }

    /// Like [`Ui::finish`], also where --quiet wants no summary: what was asked for is the text itself.
    pub fn answer(&self, text: &str, value: Value) -> Result<()> {
        self.say(text, value)
    }

    fn say(&self, text: &str, mut value: Value) -> Result<()> {
        if let Value::Object(map) = &mut value {
            map.insert("warnings".into(), json!(self.warnings));
        }
        let line = match (self.json, text.trim_end()) {
            (true, _) => value.to_string(),
            (false, "") => return Ok(()),
            (false, text) => printable(text).into_owned(),
        };
        let done = match self.output_is_taken {
            true => writeln!(std::io::stderr(), "{line}"),
            false => {
                let mut out = std::io::stdout().lock();
                writeln!(out, "{line}").and_then(|()| out.flush())
            }
        };
        match done {
            // The reader of a pipe may leave early.
            Err(e) if e.kind() != std::io::ErrorKind::BrokenPipe => Err(Error::io("standard output", e)),
            _ => Ok(()),
        }
    }

    pub fn error(&self, e: &Error) {
        // Nothing is left to do where nobody can be told.
        let _ = if self.json {
            let error = json!({"kind": format!("{:?}", e.kind()), "message": e.to_string()});
            writeln!(std::io::stdout(), "{}", json!({"error": error, "written": self.written, "warnings": self.warnings}))
        } else {
            let mut written = self.written.iter().take(MOST_NAMED).cloned().collect::<Vec<_>>().join(", ");
            if self.written.len() > MOST_NAMED {
                written += &format!(" and {} more", self.written.len() - MOST_NAMED);
            }
            let written = if written.is_empty() { written } else { format!("\nwritten before that: {}", printable(&written)) };
            writeln!(std::io::stderr(), "error: {e}{written}")
        };
    }
}

/// Calls `on_signal`, on a thread of its own, for each request to stop that is not ignored.
#[cfg(unix)]
fn watch_signals(mut on_signal: impl FnMut() + Send + 'static) -> std::io::Result<()> {
    use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
    let watched: Vec<i32> = [SIGINT, SIGTERM, SIGHUP].into_iter().filter(|signal| !is_ignored(*signal)).collect();
    let mut signals = signal_hook::iterator::Signals::new(watched)?;
    std::thread::Builder::new().name("signals".into()).spawn(move || signals.forever().for_each(|_| on_signal()))?;
    Ok(())
}

#[cfg(unix)]
fn is_ignored(signal: i32) -> bool {
    // SAFETY: a null action asks for the present one, which is written to memory of its own size.
    unsafe {
        let mut now: libc::sigaction = std::mem::zeroed();
        libc::sigaction(signal, std::ptr::null(), &mut now) == 0 && now.sa_sigaction == libc::SIG_IGN
    }
}

#[cfg(not(unix))]
fn watch_signals(on_signal: impl FnMut() + Send + 'static) -> std::io::Result<()> {
    ctrlc::set_handler(on_signal).map_err(std::io::Error::other)
}

/// A path for JSON, which holds Unicode alone: what is not has U+FFFD.
pub fn name(path: impl AsRef<Path>) -> String {
    path.as_ref().display().to_string()
}

pub fn names<P: AsRef<Path>>(paths: impl IntoIterator<Item = P>) -> Vec<String> {
    paths.into_iter().map(name).collect()
}

/// A progress callback that moves `bar`; with NADA_LOG=debug each step is a line on the standard error.
pub fn on_bar(bar: &ProgressBar) -> impl FnMut(&Progress) -> Flow + '_ {
    move |p| {
        log::debug!("step {} of {}, loss {}", p.step, p.total, p.loss);
        bar.set_length(p.total as u64);
        bar.set_position(p.step as u64);
        bar.set_message(format!("loss {:.3}", p.loss));
        Flow::Continue
    }
}

/// As the JSON text reads: a 32-bit 0.3 stays 0.3.
pub fn plain(value: &impl serde::Serialize) -> Result<Value> {
    let text = serde_json::to_string(value).and_then(|text| serde_json::from_str(&text));
    text.map_err(|e| Error::Internal(e.to_string()))
}
