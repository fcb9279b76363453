//! Evaluation: figures of a domain.

use super::call::{nada_call, Call};
use super::domain::{nada_domain, with_strengths};
use super::error::{guard, value};
use super::handle::{borrow, handle, into_raw, out, release, Handle};
use super::image::nada_image;
use super::model::nada_model;
use super::options::{self, Options};
use super::status::{nada_status, Failure};
use super::values::{c_string, count32, text};
use crate::eval::{self, ClipFigures, Report};
use crate::picture::Picture;
use std::ffi::{c_char, CString};

/// What domains reach on a pack's held-out latents. Never changes once made.
pub struct nada_evaluation(());

pub(super) struct Evaluated {
    report: Report,
    sheet: Picture,
    truth: CString,
    clips: Vec<CString>,
}

impl Handle for nada_evaluation {
    type Value = Evaluated;
    const NAME: &'static str = "nada_evaluation";
}

/// Figures of an evaluation that no CLIP judges.
#[repr(C)]
pub struct nada_measures {
    /// As passed to nada_evaluation_measures().
    pub struct_size: usize,
    /// Pictures that were drawn.
    pub pictures: u32,
    /// 1 where the pack has a ground truth of the target, which gives `distance`; else 0, and `distance` is 0.
    pub has_truth: u32,
    /// Mean |adapted - truth| over mean |unadapted - truth|; 0 is perfect.
    pub distance: f32,
    /// Share of adapted pictures that are still most like their own unadapted one.
    pub pairing: f32,
}

options::ends_with!(nada_measures, pairing: f32);

unsafe impl Options for nada_measures {
    const NAME: &'static str = "nada_measures";
    const FIRST_SIZE: usize = size_of::<Self>();
    fn defaults(struct_size: usize) -> Self {
        Self { struct_size, pictures: 0, has_truth: 0, distance: 0.0, pairing: 0.0 }
    }
}

/// Figures of an evaluation by one CLIP.
#[repr(C)]
pub struct nada_clip_measures {
    /// As passed to nada_evaluation_clip_measures().
    pub struct_size: usize,
    /// Mean cosine of the adapted pictures to the target text.
    pub quality: f32,
    /// The same of the unadapted ones.
    pub quality_before: f32,
    /// Mean of 1 - cosine over all pairs of adapted pictures.
    pub diversity: f32,
    /// The same of the unadapted ones.
    pub diversity_before: f32,
}

options::ends_with!(nada_clip_measures, diversity_before: f32);

unsafe impl Options for nada_clip_measures {
    const NAME: &'static str = "nada_clip_measures";
    const FIRST_SIZE: usize = size_of::<Self>();
    fn defaults(struct_size: usize) -> Self {
        Self { struct_size, quality: 0.0, quality_before: 0.0, diversity: 0.0, diversity_before: 0.0 }
    }
}

/// Measures domains, all of the pack's generator, on the pack's held-out latents with its CLIPs, which are read where they are not yet. `target`
/// is the text that quality is measured to, NULL for the last domain's; `truth` names a ground truth of the pack, NULL for the one that its
/// words tie to the target, where there is one. `strengths` may be NULL for 1 each, and `call` may be NULL.
/// Threads: any. Owner: all is borrowed for the call; the caller frees *evaluation with nada_evaluation_free().
/// Fails: NADA_INVALID_ARGUMENT (also a truth that the pack does not have), NADA_UNSUPPORTED (a pack without held-out latents), NADA_MISMATCH (a
/// domain of another generator), NADA_CANCELLED, NADA_OUT_OF_MEMORY, and what reading the pack's files fails with.
#[no_mangle]
pub unsafe extern "C" fn nada_model_evaluate(
    model: *const nada_model,
    domains: *const *const nada_domain,
    strengths: *const f32,
    domain_count: usize,
    target: *const c_char,
    truth: *const c_char,
    call: *const nada_call,
    evaluation: *mut *mut nada_evaluation,
) -> nada_status {
    guard(|| {
        out!(evaluation);
        let model = handle!(model);
        let domains = with_strengths(domains, strengths, domain_count)?;
        let target = match (target.is_null(), domains.last()) {
            (false, _) => text(target, "target")?,
            (true, Some((domain, _))) => &domain.description.target,
            (true, None) => {
                return Err(Failure::argument("target", "is NULL, and there is no domain that has one; say what to measure to"))
            }
        };
        let truth = if truth.is_null() { None } else { Some(text(truth, "truth")?.to_string()) };
        let Call { cancel, .. } = Call::read(call)?;
        let (generator, clips) = (model.generator(&cancel)?, model.clips(&cancel)?);
        model.runtime().admit(eval::need(model.pack(), &generator, &domains)?)?;
        let done = model.runtime().run(|| {
            let pack = model.pack();
            let truth = truth.map_or_else(|| eval::known_truth(pack, target), |name| Ok(Some(name)))?;
            eval::domains(pack, &generator, &clips, &domains, target, &model.templates(), truth.as_deref(), &cancel)
        })?;
        *evaluation = into_raw(Evaluated {
            truth: c_string(done.report.truth.as_deref().unwrap_or_default()),
            clips: done.report.clips.iter().map(|c| c_string(&c.clip)).collect(),
            report: done.report,
            sheet: done.sheet,
        });
        Ok(())
    })
}

/// The figures that no CLIP judges; struct_size is sizeof(nada_measures).
/// Threads: any. Fails: NADA_INVALID_ARGUMENT.
#[no_mangle]
pub unsafe extern "C" fn nada_evaluation_measures(
    evaluation: *const nada_evaluation,
    measures: *mut nada_measures,
    struct_size: usize,
) -> nada_status {
    guard(|| {
        let report = &handle!(evaluation).report;
        let known = nada_measures {
            struct_size,
            pictures: count32(report.pictures),
            has_truth: report.distance.is_some() as u32,
            distance: report.distance.unwrap_or_default(),
            pairing: report.pairing,
        };
        options::write(measures, struct_size, &known)
    })
}

/// The name of the ground truth that `distance` is to; "" where there is none, and for NULL.
/// Threads: any. Owner: the evaluation; valid until it is freed.
#[no_mangle]
pub unsafe extern "C" fn nada_evaluation_truth(evaluation: *const nada_evaluation) -> *const c_char {
    value(c"".as_ptr(), || borrow(evaluation, "evaluation").map_or(c"".as_ptr(), |e| e.truth.as_ptr()))
}

/// Number of CLIPs that judged; 0 for NULL. Threads: any.
#[no_mangle]
pub unsafe extern "C" fn nada_evaluation_clip_count(evaluation: *const nada_evaluation) -> usize {
    value(0, || borrow(evaluation, "evaluation").map_or(0, |e| e.clips.len()))
}

/// The name of CLIP `index`, from 0; "" for an index out of range and for NULL.
/// Threads: any. Owner: the evaluation; valid until it is freed.
#[no_mangle]
pub unsafe extern "C" fn nada_evaluation_clip_name(evaluation: *const nada_evaluation, index: usize) -> *const c_char {
    let name = || borrow(evaluation, "evaluation").ok().and_then(|e| e.clips.get(index));
    value(c"".as_ptr(), || name().map_or(c"".as_ptr(), |name| name.as_ptr()))
}

/// What CLIP `index` finds; struct_size is sizeof(nada_clip_measures).
/// Threads: any. Fails: NADA_INVALID_ARGUMENT.
#[no_mangle]
pub unsafe extern "C" fn nada_evaluation_clip_measures(
    evaluation: *const nada_evaluation,
    index: usize,
    measures: *mut nada_clip_measures,
    struct_size: usize,
) -> nada_status {
    guard(|| {
        let all = &handle!(evaluation).report.clips;
        let found = all.get(index).ok_or_else(|| Failure::argument("index", format_args!("{index}, but {} CLIPs judged", all.len())))?;
        let ClipFigures { quality, quality_before, diversity, diversity_before, .. } = *found;
        let known = nada_clip_measures { struct_size, quality, quality_before, diversity, diversity_before };
        options::write(measures, struct_size, &known)
    })
}

/// The first pictures unadapted, below them adapted, below them (where there is one) the ground truth.
/// Threads: any. Owner: the caller frees *sheet with nada_image_free(). Fails: NADA_INVALID_ARGUMENT.
#[no_mangle]
pub unsafe extern "C" fn nada_evaluation_sheet(evaluation: *const nada_evaluation, sheet: *mut *mut nada_image) -> nada_status {
    guard(|| {
        out!(sheet);
        *sheet = into_raw(handle!(evaluation).sheet.clone().into());
        Ok(())
    })
}

/// Frees an evaluation; NULL is allowed. Threads: any, once no other thread uses it.
#[no_mangle]
pub unsafe extern "C" fn nada_evaluation_free(evaluation: *mut nada_evaluation) {
    release(evaluation)
}
