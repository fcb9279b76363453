//! The folder of a run's snapshots: of each step a preview, the run's state and the domain, written when it is taken.

use crate::adapt::EXTENSION;
use crate::outputs::{ForceArgs, Outputs};
use crate::ui::{name, plain};
use nada::adapt::{Adaptation, SavedState, Snapshot, Templates};
use nada::{Error, Result};
use serde_json::{json, Value};
use std::path::{Path, PathBuf};

/// How the names of states end.
const STATE: &str = ".state.safetensors";
const PREVIEW: &str = ".png";

fn base(step: usize) -> String {
    format!("step-{step:04}")
}

/// The step of a file that is called as those of a snapshot are.
fn step_of(file: &str) -> Option<usize> {
    let base = [EXTENSION, STATE, PREVIEW].into_iter().find_map(|ending| file.strip_suffix(ending))?;
    base.strip_prefix("step-")?.parse().ok()
}

/// A snapshot that a run goes on from.
pub struct Resumed {
    pub domain: PathBuf,
    pub state: SavedState,
}

/// The snapshot that one of its files names.
pub fn open(file: &Path) -> Result<Resumed> {
    let argument = |message: String| Error::argument("--resume", message);
    let step = file.file_name().and_then(|n| n.to_str()).and_then(step_of);
    let step = step.ok_or_else(|| {
        argument(format!("{} is no snapshot; want a file of a folder of --snapshots, such as {}{EXTENSION}", name(file), base(50)))
    })?;
    let state = file.with_file_name(base(step) + STATE);
    if file.exists() && !state.exists() {
        return Err(argument(format!("{} has no {} beside it, from which the run could go on", name(file), name(&state))));
    }
    Ok(Resumed { domain: file.with_file_name(base(step) + EXTENSION), state: SavedState::open(&state)? })
}

pub struct Snapshots {
    folder: PathBuf,
    templates: Templates,
    /// What the run was asked for.
    asked: String,
    /// What was written, for --json.
    pub written: Vec<Value>,
}

impl Snapshots {
    /// Snapshots of a new run in `folder`, which is made where it is missing.
    ///
    /// Errors: a folder that cannot be written to; one with snapshots of another run, without --force.
    pub fn new(folder: &Path, templates: Templates, asked: String, force: &ForceArgs, outputs: &mut Outputs) -> Result<Self> {
        outputs.folder("--snapshots", folder)?;
        if let Some((_, other)) = snapshots(folder)?.first().filter(|_| !force.force) {
            let message = format!("{} is there already; name another folder, or replace what has such a name with --force", name(other));
            return Err(Error::argument("--snapshots", message));
        }
        Ok(Self { folder: folder.to_path_buf(), templates, asked, written: vec![] })
    }

    /// Snapshots of the run that goes on, beside the one it goes on from.
    ///
    /// Errors: where later ones are of another run, which would be overwritten.
    pub fn going_on(resumed: &Resumed, templates: Templates, asked: String, outputs: &mut Outputs) -> Result<Self> {
        let folder = nada::output::folder(&resumed.domain).to_path_buf();
        outputs.folder("--resume", &folder)?;
        for (step, file) in snapshots(&folder)?.into_iter().filter(|(step, _)| *step > resumed.state.step()) {
            // The state is written first.
            let ours = SavedState::open(&folder.join(base(step) + STATE)).is_ok_and(|state| state.is_of_the_run_of(&resumed.state));
            if !ours {
                return Err(Error::argument(
                    "--resume",
                    format!("{} is of another run and would be overwritten; move it away", name(&file)),
                ));
            }
        }
        Ok(Self { folder, templates, asked, written: vec![] })
    }

    /// The state comes first, by which another run knows the files; the domain last: where it is, all is there.
    pub fn keep(&mut self, run: &Adaptation, snapshot: &Snapshot) -> Result<()> {
        let file = |ending: &str| self.folder.join(base(snapshot.step) + ending);
        let (domain, preview) = (file(EXTENSION), file(PREVIEW));
        run.save_state(&file(STATE), &self.templates, &self.asked)?;
        snapshot.preview.save(&preview)?;
        snapshot.domain.save(&domain)?;
        let judged = snapshot.judgement;
        let (gain, pairing, structure) = (judged.map(|j| j.gain), judged.map(|j| j.pairing), judged.map(|j| j.structure));
        self.written.push(json!({
            "step": snapshot.step, "loss": plain(&snapshot.loss)?, "gain": plain(&gain)?, "pairing": plain(&pairing)?,
            "structure": plain(&structure)?, "domain": name(&domain), "preview": name(&preview), "state": name(file(STATE)),
        }));
        Ok(())
    }

    /// A snapshot of the state that a run was stopped in, where none was taken. Returns the file to go on from.
    pub fn keep_last(&mut self, run: &Adaptation) -> Result<PathBuf> {
        let step = run.steps_done();
        if !self.written.iter().any(|w| w["step"] == step) {
            self.keep(run, &run.snapshot(None)?)?;
        }
        Ok(self.folder.join(base(step) + EXTENSION))
    }
}

/// The files in a folder that are called as those of snapshots are, with their steps.
fn snapshots(folder: &Path) -> Result<Vec<(usize, PathBuf)>> {
    let io = |e| Error::io(folder, e);
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).map_err(io)? {
        let entry = entry.map_err(io)?;
        found.extend(entry.file_name().to_str().and_then(step_of).map(|step| (step, entry.path())));
    }
    found.sort();
    Ok(found)
}
