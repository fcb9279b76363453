//! What comes in from C: strings, arrays, flags, sizes.

use super::status::{nada_status, Failure, Result};
use std::ffi::{c_char, c_void, CStr, CString};
use std::path::{Path, PathBuf};

/// # Safety
/// `pointer` is NULL or a NUL-terminated string that lives for `'a`.
pub(super) unsafe fn text<'a>(pointer: *const c_char, argument: &str) -> Result<&'a str> {
    if pointer.is_null() {
        return Err(Failure::argument(argument, "is NULL, must be a UTF-8 string"));
    }
    let bytes = CStr::from_ptr(pointer).to_bytes();
    std::str::from_utf8(bytes).map_err(|e| Failure::argument(argument, format_args!("is not UTF-8 (at byte {})", e.valid_up_to())))
}

/// # Safety
/// As [`text`].
pub(super) unsafe fn path(pointer: *const c_char, argument: &str) -> Result<PathBuf> {
    let path = path_of_bytes(pointer, argument)?;
    match path.as_os_str().is_empty() {
        true => Err(Failure::argument(argument, "is empty, must be a path")),
        false => Ok(path),
    }
}

/// Names of files may be any bytes there.
#[cfg(unix)]
unsafe fn path_of_bytes(pointer: *const c_char, argument: &str) -> Result<PathBuf> {
    if pointer.is_null() {
        return Err(Failure::argument(argument, "is NULL, must be a path"));
    }
    let bytes = CStr::from_ptr(pointer).to_bytes();
    Ok(PathBuf::from(<std::ffi::OsStr as std::os::unix::ffi::OsStrExt>::from_bytes(bytes)))
}

#[cfg(not(unix))]
unsafe fn path_of_bytes(pointer: *const c_char, argument: &str) -> Result<PathBuf> {
    Ok(PathBuf::from(text(pointer, argument)?))
}

/// A copy of the bytes of a file that the caller has in memory, and what messages call it: `name`, or `otherwise` for NULL.
/// # Safety
/// As [`array`] and [`text`].
pub(super) unsafe fn bytes(data: *const c_void, size: usize, name: *const c_char, otherwise: &str) -> Result<(Vec<u8>, PathBuf)> {
    let name = if name.is_null() { PathBuf::from(otherwise) } else { path(name, "name")? };
    let given = array(data.cast::<u8>(), size, "data")?;
    let mut bytes = Vec::new();
    if bytes.try_reserve_exact(size).is_err() {
        return Err(Failure::new(nada_status::NADA_OUT_OF_MEMORY, format!("{}: no room for a copy of {size} bytes", name.display())));
    }
    bytes.extend_from_slice(given);
    Ok((bytes, name))
}

/// An array of `count` values; NULL is right for none.
/// # Safety
/// `pointer` is NULL or readable for `count` values during `'a`.
pub(super) unsafe fn array<'a, T>(pointer: *const T, count: usize, argument: &str) -> Result<&'a [T]> {
    if count == 0 {
        return Ok(&[]);
    }
    if pointer.is_null() {
        return Err(Failure::argument(argument, format_args!("is NULL, must hold {count} values")));
    }
    if !pointer.is_aligned() || count > isize::MAX as usize / size_of::<T>().max(1) {
        return Err(Failure::argument(argument, format_args!("cannot hold {count} values (misaligned pointer or absurd count)")));
    }
    Ok(std::slice::from_raw_parts(pointer, count))
}

/// # Safety
/// As [`array`], and each element as [`text`].
pub(super) unsafe fn texts(pointer: *const *const c_char, count: usize, argument: &str) -> Result<Vec<String>> {
    array(pointer, count, argument)?.iter().enumerate().map(|(i, t)| Ok(text(*t, &format!("{argument}[{i}]"))?.to_string())).collect()
}

/// The value that the number of an enumerator stands for. Enumerators come in as numbers, since C may pass any.
pub(super) fn choose<T: Copy>(number: i32, argument: &str, enumeration: &str, table: &[(i32, T)]) -> Result<T> {
    match table.iter().find(|(n, _)| *n == number) {
        Some((_, value)) => Ok(*value),
        None => Err(Failure::argument(argument, format_args!("{number} is no {enumeration}"))),
    }
}

/// The number of the enumerator that stands for `value`.
pub(super) fn number_of<T: Copy + PartialEq>(value: T, table: &[(i32, T)]) -> Result<i32> {
    match table.iter().find(|(_, v)| *v == value) {
        Some((number, _)) => Ok(*number),
        None => Err(Failure::new(nada_status::NADA_INTERNAL, "a value without a number in this ABI")),
    }
}

pub(super) fn flag(value: u32, argument: &str) -> Result<bool> {
    match value {
        0 => Ok(false),
        1 => Ok(true),
        _ => Err(Failure::argument(argument, format_args!("{value} must be 0 or 1"))),
    }
}

pub(super) fn finite(value: f32, argument: &str) -> Result<f32> {
    if value.is_finite() {
        Ok(value)
    } else {
        Err(Failure::argument(argument, format_args!("{value} must be a finite number")))
    }
}

pub(super) fn within(value: f32, low: f32, high: f32, argument: &str) -> Result<f32> {
    if (low..=high).contains(&value) {
        Ok(value)
    } else {
        Err(Failure::argument(argument, format_args!("{value} must be in [{low}, {high}]")))
    }
}

/// A number of things as C's 32 bits; the library's own counts are far below.
pub(super) fn count32(value: usize) -> u32 {
    u32::try_from(value).unwrap_or(u32::MAX)
}

/// For C, which ends strings at a NUL.
pub(super) fn c_string(text: &str) -> CString {
    without_nul(text.as_bytes())
}

/// A path as the system has it, so that it can be passed in again.
pub(super) fn c_path(path: &Path) -> CString {
    without_nul(path.as_os_str().as_encoded_bytes())
}

fn without_nul(bytes: &[u8]) -> CString {
    CString::new(bytes.iter().copied().filter(|b| *b != 0).collect::<Vec<u8>>()).unwrap_or_default()
}

/// Writes `text` for a caller who gave room for `size` bytes: ended by a NUL, cut at a character where it does not fit. *needed, where it
/// is not NULL, gets the bytes that the whole takes.
/// # Safety
/// `buffer` is NULL or writable for `size` bytes; `needed` is NULL or writable.
pub(super) unsafe fn give_text(text: &CStr, buffer: *mut c_char, size: usize, needed: *mut usize, argument: &str) -> Result<()> {
    if size > 0 && buffer.is_null() {
        return Err(Failure::argument(argument, format_args!("is NULL, must have room for the {size} bytes that were said")));
    }
    let bytes = text.to_bytes();
    if size > 0 {
        let mut fits = bytes.len().min(size - 1);
        while fits < bytes.len() && bytes[fits] & 0xc0 == 0x80 {
            fits -= 1;
        }
        std::ptr::copy_nonoverlapping(bytes.as_ptr(), buffer.cast::<u8>(), fits);
        *buffer.add(fits) = 0;
    }
    if !needed.is_null() {
        *needed = bytes.len() + 1;
    }
    Ok(())
}

/// Asks the allocator for what a call is about to need, so that a request beyond the machine's memory is a status: Rust aborts the
/// process when an allocation fails in the middle of the work. `elements` are f32.
pub(super) fn room_for(elements: Option<usize>, what: &str) -> Result<()> {
    let mut probe = Vec::<f32>::new();
    match elements {
        Some(n) if probe.try_reserve_exact(n).is_ok() => {
            // Keeps the optimiser from leaving the allocation out.
            std::hint::black_box(&probe);
            Ok(())
        }
        Some(n) => Err(Failure::new(nada_status::NADA_OUT_OF_MEMORY, format!("{what}: no room for {n} numbers"))),
        None => Err(Failure::new(nada_status::NADA_OUT_OF_MEMORY, format!("{what}: more numbers than a machine can address"))),
    }
}

/// The product of sizes, None on overflow.
pub(super) fn product(sizes: &[usize]) -> Option<usize> {
    sizes.iter().try_fold(1usize, |a, b| a.checked_mul(*b))
}
