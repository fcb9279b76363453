//! Encoders: networks from a picture to a latent, which take a second where a search takes minutes.

use super::call::{nada_call, Call};
use super::context::nada_context;
use super::error::guard;
use super::handle::{handle, into_raw, out, release, Handle};
use super::log::Opening;
use super::model::nada_model;
use super::status::nada_status;
use super::values::path;
use crate::nn::encoders::Encoder;
use std::ffi::c_char;
use std::sync::Arc;

/// An encoder of pSp, e4e or ReStyle. Never changes once opened.
pub struct nada_encoder(());

pub(super) struct LoadedEncoder {
    pub encoder: Arc<Encoder>,
}

impl Handle for nada_encoder {
    type Value = LoadedEncoder;
    const NAME: &'static str = "nada_encoder";
}

/// Says in the log what was opened.
fn opened(opening: Opening, encoder: &Encoder) {
    opening.end("encoder", encoder.path().display(), format_args!("{} rows of {} numbers", encoder.rows(), encoder.config().style_dim));
}

/// Opens an encoder: the file of pSp's, e4e's or ReStyle's trainer (.pt), or its tensors and settings as safetensors. `file` is UTF-8; `call`
/// may be NULL. It goes into nada_inversion_options.encoder.
/// Threads: any. Owner: the caller frees *encoder with nada_encoder_free(); it may outlive the context.
/// Fails: NADA_INVALID_ARGUMENT, NADA_NOT_FOUND, NADA_IO, NADA_BAD_FORMAT, NADA_UNSUPPORTED, NADA_CANCELLED.
#[no_mangle]
pub unsafe extern "C" fn nada_encoder_open(
    context: *const nada_context,
    file: *const c_char,
    call: *const nada_call,
    encoder: *mut *mut nada_encoder,
) -> nada_status {
    guard(|| {
        out!(encoder);
        let path = path(file, "file")?;
        let runtime = &handle!(context).runtime;
        let (Call { cancel, .. }, opening) = (Call::read(call)?, Opening::begin());
        let found = runtime.run(|| Encoder::open_on(&path, runtime.device(), &cancel))?;
        opened(opening, &found);
        *encoder = into_raw(LoadedEncoder { encoder: Arc::new(found) });
        Ok(())
    })
}

/// The encoder of a pack, read on each call; *encoder is NULL where the pack has none. `call` may be NULL.
/// Threads: any. Owner: the caller frees *encoder with nada_encoder_free(); it may outlive the model.
/// Fails: as nada_encoder_open().
#[no_mangle]
pub unsafe extern "C" fn nada_model_encoder(
    model: *const nada_model,
    call: *const nada_call,
    encoder: *mut *mut nada_encoder,
) -> nada_status {
    guard(|| {
        out!(encoder);
        let model = handle!(model);
        let (Call { cancel, .. }, opening) = (Call::read(call)?, Opening::begin());
        let found = model.runtime().run(|| model.pack().load_encoder_unless(&cancel))?;
        if let Some(found) = found {
            opened(opening, &found);
            *encoder = into_raw(LoadedEncoder { encoder: Arc::new(found) });
        }
        Ok(())
    })
}

/// Frees an encoder; NULL is allowed. Threads: any, once no other thread uses it.
#[no_mangle]
pub unsafe extern "C" fn nada_encoder_free(encoder: *mut nada_encoder) {
    release(encoder)
}
