//! The folder of a run's snapshots: of each step a preview, the run's state and the domain, written when it is taken.

use crate::outputs::{ForceArgs, Outputs};
use crate::ui::{name, plain};
use nada::adapt::{Adaptation, Domain, SavedState, Snapshot, Templates};
use nada::files::Destination;
use nada::{Error, Result};
use serde_json::{json, Value};
use std::ffi::OsStr;
use std::fs::{File, TryLockError};
use std::path::{Path, PathBuf};

/// How the names of states end.
const STATE: &str = ".state.safetensors";
const PREVIEW: &str = ".png";

fn base(step: usize) -> String {
    format!("step-{step:04}")
}

/// The step of a file that is called as those of a snapshot are.
fn step_of(file: &str) -> Option<usize> {
    let name = [Domain::ENDING, STATE, PREVIEW].into_iter().find_map(|ending| file.strip_suffix(ending))?;
    let step = name.strip_prefix("step-")?.parse().ok()?;
    (base(step) == name).then_some(step)
}

/// A snapshot that a run goes on from.
pub struct Resumed {
    pub domain: PathBuf,
    pub state: SavedState,
    state_file: PathBuf,
}

impl Resumed {
    /// What going on from it reads.
    pub fn files(&self) -> [&Path; 2] {
        [&self.domain, &self.state_file]
    }

    /// Whether `domain` is a file of the same run, of whatever step.
    pub fn is_earlier(&self, domain: Option<&OsStr>) -> bool {
        domain.is_some_and(|file| Domain::describe(Path::new(file)).is_ok_and(|domain| self.state.made(&domain)))
    }
}

/// The snapshot that one of its files names.
pub fn open(file: &Path) -> Result<Resumed> {
    let argument = |message: String| Error::argument("--resume", message);
    let step = file.file_name().and_then(|n| n.to_str()).and_then(step_of);
    let step = step.ok_or_else(|| {
        argument(format!("{} is no snapshot; want a file of a folder of --snapshots, such as {}{}", name(file), base(50), Domain::ENDING))
    })?;
    let state = file.with_file_name(base(step) + STATE);
    if file.exists() && !state.exists() {
        return Err(argument(format!("{} has no {} beside it, from which the run could go on", name(file), name(&state))));
    }
    Ok(Resumed { domain: file.with_file_name(base(step) + Domain::ENDING), state: SavedState::open(&state)?, state_file: state })
}

pub struct Snapshots {
    folder: PathBuf,
    templates: Templates,
    /// What the run was asked for.
    asked: String,
    /// What was written, for --json.
    pub written: Vec<Value>,
    /// What has such a name already may be replaced: it was told to be, or is of this run.
    replace: bool,
    /// The folder was made for this run.
    made: bool,
    /// Held while the run lasts, so that no other writes there. Not everywhere can a folder be opened.
    _lock: Option<File>,
}

impl Snapshots {
    /// Snapshots of a new run in `folder`, which is made where it is missing.
    ///
    /// Errors: a folder that cannot be written to, or that another run writes to; one with snapshots, without --force.
    pub fn new(folder: &Path, templates: Templates, asked: String, force: &ForceArgs, outputs: &mut Outputs) -> Result<Self> {
        let made = !folder.exists();
        outputs.folder("--snapshots", folder)?;
        let new =
            Self { folder: folder.to_path_buf(), templates, asked, written: vec![], replace: force.force, made, _lock: lock(folder)? };
        if let Some((_, other)) = snapshots(folder)?.first().filter(|_| !force.force) {
            let message = format!("{} is there already; name another folder, or replace what has such a name with --force", name(other));
            return Err(Error::argument("--snapshots", message));
        }
        Ok(new)
    }

    /// Snapshots of the run that goes on, beside the one it goes on from.
    ///
    /// Errors: as [`Snapshots::new`], but only what is of another run and would be overwritten needs --force.
    pub fn going_on(resumed: &Resumed, templates: Templates, asked: String, force: &ForceArgs, outputs: &mut Outputs) -> Result<Self> {
        let folder = nada::files::folder(&resumed.domain).to_path_buf();
        outputs.folder("--resume", &folder)?;
        let _lock = lock(&folder)?;
        let steps = resumed.state.step() + 1..=resumed.state.settings().steps;
        for (step, file) in snapshots(&folder)?.into_iter().filter(|(step, _)| steps.contains(step) && !force.force) {
            // The state is written first.
            let ours = SavedState::open(&folder.join(base(step) + STATE)).is_ok_and(|state| state.is_of_the_run_of(&resumed.state));
            if !ours {
                let message =
                    format!("{} is of another run and would be overwritten; move it away, or replace it with --force", name(&file));
                return Err(Error::argument("--resume", message));
            }
        }
        Ok(Self { folder, templates, asked, written: vec![], replace: true, made: false, _lock })
    }

    /// Nothing else that the call reads or writes may have the name of a snapshot, but the one that it goes on from.
    pub fn keep_names(&self, resumed: Option<&Resumed>, outputs: &Outputs) -> Result<()> {
        let own = resumed.map_or(vec![], |resumed| resumed.files().to_vec());
        outputs.keep_names("--snapshots", &self.folder, &own, |file| step_of(file).is_some())
    }

    /// The state comes first, by which another run knows the files; the domain last: where it is, all is there.
    pub fn keep(&mut self, run: &Adaptation, snapshot: &Snapshot) -> Result<()> {
        let file = |ending: &str| self.folder.join(base(snapshot.step) + ending);
        let (domain, preview, state) = (file(Domain::ENDING), file(PREVIEW), file(STATE));
        let to = |path| if self.replace { Destination::from(path) } else { Destination::free(path) };
        run.save_state(to(&state), &self.templates, &self.asked)?;
        snapshot.preview.save(to(&preview))?;
        snapshot.domain.save(to(&domain))?;
        let judged = snapshot.judgement;
        let (gain, pairing, structure) = (judged.map(|j| j.gain), judged.map(|j| j.pairing), judged.map(|j| j.structure));
        self.written.push(json!({
            "step": snapshot.step, "loss": plain(&snapshot.loss)?, "gain": plain(&gain)?, "pairing": plain(&pairing)?,
            "structure": plain(&structure)?, "domain": name(&domain), "preview": name(&preview), "state": name(&state),
        }));
        Ok(())
    }

    /// A snapshot of the state that a run was stopped in, where none was taken. Returns the file to go on from.
    pub fn keep_last(&mut self, run: &Adaptation) -> Result<PathBuf> {
        let step = run.steps_done();
        if !self.written.iter().any(|w| w["step"] == step) {
            self.keep(run, &run.snapshot(None)?)?;
        }
        Ok(self.folder.join(base(step) + Domain::ENDING))
    }
}

impl Drop for Snapshots {
    fn drop(&mut self) {
        if self.made && self.written.is_empty() {
            // A folder for nothing; one that holds something stays.
            let _ = std::fs::remove_dir(&self.folder);
        }
    }
}

/// The lock of a folder that a run writes its snapshots to; None where there are none.
fn lock(folder: &Path) -> Result<Option<File>> {
    let Ok(file) = File::open(folder) else { return Ok(None) };
    match file.try_lock() {
        Ok(()) => Ok(Some(file)),
        Err(TryLockError::WouldBlock) => {
            let message = format!("another run writes its snapshots into {}; name another folder", name(folder));
            Err(Error::argument("--snapshots", message))
        }
        Err(TryLockError::Error(_)) => Ok(None),
    }
}

/// The files in a folder that are called as those of snapshots are, with their steps.
///
/// Errors: `Io`; a link with such a name, through which another file would be replaced.
fn snapshots(folder: &Path) -> Result<Vec<(usize, PathBuf)>> {
    let io = |e| Error::io(folder, e);
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).map_err(io)? {
        let entry = entry.map_err(io)?;
        let Some(step) = entry.file_name().to_str().and_then(step_of) else { continue };
        if entry.file_type().map_err(io)?.is_symlink() {
            return Err(Error::argument("--snapshots", format!("{} is a link; name another folder", name(entry.path()))));
        }
        found.push((step, entry.path()));
    }
    found.sort();
    Ok(found)
}
