//! The model packs that are found.

use super::context::nada_context;
use super::error::{guard, value};
use super::handle::{borrow, handle, into_raw, out, release, Handle};
use super::model::folders;
use super::status::nada_status;
use super::values::{c_path, c_string};
use crate::pack::{leads_nowhere, search_warnings, ModelPack};
use std::collections::BTreeSet;
use std::ffi::{c_char, CString};

/// The model packs that were found at one moment, nearest first. Never changes once made.
pub struct nada_model_list(());

pub(super) struct List {
    found: Vec<Found>,
    warning: CString,
}

struct Found {
    name: CString,
    folder: CString,
    description: CString,
}

impl Handle for nada_model_list {
    type Value = List;
    const NAME: &'static str = "nada_model_list";
}

/// Lists the model packs in the context's folders and in those that the library knows itself, in the order of the search; packs that
/// cannot be read are left out, and so is a pack with the name of an earlier one.
/// Threads: any. Owner: the caller frees *list with nada_model_list_free(); it may outlive the context.
/// Fails: NADA_INVALID_ARGUMENT.
#[no_mangle]
pub unsafe extern "C" fn nada_model_list_new(context: *const nada_context, list: *mut *mut nada_model_list) -> nada_status {
    guard(|| {
        out!(list);
        let mut names = BTreeSet::new();
        let context = handle!(context);
        let packs = ModelPack::list_in(&folders(context)).into_iter().flatten();
        let first: Vec<ModelPack> = packs.filter(|pack| names.insert(pack.name.clone())).collect();
        let found = first.iter().map(|pack| Found {
            name: c_string(&pack.name),
            folder: c_path(&pack.folder),
            description: c_string(&pack.description),
        });
        let own = context.folders.iter().filter_map(|folder| {
            let what = leads_nowhere(folder)?;
            Some(format!("nada_context_options.model_folders names {}, which {what}", folder.display()))
        });
        let warnings: Vec<String> = own.chain(search_warnings()).chain(first.iter().flat_map(|pack| pack.warnings.clone())).collect();
        *list = into_raw(List { found: found.collect(), warning: c_string(&warnings.join("\n")) });
        Ok(())
    })
}

/// Number of packs; 0 for NULL. Threads: any.
#[no_mangle]
pub unsafe extern "C" fn nada_model_list_count(list: *const nada_model_list) -> usize {
    value(0, || borrow(list, "list").map_or(0, |l| l.found.len()))
}

unsafe fn string(list: *const nada_model_list, index: usize, field: impl FnOnce(&Found) -> &CString) -> *const c_char {
    value(c"".as_ptr(), || borrow(list, "list").ok().and_then(|l| l.found.get(index)).map_or(c"".as_ptr(), |found| field(found).as_ptr()))
}

/// The name of pack `index`, from 0; "" for an index out of range and for NULL.
/// Threads: any. Owner: the list; valid until it is freed.
#[no_mangle]
pub unsafe extern "C" fn nada_model_list_name(list: *const nada_model_list, index: usize) -> *const c_char {
    string(list, index, |f| &f.name)
}

/// The folder of pack `index`, which nada_model_open() takes; "" for an index out of range and for NULL.
/// Threads: any. Owner: the list; valid until it is freed.
#[no_mangle]
pub unsafe extern "C" fn nada_model_list_folder(list: *const nada_model_list, index: usize) -> *const c_char {
    string(list, index, |f| &f.folder)
}

/// What pack `index` is, in words; "" for an index out of range, for NULL, and where the pack does not say.
/// Threads: any. Owner: the list; valid until it is freed.
#[no_mangle]
pub unsafe extern "C" fn nada_model_list_description(list: *const nada_model_list, index: usize) -> *const c_char {
    string(list, index, |f| &f.description)
}

/// What to tell the user about folders that NADA_MODELS or the context's options name and that lead nowhere, and about keys of a model.toml
/// that this version does not know, one sentence a line; "" where all is well, and for NULL.
/// Threads: any. Owner: the list; valid until it is freed.
#[no_mangle]
pub unsafe extern "C" fn nada_model_list_warning(list: *const nada_model_list) -> *const c_char {
    value(c"".as_ptr(), || borrow(list, "list").map_or(c"".as_ptr(), |l| l.warning.as_ptr()))
}

/// Frees a list; NULL is allowed. Threads: any, once no other thread uses it.
#[no_mangle]
pub unsafe extern "C" fn nada_model_list_free(list: *mut nada_model_list) {
    release(list)
}
