//! Structs that grow: `struct_size` first, fields only ever appended. A caller compiled against an older header passes a smaller struct
//! and gets the defaults for the rest; one compiled against a newer header passes a larger one, which is taken while its tail is zero.

use super::status::{Failure, Result};
use crate::settings::{self, Kind, Listed};
use std::mem::size_of;

/// A struct that C fills and this library reads.
/// # Safety
/// `repr(C)`, `size_t struct_size` first, valid for every bit pattern (integers, floats, raw pointers, nullable function pointers), and
/// without padding at its end, where a later field would start inside a size that callers already pass.
pub(super) unsafe trait Options: Sized {
    /// The struct's C name.
    const NAME: &'static str;
    /// The size that the first published header gave it; no smaller one can be meant. Once a field is appended, its `offset_of!`.
    const FIRST_SIZE: usize;
    /// All defaults; `struct_size` as given.
    fn defaults(struct_size: usize) -> Self;
}

/// No header will ever have a struct of this size: a larger `struct_size` was not initialised.
const ABSURD: usize = 1 << 16;

fn check_size<T: Options>(struct_size: usize) -> Result<()> {
    if struct_size < T::FIRST_SIZE || struct_size > ABSURD {
        let name = T::NAME;
        return Err(Failure::argument(
            &format!("{name}.struct_size"),
            format_args!("{struct_size} is no size of this struct; pass sizeof({name}), or let the function that fills it set it"),
        ));
    }
    Ok(())
}

/// Writes `value` to a struct that is `struct_size` bytes long where the caller was compiled: no more than that, and zeros where the
/// caller's struct is longer.
/// # Safety
/// `destination` is NULL or writable for `struct_size` bytes.
pub(super) unsafe fn write<T: Options>(destination: *mut T, struct_size: usize, value: &T) -> Result<()> {
    if destination.is_null() {
        return Err(Failure::argument(T::NAME, "is NULL"));
    }
    check_size::<T>(struct_size)?;
    let known = struct_size.min(size_of::<T>());
    std::ptr::copy_nonoverlapping((value as *const T).cast::<u8>(), destination.cast::<u8>(), known);
    std::ptr::write_bytes(destination.cast::<u8>().add(known), 0, struct_size - known);
    // The caller's own size, whatever `value` says: it is what the library reads by later.
    std::ptr::write_unaligned(destination.cast::<usize>(), struct_size);
    Ok(())
}

/// Reads what a caller passed; NULL gives the defaults.
/// # Safety
/// `source` is NULL or readable for the number of bytes that its first `size_t` says.
pub(super) unsafe fn read<T: Options>(source: *const T) -> Result<T> {
    let mut value = T::defaults(size_of::<T>());
    if source.is_null() {
        return Ok(value);
    }
    let struct_size = std::ptr::read_unaligned(source.cast::<usize>());
    check_size::<T>(struct_size)?;
    let known = struct_size.min(size_of::<T>());
    std::ptr::copy_nonoverlapping(source.cast::<u8>(), (&mut value as *mut T).cast::<u8>(), known);
    let tail = std::slice::from_raw_parts(source.cast::<u8>().add(known), struct_size - known);
    if tail.iter().any(|b| *b != 0) {
        return Err(Failure::argument(
            &format!("{}.struct_size", T::NAME),
            format_args!(
                "{struct_size} is larger than the {} bytes this library knows, and fields it does not know are set",
                size_of::<T>()
            ),
        ));
    }
    Ok(value)
}

/// As [`read`], of a struct that must be there.
/// # Safety
/// As [`read`].
pub(super) unsafe fn read_given<T: Options>(source: *const T) -> Result<T> {
    if source.is_null() {
        return Err(Failure::argument("options", "is NULL"));
    }
    read(source)
}

/// Whether the struct's field holds `value`: whole numbers have 32 bits there, but for seeds.
pub(super) fn check_held<T: Listed>(name: &str, value: &str) -> Result<()> {
    let counts = matches!(settings::find::<T>(name)?.kind, Kind::Count(..)) && name != "seed";
    match value.trim().parse::<u64>() {
        Ok(number) if counts && number > u64::from(u32::MAX) => {
            Err(Failure::argument(name, format_args!("is {number}, and the struct's field holds {} at the most", u32::MAX)))
        }
        _ => Ok(()),
    }
}

/// Fails to compile where a struct has padding behind its last field.
macro_rules! ends_with {
    ($name:ident, $last:ident: $type:ty) => {
        const _: () = assert!(std::mem::offset_of!($name, $last) + size_of::<$type>() == size_of::<$name>());
    };
}

pub(super) use ends_with;

#[cfg(test)]
mod tests {
    use super::*;

    #[repr(C)]
    #[derive(Debug, PartialEq)]
    struct growing {
        struct_size: usize,
        old: u64,
        new: u64,
    }
    unsafe impl Options for growing {
        const NAME: &'static str = "growing_options";
        const FIRST_SIZE: usize = 16;
        fn defaults(struct_size: usize) -> Self {
            Self { struct_size, old: 1, new: 2 }
        }
    }

    #[test]
    fn older_and_newer_callers_are_understood() {
        unsafe {
            // Compiled when the struct ended after `old`.
            let mut old = [9u64; 3];
            write(old.as_mut_ptr().cast::<growing>(), 16, &growing::defaults(24)).unwrap();
            assert_eq!(old, [16, 1, 9], "nothing is written behind the caller's struct");
            old[1] = 5;
            assert_eq!(read(old.as_ptr().cast::<growing>()).unwrap(), growing { struct_size: 16, old: 5, new: 2 });
            // Compiled when the struct had a field more.
            let mut newer = [9u64; 4];
            write(newer.as_mut_ptr().cast::<growing>(), 32, &growing::defaults(24)).unwrap();
            assert_eq!(newer, [32, 1, 2, 0]);
            assert_eq!(read(newer.as_ptr().cast::<growing>()).unwrap().new, 2);
            newer[3] = 1;
            assert!(read(newer.as_ptr().cast::<growing>()).unwrap_err().message.contains("larger than the 24 bytes"));
        }
    }

    #[test]
    fn sizes_that_no_header_had_are_refused() {
        unsafe {
            for size in [0u64, 8, 15, 1 << 20, u64::MAX] {
                let raw = [size, 0, 0];
                let failure = read(raw.as_ptr().cast::<growing>()).unwrap_err();
                assert!(failure.message.starts_with("growing_options.struct_size:"), "{}", failure.message);
                assert!(write([0u64; 3].as_mut_ptr().cast::<growing>(), size as usize, &growing::defaults(24)).is_err());
            }
        }
    }
}
