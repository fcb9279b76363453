//! NVIDIA's libraries, opened at run time.
//!
//! candle's cudarc links with them, so a library with CUDA in it would not even load where they are missing. Here every function that it calls
//! is defined: as a jump through a slot that [`open`] fills from the libraries it finds. Until then, and where there are none, the slots lead to
//! functions that report an error: one library serves machines with and without a GPU. (build.rs gives the linker empty libraries of their names.)

use std::ffi::{c_char, c_int, c_void, CStr, CString};
use std::path::PathBuf;
use std::sync::OnceLock;

#[cfg(not(all(target_os = "linux", any(target_arch = "x86_64", target_arch = "aarch64"))))]
compile_error!("the feature cuda is for Linux on x86-64 and aarch64");

/// CUDA_ERROR_NO_DEVICE, and no known status of cuBLAS.
extern "C" fn missing() -> c_int {
    100
}

/// What cuRAND answers: candle makes a generator with every device, nothing here uses one, so the library need not be there.
extern "C" fn unused() -> c_int {
    0
}

unsafe extern "C" fn no_generator(to: *mut *mut c_void, _kind: c_int) -> c_int {
    *to = std::ptr::null_mut();
    0
}

struct Library {
    /// Empty for one that is not needed.
    name: &'static str,
    functions: &'static [(&'static CStr, fn(*mut c_void))],
}

macro_rules! lazy {
    ($($library:ident $name:literal $first:ident: $($function:ident)*;)*) => {
        $(mod $library {
            $(#[allow(non_snake_case)]
            mod $function {
                use std::ffi::c_void;
                use std::sync::atomic::{AtomicPtr, Ordering};
                static SLOT: AtomicPtr<c_void> = AtomicPtr::new(super::super::$first as *mut c_void);
                pub(super) fn set(to: *mut c_void) {
                    SLOT.store(to, Ordering::Release)
                }
                // Hidden: ours alone, so that other users of CUDA in a process are not led here.
                #[cfg(target_arch = "x86_64")]
                std::arch::global_asm!(
                    concat!(".globl ", stringify!($function)), concat!(".hidden ", stringify!($function)),
                    concat!(stringify!($function), ":"), "jmp qword ptr [rip + {slot}]",
                    slot = sym SLOT,
                );
                #[cfg(target_arch = "aarch64")]
                std::arch::global_asm!(
                    concat!(".globl ", stringify!($function)), concat!(".hidden ", stringify!($function)),
                    concat!(stringify!($function), ":"), "adrp x16, {slot}", "ldr x16, [x16, :lo12:{slot}]", "br x16",
                    slot = sym SLOT,
                );
            })*
            pub(super) const FUNCTIONS: &[(&std::ffi::CStr, fn(*mut std::ffi::c_void))] = &[$((
                // SAFETY: one zero, at the end.
                unsafe { std::ffi::CStr::from_bytes_with_nul_unchecked(concat!(stringify!($function), "\0").as_bytes()) },
                $function::set,
            )),*];
        })*
        const LIBRARIES: &[Library] = &[$(Library { name: $name, functions: $library::FUNCTIONS }),*];
    };
}

lazy! {
    driver "libcuda.so.1" missing:
        cuCtxDestroy_v2 cuCtxGetCurrent cuCtxSetCurrent cuCtxSynchronize cuDeviceGet cuDeviceGetAttribute cuDeviceGetCount
        cuDeviceGetDefaultMemPool cuDeviceGetName cuDevicePrimaryCtxRelease_v2 cuDevicePrimaryCtxRetain cuDriverGetVersion cuEventCreate
        cuEventDestroy_v2 cuEventRecord cuFuncSetAttribute cuGetErrorString cuInit cuLaunchKernel cuMemAllocAsync cuMemAlloc_v2 cuMemFreeAsync
        cuMemFree_v2 cuMemGetInfo_v2 cuMemPoolSetAttribute cuMemcpyDtoDAsync_v2 cuMemcpyDtoHAsync_v2 cuMemcpyHtoDAsync_v2 cuMemcpyPeerAsync
        cuMemsetD8Async cuModuleGetFunction cuModuleLoad cuModuleLoadData cuModuleUnload cuStreamCreate cuStreamDestroy_v2
        cuStreamIsCapturing cuStreamSynchronize cuStreamWaitEvent;
    blas "libcublas.so.13" missing:
        cublasCreate_v2 cublasDestroy_v2 cublasSetStream_v2 cublasGemmStridedBatchedEx cublasDgemmStridedBatched;
    generator "" no_generator: curandCreateGenerator;
    random "" unused:
        curandDestroyGenerator curandGenerateUniform curandGenerateUniformDouble curandGenerateNormal curandGenerateNormalDouble
        curandSetPseudoRandomGeneratorSeed curandSetStream;
}

/// Where `name` may be: what the user names, where the system looks, where NVIDIA's installer and Windows' Linux put it.
fn open_library(name: &str) -> Result<*mut c_void, String> {
    let mut tries: Vec<PathBuf> = vec![];
    if let Some(paths) = std::env::var_os("NADA_CUDA_LIBS") {
        tries.extend(std::env::split_paths(&paths).map(|p| p.join(name)));
    }
    tries.push(name.into());
    tries.extend(["/usr/local/cuda/lib64", "/usr/lib/wsl/lib"].map(|p| PathBuf::from(p).join(name)));
    let mut why = String::new();
    for path in &tries {
        let Ok(c_path) = CString::new(path.as_os_str().as_encoded_bytes()) else { continue };
        // SAFETY: a C string; what a library does when it is opened is its maker's affair.
        unsafe {
            let handle = libc::dlopen(c_path.as_ptr(), libc::RTLD_NOW | libc::RTLD_LOCAL);
            if !handle.is_null() {
                return Ok(handle);
            }
            let error: *const c_char = libc::dlerror();
            if why.is_empty() && !error.is_null() {
                why = CStr::from_ptr(error).to_string_lossy().into_owned();
            }
        }
    }
    Err(why)
}

/// Opens the libraries, once. The error names the one that is missing, or too old.
pub(super) fn open() -> Result<(), String> {
    static DONE: OnceLock<Result<(), String>> = OnceLock::new();
    let open = || {
        for library in LIBRARIES.iter().filter(|l| !l.name.is_empty()) {
            let handle = open_library(library.name)?;
            for (name, set) in library.functions {
                // SAFETY: an open handle and a C string.
                let at = unsafe { libc::dlsym(handle, name.as_ptr()) };
                if at.is_null() {
                    return Err(format!("{} has no {}: it is too old", library.name, name.to_string_lossy()));
                }
                set(at);
            }
        }
        Ok(())
    };
    DONE.get_or_init(open).clone()
}
