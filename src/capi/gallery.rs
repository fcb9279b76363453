//! Galleries: folders of installed domains.

use super::call::{nada_call, Call};
use super::context::nada_context;
use super::domain::{extent, nada_domain, LoadedDomain};
use super::error::{guard, value};
use super::generator::nada_generator;
use super::handle::{borrow, handle, into_raw, out, release, Handle};
use super::image::nada_image;
use super::log::Opening;
use super::runtime::Runtime;
use super::status::{nada_status, Failure, Result};
use super::values::{c_path, c_string, give_text, path, text};
use crate::adapt::Domain;
use crate::gallery::{Gallery, Installed};
use std::ffi::{c_char, CString};
use std::sync::Arc;

/// What a folder of installed domains held when it was opened. Never changes: open the folder again to see what is new.
pub struct nada_gallery(());

pub(super) struct OpenGallery {
    runtime: Arc<Runtime>,
    gallery: Gallery,
    folder: CString,
    entries: Vec<Entry>,
}

struct Entry {
    name: CString,
    file: CString,
    source: CString,
    target: CString,
    fingerprint: CString,
}

impl Handle for nada_gallery {
    type Value = OpenGallery;
    const NAME: &'static str = "nada_gallery";
}

/// Opens a folder of domains, whose files end in ".nada.safetensors". `folder` is UTF-8; NULL is the user's: $NADA_DOMAINS, else
/// $XDG_DATA_HOME/nada/domains (by default ~/.local/share/nada/domains). A folder that is not there is an empty gallery. Files that
/// cannot be read as domains are skipped and counted; files that are being written are not seen. `call` may be NULL.
/// Threads: any. Owner: the caller frees *gallery with nada_gallery_free(); it may outlive the context.
/// Fails: NADA_INVALID_ARGUMENT, NADA_NOT_FOUND (a user without a home), NADA_IO, NADA_CANCELLED.
#[no_mangle]
pub unsafe extern "C" fn nada_gallery_open(
    context: *const nada_context,
    folder: *const c_char,
    call: *const nada_call,
    gallery: *mut *mut nada_gallery,
) -> nada_status {
    guard(|| {
        out!(gallery);
        let runtime = handle!(context).runtime.clone();
        let folder = if folder.is_null() { Gallery::default_folder()? } else { path(folder, "folder")? };
        let Call { cancel, .. } = Call::read(call)?;
        cancel.check()?;
        let opening = Opening::begin();
        let opened = Gallery::open_unless(&folder, &cancel)?;
        opening.end("gallery", folder.display(), format_args!("{} domains, {} files that are none", opened.domains.len(), opened.skipped));
        let entry = |d: &Installed| Entry {
            name: c_string(&d.name),
            file: c_path(&d.file),
            source: c_string(&d.description.source),
            target: c_string(&d.description.target),
            fingerprint: c_string(&d.description.fingerprint),
        };
        let entries = opened.domains.iter().map(entry).collect();
        *gallery = into_raw(OpenGallery { runtime, folder: c_path(&folder), entries, gallery: opened });
        Ok(())
    })
}

/// The folder; "" for NULL. Threads: any. Owner: the gallery; valid until it is freed.
#[no_mangle]
pub unsafe extern "C" fn nada_gallery_folder(gallery: *const nada_gallery) -> *const c_char {
    value(c"".as_ptr(), || borrow(gallery, "gallery").map_or(c"".as_ptr(), |g| g.folder.as_ptr()))
}

/// Number of domains; 0 for NULL. Threads: any.
#[no_mangle]
pub unsafe extern "C" fn nada_gallery_count(gallery: *const nada_gallery) -> usize {
    value(0, || borrow(gallery, "gallery").map_or(0, |g| g.entries.len()))
}

/// Number of files that end as domains do and could not be read as such; 0 for NULL. Threads: any.
#[no_mangle]
pub unsafe extern "C" fn nada_gallery_skipped(gallery: *const nada_gallery) -> usize {
    value(0, || borrow(gallery, "gallery").map_or(0, |g| g.gallery.skipped))
}

unsafe fn string(gallery: *const nada_gallery, index: usize, field: impl FnOnce(&Entry) -> &CString) -> *const c_char {
    let entry = || borrow(gallery, "gallery").ok().and_then(|g| g.entries.get(index));
    value(c"".as_ptr(), || entry().map_or(c"".as_ptr(), |e| field(e).as_ptr()))
}

/// The name of domain `index`, its file's without ending; they are sorted by it. "" for an index out of range and for NULL.
/// Threads: any. Owner: the gallery; valid until it is freed.
#[no_mangle]
pub unsafe extern "C" fn nada_gallery_name(gallery: *const nada_gallery, index: usize) -> *const c_char {
    string(gallery, index, |e| &e.name)
}

/// The path of domain `index`; "" for an index out of range and for NULL.
/// Threads: any. Owner: the gallery; valid until it is freed.
#[no_mangle]
pub unsafe extern "C" fn nada_gallery_file(gallery: *const nada_gallery, index: usize) -> *const c_char {
    string(gallery, index, |e| &e.file)
}

/// What domain `index` leads away from, in words; "" for an index out of range and for NULL.
/// Threads: any. Owner: the gallery; valid until it is freed.
#[no_mangle]
pub unsafe extern "C" fn nada_gallery_source(gallery: *const nada_gallery, index: usize) -> *const c_char {
    string(gallery, index, |e| &e.source)
}

/// What domain `index` leads to, in words; "" for an index out of range and for NULL.
/// Threads: any. Owner: the gallery; valid until it is freed.
#[no_mangle]
pub unsafe extern "C" fn nada_gallery_target(gallery: *const nada_gallery, index: usize) -> *const c_char {
    string(gallery, index, |e| &e.target)
}

/// nada_generator_fingerprint() of the generator that domain `index` belongs to; "" for an index out of range and for NULL.
/// Threads: any. Owner: the gallery; valid until it is freed.
#[no_mangle]
pub unsafe extern "C" fn nada_gallery_fingerprint(gallery: *const nada_gallery, index: usize) -> *const c_char {
    string(gallery, index, |e| &e.fingerprint)
}

/// As nada_domain_fits(), of domain `index`, without reading its numbers. `call` may be NULL.
/// Threads: any. Fails: NADA_INVALID_ARGUMENT, NADA_CANCELLED.
#[no_mangle]
pub unsafe extern "C" fn nada_gallery_fits(
    gallery: *const nada_gallery,
    index: usize,
    generator: *const nada_generator,
    call: *const nada_call,
    fits: *mut u32,
) -> nada_status {
    guard(|| {
        out!(fits);
        let (gallery, generator) = (handle!(gallery), handle!(generator));
        *fits = u32::from(generator.fits(&gallery.installed(index)?.description, &Call::read(call)?.cancel)?);
        Ok(())
    })
}

impl OpenGallery {
    fn installed(&self, index: usize) -> Result<&Installed> {
        let all = &self.gallery.domains;
        all.get(index).ok_or_else(|| Failure::argument("index", format_args!("{index}, but there are {} domains", all.len())))
    }
}

/// The thumbnail of domain `index`, read from its file, at most 256 pixels a side; *image stays NULL where it has none.
/// Threads: any. Owner: the caller frees *image with nada_image_free().
/// Fails: NADA_INVALID_ARGUMENT, NADA_NOT_FOUND (deleted since), NADA_IO, NADA_BAD_FORMAT.
#[no_mangle]
pub unsafe extern "C" fn nada_gallery_thumbnail(gallery: *const nada_gallery, index: usize, image: *mut *mut nada_image) -> nada_status {
    guard(|| {
        out!(image);
        if let Some(picture) = Domain::thumbnail(&handle!(gallery).installed(index)?.file)? {
            *image = into_raw(picture.into());
        }
        Ok(())
    })
}

/// Opens domain `index`; `call` may be NULL.
/// Threads: any. Owner: the caller frees *domain with nada_domain_free(); it may outlive the gallery.
/// Fails: NADA_INVALID_ARGUMENT, NADA_NOT_FOUND (deleted since), NADA_IO, NADA_BAD_FORMAT, NADA_CANCELLED.
#[no_mangle]
pub unsafe extern "C" fn nada_gallery_domain(
    gallery: *const nada_gallery,
    index: usize,
    call: *const nada_call,
    domain: *mut *mut nada_domain,
) -> nada_status {
    guard(|| {
        out!(domain);
        let gallery = handle!(gallery);
        let file = &gallery.installed(index)?.file;
        let (Call { cancel, .. }, opening) = (Call::read(call)?, Opening::begin());
        let opened = gallery.runtime.run(|| Domain::open_unless(file, &cancel))?;
        opening.end("domain", file.display(), extent(&opened));
        *domain = into_raw(LoadedDomain::new(Arc::new(opened)));
        Ok(())
    })
}

/// Writes a domain into the gallery's folder, which is made where it is missing: under a temporary name first, then renamed, so that a
/// half file is never seen. `name` is a file name without ending; NULL makes one from the target's words. A name that is taken gets -2,
/// -3 and so on: nothing is overwritten. `thumbnail` may be NULL; it is kept inside the domain's file, shrunk to 256 pixels a side and
/// over white. Temporary files that killed processes left are removed. A cancelled call leaves no file; `call` may be NULL.
/// `file` gets the path; it has room for `size` bytes and *needed gets the bytes that the whole takes, as for nada_model_check_text().
/// The gallery does not change: open the folder again to see the domain.
/// Threads: any, also of several processes. Fails: NADA_INVALID_ARGUMENT (also a name that is no file name), NADA_IO, NADA_NOT_FOUND,
/// NADA_CANCELLED.
#[no_mangle]
pub unsafe extern "C" fn nada_gallery_install(
    gallery: *const nada_gallery,
    domain: *const nada_domain,
    name: *const c_char,
    thumbnail: *const nada_image,
    call: *const nada_call,
    file: *mut c_char,
    size: usize,
    needed: *mut usize,
) -> nada_status {
    guard(|| {
        let (gallery, domain) = (handle!(gallery), handle!(domain));
        let name = if name.is_null() { None } else { Some(text(name, "name")?) };
        let thumbnail = if thumbnail.is_null() { None } else { Some(&**borrow(thumbnail, "thumbnail")?) };
        if size > 0 {
            // Before the file is there, not after.
            super::handle::not_null!(file);
        }
        let Call { cancel, .. } = Call::read(call)?;
        let path = gallery.gallery.install_unless(&domain.domain, name, thumbnail, &cancel)?;
        give_text(&c_path(&path), file, size, needed, "file")
    })
}

/// Frees a gallery; NULL is allowed. Threads: any, once no other thread uses it.
#[no_mangle]
pub unsafe extern "C" fn nada_gallery_free(gallery: *mut nada_gallery) {
    release(gallery)
}
