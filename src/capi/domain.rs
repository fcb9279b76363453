//! Domains: what adaptations make of a generator.

use super::adaptation_options::{ParametersNumber, PARAMETERS};
use super::call::{nada_call, Call};
use super::context::nada_context;
use super::error::{guard, value};
use super::generator::nada_generator;
use super::handle::{borrow, handle, handles, into_raw, out, release, Handle};
use super::log::Opening;
use super::status::{nada_status, Failure, Result};
use super::values::{array, bytes, c_string, count32, number_of, path, text};
use crate::adapt::Domain;
use crate::checkpoint;
use crate::files::Destination;
use std::ffi::{c_char, c_void, CString};
use std::sync::Arc;

/// A domain: a change of a generator, with the words that asked for it and the fingerprint of the generator it belongs to. Never changes
/// once made.
pub struct nada_domain(());

pub(super) struct LoadedDomain {
    pub domain: Arc<Domain>,
    source: CString,
    target: CString,
    fingerprint: CString,
    origin: CString,
    clips: Vec<CString>,
}

impl LoadedDomain {
    pub fn new(domain: Arc<Domain>) -> Self {
        let d = &domain.description;
        Self {
            source: c_string(&d.source),
            target: c_string(&d.target),
            fingerprint: c_string(&d.fingerprint),
            origin: c_string(d.origin.name()),
            clips: d.clips.iter().map(|c| c_string(c)).collect(),
            domain,
        }
    }
}

/// For the log.
pub(super) fn extent(domain: &Domain) -> String {
    let numbers: usize = domain.deltas.values().map(|delta| delta.elem_count()).sum();
    format!("to {:?}, {numbers} numbers in {} tensors", domain.description.target, domain.deltas.len())
}

impl Handle for nada_domain {
    type Value = LoadedDomain;
    const NAME: &'static str = "nada_domain";
}

/// `count` domains with their strengths; without `strengths` each is 1. The range of strengths is checked where they are used.
/// # Safety
/// The pointers are NULL or arrays of `count` values.
pub(super) unsafe fn with_strengths<'a>(
    domains: *const *const nada_domain,
    strengths: *const f32,
    count: usize,
) -> Result<Vec<(&'a Domain, f32)>> {
    let domains: Vec<&'a LoadedDomain> = handles(domains, count, "domains")?;
    let strengths = if strengths.is_null() { vec![1.0; count] } else { array(strengths, count, "strengths")?.to_vec() };
    Ok(domains.into_iter().map(|d| d.domain.as_ref()).zip(strengths).collect())
}

/// Opens a domain file (safetensors), of this version, an earlier one, or a later one that requires nothing new. `file` is UTF-8; `call`
/// may be NULL.
/// Threads: any. Owner: the caller frees *domain with nada_domain_free(); it may outlive the context.
/// Fails: NADA_INVALID_ARGUMENT, NADA_NOT_FOUND, NADA_IO, NADA_BAD_FORMAT, NADA_UNSUPPORTED (it needs a later
/// version, which the message names), NADA_CANCELLED.
#[no_mangle]
pub unsafe extern "C" fn nada_domain_open(
    context: *const nada_context,
    file: *const c_char,
    call: *const nada_call,
    domain: *mut *mut nada_domain,
) -> nada_status {
    guard(|| {
        out!(domain);
        let (context, path) = (handle!(context), path(file, "file")?);
        let (Call { cancel, .. }, opening) = (Call::read(call)?, Opening::begin());
        let opened = context.runtime.run(|| Domain::open_unless(&path, &cancel))?;
        opening.end("domain", path.display(), extent(&opened));
        *domain = into_raw(LoadedDomain::new(Arc::new(opened)));
        Ok(())
    })
}

/// As nada_domain_open(), of the `size` bytes of a file that the program has in memory; `name` is what messages call them, NULL for "domain".
/// Threads: any. Owner: `data` and `name` are borrowed for the call, `data` is copied; the caller frees *domain with nada_domain_free().
/// Fails: as nada_domain_open(), and NADA_OUT_OF_MEMORY.
#[no_mangle]
pub unsafe extern "C" fn nada_domain_open_memory(
    context: *const nada_context,
    data: *const c_void,
    size: usize,
    name: *const c_char,
    call: *const nada_call,
    domain: *mut *mut nada_domain,
) -> nada_status {
    guard(|| {
        out!(domain);
        let context = handle!(context);
        let (bytes, name) = bytes(data, size, name, "domain")?;
        let (Call { cancel, .. }, opening) = (Call::read(call)?, Opening::begin());
        let opened = context.runtime.run(|| Domain::from_checkpoint(&checkpoint::open_bytes_unless(&name, bytes, &cancel)?))?;
        opening.end("domain", format_args!("{} in memory", name.display()), extent(&opened));
        *domain = into_raw(LoadedDomain::new(Arc::new(opened)));
        Ok(())
    })
}

/// What leads from `base` to `adapted`, two generators of one shape such as one and somebody else's fine-tuning of it, as a domain of
/// `base`: the difference of the tensors that are not the same. `source` and `target` say in words what they draw; NULL or "" where nobody
/// knows. `call` may be NULL.
/// Threads: any. Owner: the caller frees *domain with nada_domain_free().
/// Fails: NADA_INVALID_ARGUMENT, NADA_MISMATCH (other shapes, or no difference), NADA_CANCELLED.
#[no_mangle]
pub unsafe extern "C" fn nada_domain_between(
    base: *const nada_generator,
    adapted: *const nada_generator,
    source: *const c_char,
    target: *const c_char,
    call: *const nada_call,
    domain: *mut *mut nada_domain,
) -> nada_status {
    guard(|| {
        out!(domain);
        let (base, adapted) = (handle!(base), handle!(adapted));
        let words = |words: *const c_char, name: &str| if words.is_null() { Ok("") } else { text(words, name) };
        let (source, target) = (words(source, "source")?, words(target, "target")?);
        let Call { cancel, .. } = Call::read(call)?;
        let made = base.runtime.run(|| Domain::between_unless(&base.generator, &adapted.generator, source, target, &cancel))?;
        *domain = into_raw(LoadedDomain::new(Arc::new(made)));
        Ok(())
    })
}

/// Whether the domain belongs to `generator`, and may be drawn with it: *fits becomes 1 or 0. A domain of an earlier version may belong to
/// it though their fingerprints, as texts, differ. The generator's fingerprint is found where it is not yet; `call` may be NULL.
/// Threads: any. Fails: NADA_INVALID_ARGUMENT, NADA_CANCELLED.
#[no_mangle]
pub unsafe extern "C" fn nada_domain_fits(
    domain: *const nada_domain,
    generator: *const nada_generator,
    call: *const nada_call,
    fits: *mut u32,
) -> nada_status {
    guard(|| {
        out!(fits);
        *fits = u32::from(handle!(generator).fits(&handle!(domain).domain.description, &Call::read(call)?.cancel)?);
        Ok(())
    })
}

/// The same change as a domain of `generator`, which it was not made from: of a relative of its own generator, such as one rounded to f16
/// or fine-tuned. Nobody has looked at what it draws there. `call` may be NULL.
/// Threads: any. Owner: the caller frees *moved with nada_domain_free().
/// Fails: NADA_INVALID_ARGUMENT, NADA_MISMATCH (the generator does not have the tensors that are changed, in their shapes), NADA_CANCELLED.
#[no_mangle]
pub unsafe extern "C" fn nada_domain_for_generator(
    domain: *const nada_domain,
    generator: *const nada_generator,
    call: *const nada_call,
    moved: *mut *mut nada_domain,
) -> nada_status {
    guard(|| {
        out!(moved);
        let (domain, g, Call { cancel, .. }) = (handle!(domain), handle!(generator), Call::read(call)?);
        let made = g.runtime.run(|| {
            cancel.check()?;
            domain.domain.for_generator_unless(&g.generator, &cancel)
        })?;
        *moved = into_raw(LoadedDomain::new(Arc::new(made)));
        Ok(())
    })
}

/// The domain with 16-bit numbers, which take half the room in memory and in a file and keep 11 bits of each. `call` may be NULL.
/// Threads: any. Owner: the caller frees *half with nada_domain_free(). Fails: NADA_INVALID_ARGUMENT, NADA_UNSUPPORTED (too large a number),
/// NADA_CANCELLED.
#[no_mangle]
pub unsafe extern "C" fn nada_domain_to_half(
    domain: *const nada_domain,
    call: *const nada_call,
    half: *mut *mut nada_domain,
) -> nada_status {
    guard(|| {
        out!(half);
        let (domain, Call { cancel, .. }) = (handle!(domain), Call::read(call)?);
        *half = into_raw(LoadedDomain::new(Arc::new(domain.domain.to_half_unless(&cancel)?)));
        Ok(())
    })
}

/// Writes a domain file (safetensors) under a temporary name and renames it: a failure, also a cancelled call, leaves what was there. `file` is
/// UTF-8; `call` may be NULL. What was in the file that the domain was opened from and this version does not know is written again.
/// Threads: any. Fails: NADA_INVALID_ARGUMENT, NADA_IO, NADA_NOT_FOUND (its folder), NADA_CANCELLED.
#[no_mangle]
pub unsafe extern "C" fn nada_domain_save(domain: *const nada_domain, file: *const c_char, call: *const nada_call) -> nada_status {
    guard(|| {
        let (domain, path, Call { cancel, .. }) = (handle!(domain), path(file, "file")?, Call::read(call)?);
        Ok(domain.domain.save(Destination::from(&path).unless(&cancel))?)
    })
}

unsafe fn string(domain: *const nada_domain, field: impl FnOnce(&LoadedDomain) -> &CString) -> *const c_char {
    value(c"".as_ptr(), || borrow(domain, "domain").map_or(c"".as_ptr(), |d| field(d).as_ptr()))
}

/// What it leads away from, in words; "" for NULL. Threads: any. Owner: the domain; valid until it is freed.
#[no_mangle]
pub unsafe extern "C" fn nada_domain_source(domain: *const nada_domain) -> *const c_char {
    string(domain, |d| &d.source)
}

/// What it leads to, in words; "" for NULL. Threads: any. Owner: the domain; valid until it is freed.
#[no_mangle]
pub unsafe extern "C" fn nada_domain_target(domain: *const nada_domain) -> *const c_char {
    string(domain, |d| &d.target)
}

/// nada_generator_fingerprint() of the generator it belongs to; "" for NULL. Threads: any. Owner: the domain; valid until it is freed.
#[no_mangle]
pub unsafe extern "C" fn nada_domain_fingerprint(domain: *const nada_domain) -> *const c_char {
    string(domain, |d| &d.fingerprint)
}

/// How it came about: "adapted", "mixed", "imported" (two generators), "edit", or what a later version calls it; "" for NULL.
/// Threads: any. Owner: the domain; valid until it is freed.
#[no_mangle]
pub unsafe extern "C" fn nada_domain_origin(domain: *const nada_domain) -> *const c_char {
    string(domain, |d| &d.origin)
}

/// Number of CLIPs it was made with; 0 for NULL. Threads: any.
#[no_mangle]
pub unsafe extern "C" fn nada_domain_clip_count(domain: *const nada_domain) -> usize {
    value(0, || borrow(domain, "domain").map_or(0, |d| d.clips.len()))
}

/// The name of the CLIP `index` it was made with.
/// Threads: any. Owner: the domain; *name is valid until it is freed. Fails: NADA_INVALID_ARGUMENT.
#[no_mangle]
pub unsafe extern "C" fn nada_domain_clip_name(domain: *const nada_domain, index: usize, name: *mut *const c_char) -> nada_status {
    guard(|| {
        out!(name);
        let clips = &handle!(domain).clips;
        let clip = clips
            .get(index)
            .ok_or_else(|| Failure::argument("index", format_args!("{index}, but the domain has {} CLIPs", clips.len())))?;
        *name = clip.as_ptr();
        Ok(())
    })
}

/// Steps it was trained for; 0 for NULL. Threads: any.
#[no_mangle]
pub unsafe extern "C" fn nada_domain_step(domain: *const nada_domain) -> u32 {
    value(0, || borrow(domain, "domain").map_or(0, |d| count32(d.domain.description.step)))
}

/// What it changes, a nada_parameters. Threads: any. Fails: NADA_INVALID_ARGUMENT.
#[no_mangle]
pub unsafe extern "C" fn nada_domain_parameters(domain: *const nada_domain, parameters: *mut ParametersNumber) -> nada_status {
    guard(|| {
        out!(parameters);
        *parameters = number_of(handle!(domain).domain.description.parameters, &PARAMETERS)?;
        Ok(())
    })
}

/// Frees a domain; NULL is allowed. Threads: any, once no other thread uses it.
#[no_mangle]
pub unsafe extern "C" fn nada_domain_free(domain: *mut nada_domain) {
    release(domain)
}
