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

pub struct Ui {
    json: bool,
    quiet: bool,
    warnings: Vec<String>,
    pub cancel: Cancel,
}

impl Ui {
    pub fn new(json: bool, quiet: bool) -> Self {
        Self { json, quiet, warnings: Vec::new(), cancel: Cancel::new() }
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
                nada::output::remove_unfinished();
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
    pub fn finish(&self, text: &str, mut value: Value) -> Result<()> {
        let mut out = std::io::stdout().lock();
        let done = if self.json {
            if let Value::Object(map) = &mut value {
                map.insert("warnings".into(), json!(self.warnings));
            }
            writeln!(out, "{value}")
        } else if self.quiet || text.is_empty() {
            Ok(())
        } else {
            writeln!(out, "{}", printable(text.trim_end()))
        };
        match done.and_then(|()| out.flush()) {
            // The reader of a pipe may leave early.
            Err(e) if e.kind() != std::io::ErrorKind::BrokenPipe => Err(Error::io("standard output", e)),
            _ => Ok(()),
        }
    }

    /// Like [`Ui::finish`], also where --quiet wants no summary: what was asked for is the text itself.
    pub fn answer(&self, text: &str, value: Value) -> Result<()> {
        Self { quiet: false, warnings: self.warnings.clone(), cancel: self.cancel.clone(), json: self.json }.finish(text, value)
    }

    pub fn error(&self, e: &Error) {
        // Nothing is left to do where nobody can be told.
        let _ = if self.json {
            let error = json!({"kind": format!("{:?}", e.kind()), "message": e.to_string()});
            writeln!(std::io::stdout(), "{}", json!({"error": error, "warnings": self.warnings}))
        } else {
            writeln!(std::io::stderr(), "error: {e}")
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
