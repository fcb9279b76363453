//! What the user sees: bars, warnings, results as text or as one JSON object; and Ctrl-C.

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use nada::error::printable;
use nada::progress::{Cancel, Flow, Progress};
use nada::{Error, Result};
use serde_json::{json, Value};
use std::io::Write;
use std::time::{Duration, Instant};

/// Interrupts that come so soon after the first are the same request.
const SAME_REQUEST: Duration = Duration::from_millis(500);

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

    /// The first Ctrl-C (or SIGTERM) asks the work to stop after its step and keep what it has; another one ends the program, as does the
    /// first where the work does not look for the request. What was being written then goes.
    pub fn watch_interrupts(&self, work_can_be_cancelled: bool) -> Result<()> {
        let cancel = self.cancel.clone();
        let mut first: Option<Instant> = None;
        ctrlc::set_handler(move || match first {
            None if work_can_be_cancelled => {
                first = Some(Instant::now());
                cancel.cancel();
            }
            // Programs such as timeout(1) send one request twice: to the process, and to its group.
            Some(at) if at.elapsed() < SAME_REQUEST => {}
            _ => {
                nada::checkpoint::remove_unfinished();
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
            eprintln!("warning: {}", printable(&message));
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
