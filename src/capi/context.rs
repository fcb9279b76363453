//! Contexts: where and with how many threads the library computes, and where it looks for model packs.

use super::error::{guard, value};
use super::handle::{into_raw, out, release, Handle};
use super::options::{self, Options};
use super::runtime::Runtime;
use super::status::{nada_status, Failure, Result};
use super::values::{array, count32, path, text};
use crate::device;
use std::ffi::c_char;
use std::path::PathBuf;
use std::sync::Arc;

/// Where the library computes. Generators, CLIPs and model packs are opened through one and work on its device and threads.
pub struct nada_context(());

pub(super) struct Context {
    pub runtime: Arc<Runtime>,
    /// Searched for model packs before the folders that the library knows itself.
    pub folders: Vec<PathBuf>,
}

impl Handle for nada_context {
    type Value = Context;
    const NAME: &'static str = "nada_context";
}

/// Options of nada_context_new().
#[repr(C)]
pub struct nada_context_options {
    /// sizeof(nada_context_options) where the program was compiled.
    pub struct_size: usize,
    /// Where to compute: "cpu"; "cuda" or "cuda:N", the first or the Nth NVIDIA GPU from 0, in a library that was built for it; "auto", a GPU
    /// where one can be used. What cannot be used is the CPU instead, with a line in the log. NULL (the default) is what the environment
    /// variable NADA_DEVICE says, or "auto".
    pub device: *const c_char,
    /// Folders that hold model packs, searched in order before those the library knows itself (NADA_MODELS, the installed and the built-in
    /// ones). Borrowed for the call. Default: none.
    pub model_folders: *const *const c_char,
    pub model_folder_count: usize,
    /// Threads that one call uses. 0 (the default) is one for each processor.
    pub threads: u32,
    /// Always 0.
    pub reserved: u32,
    /// Bytes of memory that one call may need beside what is loaded, by an estimate that is made before work begins: a call that needs more
    /// fails with NADA_OUT_OF_MEMORY and says both numbers and what would fit. 0 (the default) for none of the program's own. What the machine
    /// has left counts beside it: what the environment variable NADA_MEMORY_LIMIT says (bytes, or a number such as 512M or 6G), else its free
    /// memory without swap, its control group and the process's own limits of address space and data, all on Linux; elsewhere nothing.
    pub memory_limit: u64,
}

options::ends_with!(nada_context_options, memory_limit: u64);

unsafe impl Options for nada_context_options {
    const NAME: &'static str = "nada_context_options";
    const FIRST_SIZE: usize = std::mem::offset_of!(Self, memory_limit);
    fn defaults(struct_size: usize) -> Self {
        Self {
            struct_size,
            device: std::ptr::null(),
            model_folders: std::ptr::null(),
            model_folder_count: 0,
            threads: 0,
            reserved: 0,
            memory_limit: 0,
        }
    }
}

/// More than any machine that this library runs on has; a larger number is a mistake.
const MOST_THREADS: usize = 1024;

/// Threads for a call where nobody said how many.
fn processors() -> usize {
    std::thread::available_parallelism().map_or(1, |n| n.get()).min(MOST_THREADS)
}

unsafe fn read(options: *const nada_context_options) -> Result<Context> {
    let options = options::read(options)?;
    let choice = match options.device.is_null() {
        true => device::preferred().map_err(|e| Failure::new(nada_status::NADA_UNSUPPORTED, e.to_string()))?,
        false => device::named(text(options.device, "options.device")?)
            .map_err(|e| Failure::new(nada_status::NADA_UNSUPPORTED, format!("options.{e}")))?,
    };
    let folders = array(options.model_folders, options.model_folder_count, "options.model_folders")?;
    let folders = folders.iter().enumerate().map(|(i, f)| path(*f, &format!("options.model_folders[{i}]"))).collect::<Result<_>>()?;
    let threads = match options.threads as usize {
        0 => processors(),
        n if n <= MOST_THREADS => n,
        n => return Err(Failure::argument("options.threads", format_args!("{n} must be at most {MOST_THREADS}"))),
    };
    Ok(Context { runtime: Runtime::new(threads, options.memory_limit, choice.device)?, folders })
}

/// Fills `options` with the defaults; struct_size is sizeof(nada_context_options).
/// Threads: any. Fails: NADA_INVALID_ARGUMENT.
#[no_mangle]
pub unsafe extern "C" fn nada_context_options_init(options: *mut nada_context_options, struct_size: usize) -> nada_status {
    guard(|| options::write(options, struct_size, &nada_context_options::defaults(struct_size)))
}

/// Makes a context and starts its threads. `options` may be NULL for the defaults. In a process that has a single thread so far it sets the
/// environment variable CANDLE_NUM_THREADS to 1, unless it is set: a second thread pool below would take turns with the library's.
/// Threads: any. Owner: the caller frees *context with nada_context_free(); what was opened through it keeps what it needs.
/// Fails: NADA_INVALID_ARGUMENT, NADA_UNSUPPORTED (device), NADA_OUT_OF_MEMORY (threads).
#[no_mangle]
pub unsafe extern "C" fn nada_context_new(options: *const nada_context_options, context: *mut *mut nada_context) -> nada_status {
    guard(|| {
        out!(context);
        crate::threads::prepare();
        *context = into_raw(read(options)?);
        Ok(())
    })
}

/// Threads that one call uses; 0 for NULL. Threads: any.
#[no_mangle]
pub unsafe extern "C" fn nada_context_threads(context: *const nada_context) -> u32 {
    value(0, || super::handle::borrow(context, "context").map_or(0, |c| count32(c.runtime.threads())))
}

/// Frees a context; NULL is allowed. Its threads end with the last handle that was opened through it.
/// Threads: any, once no other thread uses it.
#[no_mangle]
pub unsafe extern "C" fn nada_context_free(context: *mut nada_context) {
    release(context)
}
