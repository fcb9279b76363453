//! Latents: points of a generator's latent spaces.

use super::call::{nada_call, Call};
use super::context::nada_context;
use super::error::{guard, value};
use super::handle::{borrow, handle, into_raw, out, release, Handle};
use super::log::Opening;
use super::status::{nada_status, Failure};
use super::values::{array, bytes, choose, number_of, path, product, room_for};
use crate::device::HOST;
use crate::files::Destination;
use crate::nn::generator::{Latent, Space};
use candle_core::Tensor;
use std::ffi::{c_char, c_void};

/// Points of a latent space, and the noise maps that belong to them where an inversion optimised them. Never changes once made.
pub struct nada_latent(());

impl Handle for nada_latent {
    type Value = Latent;
    const NAME: &'static str = "nada_latent";
}

/// A latent space of a generator.
#[repr(i32)]
#[derive(Clone, Copy)]
pub enum nada_space {
    /// Input noise, [count, dimension].
    NADA_SPACE_Z = 0,
    /// Its image under the mapping network, [count, dimension].
    NADA_SPACE_W = 1,
    /// One w for each synthesis layer, [count, rows, dimension].
    NADA_SPACE_W_PLUS = 2,
}

/// A [`nada_space`] as C passes it: any number.
pub type SpaceNumber = i32;

pub(super) const SPACES: [(i32, Space); 3] = [
    (nada_space::NADA_SPACE_Z as i32, Space::Z),
    (nada_space::NADA_SPACE_W as i32, Space::W),
    (nada_space::NADA_SPACE_W_PLUS as i32, Space::WPlus),
];

/// [count, rows, dimension]; Z and W have one row.
pub(super) fn shape(latent: &Latent) -> [usize; 3] {
    match *latent.tensor.dims() {
        [count, rows, dimension] => [count, rows, dimension],
        [count, dimension] => [count, 1, dimension],
        _ => [0, 0, 0],
    }
}

/// For the log.
fn extent(latent: &Latent) -> String {
    let [count, rows, dimension] = shape(latent);
    format!("{count} points of {}, {rows} rows of {dimension} numbers each", latent.space.name())
}

/// Opens latents: a safetensors file with the key z, w or w_plus, whichever `space` says, a numpy .npy file that holds them, or what other
/// tools write: encoders a .pt with one tensor, NVIDIA's projector an .npz, rosinality's a .pt with its noise maps. `file` is UTF-8;
/// `call` may be NULL.
/// Threads: any. Owner: the caller frees *latent with nada_latent_free(); it may outlive the context.
/// Fails: NADA_INVALID_ARGUMENT, NADA_NOT_FOUND, NADA_IO, NADA_BAD_FORMAT, NADA_CANCELLED.
#[no_mangle]
pub unsafe extern "C" fn nada_latent_open(
    context: *const nada_context,
    file: *const c_char,
    space: SpaceNumber,
    call: *const nada_call,
    latent: *mut *mut nada_latent,
) -> nada_status {
    guard(|| {
        out!(latent);
        handle!(context);
        let (Call { cancel, .. }, opening) = (Call::read(call)?, Opening::begin());
        let path = path(file, "file")?;
        let opened = Latent::read(&path, Some(choose(space, "space", "nada_space", &SPACES)?), &cancel)?;
        opening.end("latents", path.display(), extent(&opened));
        *latent = into_raw(opened);
        Ok(())
    })
}

/// As nada_latent_open(), of the `size` bytes of a file that the program has in memory; `name` is what messages call them, NULL for "latent".
/// Threads: any. Owner: `data` and `name` are borrowed for the call; the caller frees *latent with nada_latent_free().
/// Fails: as nada_latent_open(), and NADA_OUT_OF_MEMORY.
#[no_mangle]
pub unsafe extern "C" fn nada_latent_open_memory(
    context: *const nada_context,
    data: *const c_void,
    size: usize,
    name: *const c_char,
    space: SpaceNumber,
    call: *const nada_call,
    latent: *mut *mut nada_latent,
) -> nada_status {
    guard(|| {
        out!(latent);
        handle!(context);
        let (bytes, name) = bytes(data, size, name, "latent")?;
        let (Call { cancel, .. }, opening) = (Call::read(call)?, Opening::begin());
        let opened = Latent::read_bytes(&name, bytes, Some(choose(space, "space", "nada_space", &SPACES)?), &cancel)?;
        opening.end("latents", format_args!("{} in memory", name.display()), extent(&opened));
        *latent = into_raw(opened);
        Ok(())
    })
}

/// Makes latents from numbers of the caller: count * rows * dimension floats, row-major. `rows` is 1 for NADA_SPACE_Z and NADA_SPACE_W and
/// nada_generator_rows() for NADA_SPACE_W_PLUS; `dimension` is nada_generator_dimension().
/// Threads: any. Owner: `data` is borrowed for the call; the caller frees *latent with nada_latent_free().
/// Fails: NADA_INVALID_ARGUMENT (a size of 0, a number that is not finite), NADA_OUT_OF_MEMORY.
#[no_mangle]
pub unsafe extern "C" fn nada_latent_from_data(
    context: *const nada_context,
    space: SpaceNumber,
    data: *const f32,
    count: usize,
    rows: usize,
    dimension: usize,
    latent: *mut *mut nada_latent,
) -> nada_status {
    guard(|| {
        out!(latent);
        handle!(context);
        let space = choose(space, "space", "nada_space", &SPACES)?;
        for (name, size) in [("count", count), ("rows", rows), ("dimension", dimension)] {
            if size == 0 {
                return Err(Failure::argument(name, "is 0, must be at least 1"));
            }
        }
        if space != Space::WPlus && rows != 1 {
            return Err(Failure::argument("rows", format_args!("{rows}, must be 1 in this space")));
        }
        let length = product(&[count, rows, dimension]);
        room_for(length, "latent")?;
        let data = array(data, length.unwrap_or(0), "data")?;
        if let Some(i) = data.iter().position(|v| !v.is_finite()) {
            return Err(Failure::argument("data", format_args!("number {i} is {}, must be finite", data[i])));
        }
        let shape = if space == Space::WPlus { vec![count, rows, dimension] } else { vec![count, dimension] };
        let tensor = Tensor::from_slice(data, shape, HOST).map_err(crate::Error::from)?;
        *latent = into_raw(Latent { space, tensor, noise: None });
        Ok(())
    })
}

/// Writes latents under a temporary name and renames it: as numpy where `file` ends in .npy (without noise maps), else as safetensors.
/// A failure, also a cancelled call, leaves what was there. `file` is UTF-8; `call` may be NULL.
/// Threads: any. Fails: NADA_INVALID_ARGUMENT, NADA_IO, NADA_NOT_FOUND (its folder), NADA_CANCELLED.
#[no_mangle]
pub unsafe extern "C" fn nada_latent_save(latent: *const nada_latent, file: *const c_char, call: *const nada_call) -> nada_status {
    guard(|| {
        let (latent, path, Call { cancel, .. }) = (handle!(latent), path(file, "file")?, Call::read(call)?);
        Ok(latent.save(Destination::from(&path).unless(&cancel))?)
    })
}

/// The space, a nada_space. Threads: any. Fails: NADA_INVALID_ARGUMENT.
#[no_mangle]
pub unsafe extern "C" fn nada_latent_space(latent: *const nada_latent, space: *mut SpaceNumber) -> nada_status {
    guard(|| {
        out!(space);
        *space = number_of(handle!(latent).space, &SPACES)?;
        Ok(())
    })
}

/// Number of points; 0 for NULL. Threads: any.
#[no_mangle]
pub unsafe extern "C" fn nada_latent_count(latent: *const nada_latent) -> usize {
    value(0, || borrow(latent, "latent").map_or(0, |l| shape(l)[0]))
}

/// Rows of a point: 1 in Z and W; 0 for NULL. Threads: any.
#[no_mangle]
pub unsafe extern "C" fn nada_latent_rows(latent: *const nada_latent) -> usize {
    value(0, || borrow(latent, "latent").map_or(0, |l| shape(l)[1]))
}

/// Numbers in a row; 0 for NULL. Threads: any.
#[no_mangle]
pub unsafe extern "C" fn nada_latent_dimension(latent: *const nada_latent) -> usize {
    value(0, || borrow(latent, "latent").map_or(0, |l| shape(l)[2]))
}

/// Copies the numbers, count * rows * dimension floats, row-major, to `data`, which has room for `length` floats.
/// Threads: any. Owner: `data` is borrowed for the call. Fails: NADA_INVALID_ARGUMENT (too small; nothing is written).
#[no_mangle]
pub unsafe extern "C" fn nada_latent_copy_data(latent: *const nada_latent, data: *mut f32, length: usize) -> nada_status {
    guard(|| {
        let latent = handle!(latent);
        super::handle::not_null!(data);
        let want = latent.tensor.elem_count();
        if length < want {
            return Err(Failure::argument("length", format_args!("{length} floats, but the latent has {want}")));
        }
        let values = latent.tensor.flatten_all().and_then(|t| t.to_vec1::<f32>()).map_err(crate::Error::from)?;
        std::ptr::copy_nonoverlapping(values.as_ptr(), data, values.len());
        Ok(())
    })
}

/// Frees a latent; NULL is allowed. Threads: any, once no other thread uses it.
#[no_mangle]
pub unsafe extern "C" fn nada_latent_free(latent: *mut nada_latent) {
    release(latent)
}
