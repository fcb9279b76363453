//! Adaptation: a generator that learns words or pictures, in one call or step by step.

use super::adaptation_options::nada_adaptation_options;
use super::call::{nada_call, Call};
use super::domain::{nada_domain, LoadedDomain};
use super::error::{guard, value};
use super::generator::nada_generator;
use super::handle::{borrow, handle, handles, into_raw, out, release, Handle};
use super::image::{nada_image, LoadedImage};
use super::options::{self, Options};
use super::runtime::Runtime;
use super::status::{nada_status, Failure, Result};
use super::values::{array, c_string, count32, finite, text, texts};
use crate::adapt::{Adaptation, Concept, Ended, Judgement, Outcome, Snapshot, Templates, WeightedClip};
use crate::memory::Need;
use crate::picture::Picture;
use crate::progress::Cancel;
use std::ffi::{c_char, CString};
use std::sync::{Arc, Mutex, MutexGuard, TryLockError};

/// An adaptation under way. The only handle that changes: one call at a time uses it, and a second one gets NADA_BUSY.
pub struct nada_adaptation(());

pub(super) struct Training {
    runtime: Arc<Runtime>,
    warning: CString,
    state: Mutex<State>,
}

struct State {
    adaptation: Adaptation,
    outcome: Option<Outcome>,
}

impl Handle for nada_adaptation {
    type Value = Training;
    const NAME: &'static str = "nada_adaptation";
}

impl Training {
    fn lock(&self) -> Result<MutexGuard<'_, State>> {
        self.state.try_lock().map_err(|e| match e {
            TryLockError::WouldBlock => Failure::new(nada_status::NADA_BUSY, "adaptation: another call is using it"),
            TryLockError::Poisoned(_) => {
                Failure::new(nada_status::NADA_PANIC, "adaptation: an earlier call on it panicked; it can only be freed")
            }
        })
    }
}

/// A state of an adaptation that can become a domain.
#[repr(C)]
pub struct nada_snapshot {
    /// As passed to nada_adaptation_snapshot_info().
    pub struct_size: usize,
    /// Steps done.
    pub step: u32,
    /// The loss of that step.
    pub loss: f32,
    /// 1 where the stop rule judged it, which gives the next three numbers; else 0, and they are 0.
    pub judged: u32,
    /// Gain in the mean cosine between pictures and target, on latents of the run's own.
    pub gain: f32,
    /// Share of adapted pictures whose nearest unadapted one is their own.
    pub pairing: f32,
    /// Mean cosine of small grey adapted pictures with the unadapted ones.
    pub structure: f32,
}

options::ends_with!(nada_snapshot, structure: f32);

unsafe impl Options for nada_snapshot {
    const NAME: &'static str = "nada_snapshot";
    const FIRST_SIZE: usize = size_of::<Self>();
    fn defaults(struct_size: usize) -> Self {
        Self { struct_size, step: 0, loss: 0.0, judged: 0, gain: 0.0, pairing: 0.0, structure: 0.0 }
    }
}

/// How a run ended.
#[repr(i32)]
pub enum nada_ended {
    /// It did not yet: it was cancelled, goes on by steps, or never ran.
    NADA_ENDED_NOT = 0,
    /// All steps were done.
    NADA_ENDED_STEPS = 1,
    /// The stop rule ended it.
    NADA_ENDED_RULE = 2,
}

/// A [`nada_ended`] as C gets it.
pub type EndedNumber = i32;

/// How far an adaptation is.
#[repr(C)]
pub struct nada_outcome {
    /// As passed to nada_adaptation_outcome().
    pub struct_size: usize,
    pub ended: EndedNumber,
    /// Steps done.
    pub steps: u32,
    /// The step that nada_adaptation_result() is of.
    pub chosen: u32,
    /// Always 0.
    pub reserved: u32,
}

options::ends_with!(nada_outcome, reserved: u32);

unsafe impl Options for nada_outcome {
    const NAME: &'static str = "nada_outcome";
    const FIRST_SIZE: usize = size_of::<Self>();
    fn defaults(struct_size: usize) -> Self {
        Self { struct_size, ended: nada_ended::NADA_ENDED_NOT as i32, steps: 0, chosen: 0, reserved: 0 }
    }
}

/// # Safety
/// The pointers are NULL or as [`nada_adaptation_options`] asks.
unsafe fn concept(words: *const c_char, images: *const *const nada_image, count: usize, name: &str) -> Result<Concept> {
    let pictures: Vec<&LoadedImage> = handles(images, count, &format!("options.{name}_images"))?;
    if !pictures.is_empty() {
        return Ok(Concept::Pictures(pictures.into_iter().map(|p| Picture::clone(p)).collect()));
    }
    let argument = format!("options.{name}_text");
    if words.is_null() {
        return Err(Failure::argument(&argument, format_args!("is NULL, and options.{name}_images has no image; set one of them")));
    }
    match text(words, &argument)? {
        words if crate::nn::clip::tidy(words).is_empty() => Err(Failure::argument(&argument, "is empty, must say something")),
        words => Ok(Concept::Text(words.to_string())),
    }
}

/// # Safety
/// The pointers are NULL or as [`nada_adaptation_options`] asks.
unsafe fn begin(generator: *const nada_generator, options: *const nada_adaptation_options, cancel: &Cancel) -> Result<Training> {
    let g = borrow(generator, "generator")?;
    if options.is_null() {
        return Err(Failure::argument("options", "is NULL, must at least say the target"));
    }
    let o = options::read(options)?;
    let settings = o.settings()?;
    if !o.target_text.is_null() && o.target_image_count > 0 {
        return Err(Failure::argument("options.target_images", "and options.target_text are both set; set one of them"));
    }
    let source = concept(o.source_text, o.source_images, o.source_image_count, "source")?;
    let target = concept(o.target_text, o.target_images, o.target_image_count, "target")?;
    let model = if o.model.is_null() { None } else { Some(borrow(o.model, "options.model")?) };
    let clips: Vec<WeightedClip> = match (handles(o.clips, o.clip_count, "options.clips")?, model) {
        (given, _) if !given.is_empty() => {
            let weights = match o.clip_weights.is_null() {
                true => vec![1.0 / given.len() as f32; given.len()],
                false => array(o.clip_weights, given.len(), "options.clip_weights")?.to_vec(),
            };
            for (i, weight) in weights.iter().enumerate() {
                let name = format!("options.clip_weights[{i}]");
                if finite(*weight, &name)? < 0.0 {
                    return Err(Failure::argument(&name, format_args!("{weight} must be 0 or more")));
                }
            }
            given.into_iter().zip(weights).map(|(c, weight)| WeightedClip { clip: c.clip.clone(), weight }).collect()
        }
        (_, Some(model)) => model.clips(cancel)?,
        (_, None) => return Err(Failure::argument("options.clips", "has none, and there is no options.model that brings some")),
    };
    let templates = match (texts(o.templates, o.template_count, "options.templates")?, model) {
        (given, _) if !given.is_empty() => {
            if let Some((i, t)) = given.iter().enumerate().find(|(_, t)| t.matches("{}").count() != 1) {
                return Err(Failure::argument(&format!("options.templates[{i}]"), format_args!("{t:?} must have one {{}}")));
            }
            Templates(given)
        }
        (_, Some(model)) => model.templates(),
        (_, None) => Templates::default(),
    };
    let mut warnings: Vec<String> = Vec::new();
    for concept in [&source, &target] {
        if let Concept::Text(words) = concept {
            warnings.extend(model.map(|model| model.unknown(words)).filter(|w| !w.is_empty()));
            warnings.extend(crate::nn::clip::warnings(words, clips.iter().map(|c| c.clip.reader())));
        }
    }
    warnings.extend(clips.iter().flat_map(|c| c.clip.warnings().iter().cloned()));
    let sizes = clips.iter().map(|c| c.clip.config()).collect();
    g.runtime.admit(Need::adapting(g.generator.config(), &settings, sizes, templates.0.len(), g.runtime.threads()))?;
    let adaptation = g.runtime.run(|| {
        // It stands in the domains that are taken later, by calls that nothing ends.
        g.generator.fingerprint_unless(cancel)?;
        Adaptation::new_unless(g.generator.clone(), &clips, source, target, &templates, settings, cancel)
    })?;
    Ok(Training {
        runtime: g.runtime.clone(),
        warning: c_string(&warnings.join(". ")),
        state: Mutex::new(State { adaptation, outcome: None }),
    })
}

fn new_domain(domain: Arc<crate::adapt::Domain>) -> *mut nada_domain {
    into_raw(LoadedDomain::new(domain))
}

/// Adapts a generator in one call: trains until the steps are done or the stop rule ends it, and gives the domain that the rule chose or
/// that was reached. `call` may be NULL. A cancelled call gives no domain; use an adaptation to keep what was
/// reached.
/// Threads: any. Owner: the caller frees *domain with nada_domain_free().
/// Fails: NADA_INVALID_ARGUMENT, NADA_CANCELLED, NADA_NOT_FINITE, NADA_OUT_OF_MEMORY, and what opening the model's CLIPs fails with.
#[no_mangle]
pub unsafe extern "C" fn nada_generator_adapt(
    generator: *const nada_generator,
    options: *const nada_adaptation_options,
    call: *const nada_call,
    domain: *mut *mut nada_domain,
) -> nada_status {
    guard(|| {
        out!(domain);
        let Call { cancel, callback } = Call::read(call)?;
        let training = begin(generator, options, &cancel)?;
        let mut state = training.lock()?;
        let adaptation = &mut state.adaptation;
        let result = training.runtime.run_reporting(&callback, |report| {
            adaptation.run(&cancel, report)?;
            adaptation.result()
        })?;
        *domain = new_domain(Arc::new(result));
        Ok(())
    })
}

/// Makes an adaptation; nothing is trained yet. `call` may be NULL.
/// Threads: any. Owner: `options` and all it points to are borrowed for the call; the caller frees *adaptation with
/// nada_adaptation_free(). Generator, CLIPs and model may be freed before it.
/// Fails: NADA_INVALID_ARGUMENT (also a text too long for a CLIP), NADA_CANCELLED, NADA_OUT_OF_MEMORY, and what opening the model's CLIPs fails with.
#[no_mangle]
pub unsafe extern "C" fn nada_adaptation_new(
    generator: *const nada_generator,
    options: *const nada_adaptation_options,
    call: *const nada_call,
    adaptation: *mut *mut nada_adaptation,
) -> nada_status {
    guard(|| {
        out!(adaptation);
        *adaptation = into_raw(begin(generator, options, &Call::read(call)?.cancel)?);
        Ok(())
    })
}

/// What to tell the user, in sentences: which words of source and target options.model does not know, and which it does, what else
/// nada_model_check_text() says of them, and what nada_clip_warning() says of the CLIPs; "" where there is nothing, and for NULL.
/// Threads: any. Owner: the adaptation; valid until it is freed.
#[no_mangle]
pub unsafe extern "C" fn nada_adaptation_warning(adaptation: *const nada_adaptation) -> *const c_char {
    value(c"".as_ptr(), || borrow(adaptation, "adaptation").map_or(c"".as_ptr(), |a| a.warning.as_ptr()))
}

/// Trains one step, also beyond options.steps (where options.decay has ended the learning rate, nothing moves) and without snapshots or stop
/// rule. `call` and `loss` may be NULL.
/// Threads: any, one at a time. A failure, also a cancelled call, leaves the last complete step.
/// Fails: NADA_INVALID_ARGUMENT, NADA_BUSY, NADA_CANCELLED, NADA_NOT_FINITE.
#[no_mangle]
pub unsafe extern "C" fn nada_adaptation_step(adaptation: *mut nada_adaptation, call: *const nada_call, loss: *mut f32) -> nada_status {
    guard(|| {
        let training = handle!(adaptation);
        let Call { cancel, .. } = Call::read(call)?;
        let mut state = training.lock()?;
        let adaptation = &mut state.adaptation;
        let report = training.runtime.run(|| adaptation.step_unless(&cancel))?;
        if !loss.is_null() {
            *loss = report.loss;
        }
        Ok(())
    })
}

/// Trains until options.steps are done or the stop rule ends it, and takes snapshots. `call` may be NULL. A cancelled
/// run stays at its last complete step: its snapshots and domains can be taken, and another run goes on from there.
/// Threads: any, one at a time.
/// Fails: NADA_INVALID_ARGUMENT, NADA_BUSY, NADA_CANCELLED, NADA_NOT_FINITE, NADA_OUT_OF_MEMORY.
#[no_mangle]
pub unsafe extern "C" fn nada_adaptation_run(adaptation: *mut nada_adaptation, call: *const nada_call) -> nada_status {
    guard(|| {
        let training = handle!(adaptation);
        let Call { cancel, callback } = Call::read(call)?;
        let mut state = training.lock()?;
        let state = &mut *state;
        let adaptation = &mut state.adaptation;
        state.outcome = None;
        state.outcome = Some(training.runtime.run_reporting(&callback, |report| adaptation.run(&cancel, report))?);
        Ok(())
    })
}

/// Says how far the adaptation is; struct_size is sizeof(nada_outcome).
/// Threads: any, one at a time. Fails: NADA_INVALID_ARGUMENT, NADA_BUSY.
#[no_mangle]
pub unsafe extern "C" fn nada_adaptation_outcome(
    adaptation: *const nada_adaptation,
    outcome: *mut nada_outcome,
    struct_size: usize,
) -> nada_status {
    guard(|| {
        let state = handle!(adaptation).lock()?;
        let steps = count32(state.adaptation.steps_done());
        let known = match &state.outcome {
            // Steps may have been trained since.
            Some(o) if o.steps == state.adaptation.steps_done() => {
                let ended = match o.ended {
                    Ended::Steps => nada_ended::NADA_ENDED_STEPS,
                    Ended::Rule => nada_ended::NADA_ENDED_RULE,
                };
                nada_outcome { struct_size, ended: ended as i32, steps, chosen: count32(o.chosen), reserved: 0 }
            }
            _ => nada_outcome { steps, chosen: count32(state.adaptation.chosen_step()), ..nada_outcome::defaults(struct_size) },
        };
        options::write(outcome, struct_size, &known)
    })
}

fn snapshot(state: &State, index: usize) -> Result<&Snapshot> {
    let all = state.adaptation.snapshots();
    all.get(index).ok_or_else(|| Failure::argument("index", format_args!("{index}, but there are {} snapshots", all.len())))
}

/// Number of snapshots taken so far.
/// Threads: any, one at a time. Fails: NADA_INVALID_ARGUMENT, NADA_BUSY.
#[no_mangle]
pub unsafe extern "C" fn nada_adaptation_snapshot_count(adaptation: *const nada_adaptation, count: *mut usize) -> nada_status {
    guard(|| {
        out!(count);
        *count = handle!(adaptation).lock()?.adaptation.snapshots().len();
        Ok(())
    })
}

/// Says what is known of snapshot `index`, from 0; struct_size is sizeof(nada_snapshot).
/// Threads: any, one at a time. Fails: NADA_INVALID_ARGUMENT, NADA_BUSY.
#[no_mangle]
pub unsafe extern "C" fn nada_adaptation_snapshot_info(
    adaptation: *const nada_adaptation,
    index: usize,
    info: *mut nada_snapshot,
    struct_size: usize,
) -> nada_status {
    guard(|| {
        let state = handle!(adaptation).lock()?;
        let s = snapshot(&state, index)?;
        let (judged, j) = s.judgement.map_or((0, Judgement { gain: 0.0, pairing: 0.0, structure: 0.0 }), |j| (1, j));
        let Judgement { gain, pairing, structure } = j;
        let known = nada_snapshot { struct_size, step: count32(s.step), loss: s.loss, judged, gain, pairing, structure };
        options::write(info, struct_size, &known)
    })
}

/// Snapshot `index` as a domain.
/// Threads: any, one at a time. Owner: the caller frees *domain with nada_domain_free(). Fails: NADA_INVALID_ARGUMENT, NADA_BUSY.
#[no_mangle]
pub unsafe extern "C" fn nada_adaptation_snapshot_domain(
    adaptation: *const nada_adaptation,
    index: usize,
    domain: *mut *mut nada_domain,
) -> nada_status {
    guard(|| {
        out!(domain);
        *domain = new_domain(snapshot(&*handle!(adaptation).lock()?, index)?.domain.clone());
        Ok(())
    })
}

/// The preview of snapshot `index`: pictures before and after.
/// Threads: any, one at a time. Owner: the caller frees *preview with nada_image_free(). Fails: NADA_INVALID_ARGUMENT, NADA_BUSY.
#[no_mangle]
pub unsafe extern "C" fn nada_adaptation_snapshot_preview(
    adaptation: *const nada_adaptation,
    index: usize,
    preview: *mut *mut nada_image,
) -> nada_status {
    guard(|| {
        out!(preview);
        *preview = into_raw(snapshot(&*handle!(adaptation).lock()?, index)?.preview.clone().into());
        Ok(())
    })
}

/// An adaptation keeps the latents of as many pictures for its previews.
const MOST_PAIRS: usize = 8;

/// Draws `count` (1 to 8) pairs as they are now: pictures before adapting in the first row, after it in the second. `call` may be
/// NULL.
/// Threads: any, one at a time. Owner: the caller frees *preview with nada_image_free().
/// Fails: NADA_INVALID_ARGUMENT, NADA_BUSY, NADA_CANCELLED, NADA_NOT_FINITE, NADA_OUT_OF_MEMORY.
#[no_mangle]
pub unsafe extern "C" fn nada_adaptation_preview(
    adaptation: *const nada_adaptation,
    count: usize,
    call: *const nada_call,
    preview: *mut *mut nada_image,
) -> nada_status {
    guard(|| {
        out!(preview);
        if !(1..=MOST_PAIRS).contains(&count) {
            return Err(Failure::argument("count", format_args!("{count} must be in 1..={MOST_PAIRS}")));
        }
        let training = handle!(adaptation);
        let Call { cancel, .. } = Call::read(call)?;
        let state = training.lock()?;
        let adaptation = &state.adaptation;
        training.runtime.admit(Need::drawing_each(adaptation.config(), 2 * count, &[], 2 * 4))?;
        *preview = into_raw(training.runtime.run(|| adaptation.preview_unless(count, &cancel))?.into());
        Ok(())
    })
}

/// The state now as a domain.
/// Threads: any, one at a time. Owner: the caller frees *domain with nada_domain_free(). Fails: NADA_INVALID_ARGUMENT, NADA_BUSY.
#[no_mangle]
pub unsafe extern "C" fn nada_adaptation_domain(adaptation: *const nada_adaptation, domain: *mut *mut nada_domain) -> nada_status {
    guard(|| {
        out!(domain);
        let training = handle!(adaptation);
        let state = training.lock()?;
        let adaptation = &state.adaptation;
        *domain = new_domain(Arc::new(training.runtime.run(|| adaptation.domain())?));
        Ok(())
    })
}

/// What the stop rule chose as a domain; without one, or before it chose, the state now.
/// Threads: any, one at a time. Owner: the caller frees *domain with nada_domain_free(). Fails: NADA_INVALID_ARGUMENT, NADA_BUSY.
#[no_mangle]
pub unsafe extern "C" fn nada_adaptation_result(adaptation: *const nada_adaptation, domain: *mut *mut nada_domain) -> nada_status {
    guard(|| {
        out!(domain);
        let training = handle!(adaptation);
        let state = training.lock()?;
        let adaptation = &state.adaptation;
        *domain = new_domain(Arc::new(training.runtime.run(|| adaptation.result())?));
        Ok(())
    })
}

/// Frees an adaptation; NULL is allowed. Domains and pictures that were taken from it stay.
/// Threads: any, once no other thread uses it; not from a callback of its own run.
#[no_mangle]
pub unsafe extern "C" fn nada_adaptation_free(adaptation: *mut nada_adaptation) {
    release(adaptation)
}
