//! Generators: what draws pictures of latents; their layers, sampling, mixing, saving.

use super::call::{nada_call, Call};
use super::context::nada_context;
use super::error::{guard, value};
use super::handle::{borrow, handle, into_raw, out, release, Handle};
use super::latent::nada_latent;
use super::log::Opening;
use super::options::{self, Options};
use super::runtime::Runtime;
use super::status::{nada_status, Failure, Result};
use super::values::{bytes, c_string, choose, count32, flag, number_of, path, product, room_for, within};
use crate::adapt::Description;
use crate::checkpoint;
use crate::files::Destination;
use crate::memory::Need;
use crate::nn::generator::{Generator, Kind, Latent, Layout, Space};
use crate::progress::Cancel;
use std::ffi::{c_char, c_void, CString};
use std::sync::{Arc, OnceLock};

/// A StyleGAN2 generator: what draws pictures from latents. Never changes once opened.
pub struct nada_generator(());

pub(super) struct LoadedGenerator {
    pub runtime: Arc<Runtime>,
    pub generator: Arc<Generator>,
    /// Made when first asked for: large generators take a while.
    fingerprint: OnceLock<CString>,
    /// Names of the layers.
    layers: Vec<CString>,
}

impl LoadedGenerator {
    pub fn new(runtime: Arc<Runtime>, generator: Arc<Generator>) -> Self {
        let layers = generator.layers().iter().map(|layer| c_string(&layer.name)).collect();
        Self { runtime, generator, fingerprint: OnceLock::new(), layers }
    }

    /// Whether the domain that is so described belongs to it.
    pub fn fits(&self, domain: &Description, cancel: &Cancel) -> Result<bool> {
        cancel.check()?;
        self.runtime.run(|| domain.fits_unless(&self.generator, cancel))
    }
}

/// For the log.
pub(super) fn extent(generator: &Generator) -> String {
    let config = generator.config();
    let numbers: usize = generator.weights().values().map(|tensor| tensor.elem_count()).sum();
    format!("{}, {} px, {numbers} numbers", config.family.name(), config.describe_size())
}

impl Handle for nada_generator {
    type Value = LoadedGenerator;
    const NAME: &'static str = "nada_generator";
}

/// What a layer of a generator does.
#[repr(i32)]
pub enum nada_layer_kind {
    /// What the first convolution starts from: the learned constant of StyleGAN2.
    NADA_LAYER_INPUT = 0,
    /// A modulated convolution with what follows it.
    NADA_LAYER_CONVOLUTION = 1,
    /// From features to colours.
    NADA_LAYER_TO_RGB = 2,
}

/// A [`nada_layer_kind`] as C passes it: any number.
pub type LayerKindNumber = i32;

const LAYER_KINDS: [(i32, Kind); 3] = [
    (nada_layer_kind::NADA_LAYER_INPUT as i32, Kind::Input),
    (nada_layer_kind::NADA_LAYER_CONVOLUTION as i32, Kind::Convolution),
    (nada_layer_kind::NADA_LAYER_TO_RGB as i32, Kind::ToRgb),
];

/// A layer of a generator's synthesis network.
#[repr(C)]
pub struct nada_layer {
    /// As passed to nada_generator_layer().
    pub struct_size: usize,
    /// Its tensors' keys begin with it and a dot. The generator's; valid until that is freed.
    pub name: *const c_char,
    pub kind: LayerKindNumber,
    /// From 0 among the layers of its kind, in the order of drawing.
    pub index: u32,
    /// The row of W+ that its style is made of; -1 where it has no style.
    pub row: i32,
    /// Of what comes out, in pixels.
    pub width: u32,
    pub height: u32,
    /// Channels that go in, which are the numbers of its style; 0 for an input.
    pub channels_in: u32,
    /// Channels that come out.
    pub channels_out: u32,
    /// Side of the convolution's kernel, in pixels; 0 for an input.
    pub kernel: u32,
}

options::ends_with!(nada_layer, kernel: u32);

unsafe impl Options for nada_layer {
    const NAME: &'static str = "nada_layer";
    const FIRST_SIZE: usize = size_of::<Self>();
    fn defaults(struct_size: usize) -> Self {
        Self {
            struct_size,
            name: c"".as_ptr(),
            kind: nada_layer_kind::NADA_LAYER_INPUT as i32,
            index: 0,
            row: -1,
            width: 0,
            height: 0,
            channels_in: 0,
            channels_out: 0,
            kernel: 0,
        }
    }
}

/// A file format of generators.
#[repr(i32)]
pub enum nada_layout {
    /// safetensors, this library's own.
    NADA_LAYOUT_NADA = 0,
    /// A .pt for rosinality's stylegan2-pytorch and what builds on it (StyleGAN-NADA, pSp, e4e). It has no place for classes.
    NADA_LAYOUT_ROSINALITY = 1,
    /// A .pkl for NVIDIA's stylegan2-ada-pytorch.
    NADA_LAYOUT_ADA_PYTORCH = 2,
}

/// A [`nada_layout`] as C passes it: any number.
pub type LayoutNumber = i32;

const LAYOUTS: [(i32, Layout); 3] = [
    (nada_layout::NADA_LAYOUT_NADA as i32, Layout::Nada),
    (nada_layout::NADA_LAYOUT_ROSINALITY as i32, Layout::Rosinality),
    (nada_layout::NADA_LAYOUT_ADA_PYTORCH as i32, Layout::AdaPytorch),
];

/// Opens a StyleGAN2 generator from any supported file: rosinality's or BasicSR's layout as safetensors or torch file, or NVIDIA's pickle.
/// `file` is UTF-8; `call` may be NULL.
/// Threads: any. Owner: the caller frees *generator with nada_generator_free(); it may outlive the context.
/// Fails: NADA_INVALID_ARGUMENT, NADA_NOT_FOUND, NADA_IO, NADA_BAD_FORMAT, NADA_UNSUPPORTED, NADA_CANCELLED.
#[no_mangle]
pub unsafe extern "C" fn nada_generator_open(
    context: *const nada_context,
    file: *const c_char,
    call: *const nada_call,
    generator: *mut *mut nada_generator,
) -> nada_status {
    guard(|| {
        out!(generator);
        let (context, path) = (handle!(context), path(file, "file")?);
        let (Call { cancel, .. }, opening) = (Call::read(call)?, Opening::begin());
        let opened = context.runtime.run(|| Generator::open_on(&path, context.runtime.device(), &cancel))?;
        opening.end("generator", path.display(), extent(&opened));
        *generator = into_raw(LoadedGenerator::new(context.runtime.clone(), Arc::new(opened)));
        Ok(())
    })
}

/// As nada_generator_open(), of the `size` bytes of a file that the program has in memory; `name` is what messages call them, NULL for
/// "generator".
/// Threads: any. Owner: `data` and `name` are borrowed for the call, `data` is copied; the caller frees *generator with
/// nada_generator_free(). Fails: as nada_generator_open(), and NADA_OUT_OF_MEMORY.
#[no_mangle]
pub unsafe extern "C" fn nada_generator_open_memory(
    context: *const nada_context,
    data: *const c_void,
    size: usize,
    name: *const c_char,
    call: *const nada_call,
    generator: *mut *mut nada_generator,
) -> nada_status {
    guard(|| {
        out!(generator);
        let context = handle!(context);
        let (bytes, name) = bytes(data, size, name, "generator")?;
        let (Call { cancel, .. }, opening) = (Call::read(call)?, Opening::begin());
        let open = || Generator::from_checkpoint(&checkpoint::open_bytes_unless(&name, bytes, &cancel)?.on(context.runtime.device()));
        let opened = context.runtime.run(open)?;
        opening.end("generator", format_args!("{} in memory", name.display()), extent(&opened));
        *generator = into_raw(LoadedGenerator::new(context.runtime.clone(), Arc::new(opened)));
        Ok(())
    })
}

/// The longer side of its pictures in pixels: most generators draw squares; 0 for NULL. Threads: any.
#[no_mangle]
pub unsafe extern "C" fn nada_generator_size(generator: *const nada_generator) -> u32 {
    value(0, || borrow(generator, "generator").map_or(0, |g| count32(g.generator.config().size())))
}

/// Width of its pictures in pixels; 0 for NULL. Threads: any.
#[no_mangle]
pub unsafe extern "C" fn nada_generator_width(generator: *const nada_generator) -> u32 {
    value(0, || borrow(generator, "generator").map_or(0, |g| count32(g.generator.config().width())))
}

/// Height of its pictures in pixels; 0 for NULL. Threads: any.
#[no_mangle]
pub unsafe extern "C" fn nada_generator_height(generator: *const nada_generator) -> u32 {
    value(0, || borrow(generator, "generator").map_or(0, |g| count32(g.generator.config().height())))
}

/// What its pictures are made of: 1 for grey, 3 for RGB, 4 for RGB and alpha; 0 for NULL. Images of any have all four channels.
/// Threads: any.
#[no_mangle]
pub unsafe extern "C" fn nada_generator_channels(generator: *const nada_generator) -> u32 {
    value(0, || borrow(generator, "generator").map_or(0, |g| count32(g.generator.config().colours())))
}

/// Rows of a point of W+, for square pictures 2 * log2(size) - 2; 0 for NULL. Threads: any.
#[no_mangle]
pub unsafe extern "C" fn nada_generator_rows(generator: *const nada_generator) -> usize {
    value(0, || borrow(generator, "generator").map_or(0, |g| g.generator.config().n_latent()))
}

/// Numbers in a w and in a row of W+; 0 for NULL. Threads: any.
#[no_mangle]
pub unsafe extern "C" fn nada_generator_dimension(generator: *const nada_generator) -> usize {
    value(0, || borrow(generator, "generator").map_or(0, |g| g.generator.config().style_dim))
}

/// Numbers in a z, for most generators as many as in a w; 0 for NULL. Threads: any.
#[no_mangle]
pub unsafe extern "C" fn nada_generator_z_dimension(generator: *const nada_generator) -> usize {
    value(0, || borrow(generator, "generator").map_or(0, |g| g.generator.config().z_dim))
}

/// Number of layers of its synthesis network, in the order of drawing; 0 for NULL. Threads: any.
#[no_mangle]
pub unsafe extern "C" fn nada_generator_layer_count(generator: *const nada_generator) -> usize {
    value(0, || borrow(generator, "generator").map_or(0, |g| g.layers.len()))
}

/// Layer `index`, from 0; struct_size is sizeof(nada_layer). Phases and selection of adaptations, and the changes in domains, speak of these.
/// Threads: any. Owner: the name is the generator's. Fails: NADA_INVALID_ARGUMENT.
#[no_mangle]
pub unsafe extern "C" fn nada_generator_layer(
    generator: *const nada_generator,
    index: usize,
    layer: *mut nada_layer,
    struct_size: usize,
) -> nada_status {
    guard(|| {
        let g = handle!(generator);
        let Some((found, name)) = g.generator.layers().get(index).zip(g.layers.get(index)) else {
            return Err(Failure::argument("index", format_args!("{index}, but the generator has {} layers", g.layers.len())));
        };
        let known = nada_layer {
            struct_size,
            name: name.as_ptr(),
            kind: number_of(found.kind, &LAYER_KINDS)?,
            index: count32(found.index),
            row: found.row.and_then(|row| i32::try_from(row).ok()).unwrap_or(-1),
            width: count32(found.to.width),
            height: count32(found.to.height),
            channels_in: count32(found.from.channels),
            channels_out: count32(found.to.channels),
            kernel: count32(found.kernel),
        };
        options::write(layer, struct_size, &known)
    })
}

/// Number of classes of a conditional generator; 0 for others and for NULL. Threads: any.
#[no_mangle]
pub unsafe extern "C" fn nada_generator_classes(generator: *const nada_generator) -> u32 {
    value(0, || borrow(generator, "generator").map_or(0, |g| count32(g.generator.config().c_dim)))
}

/// Makes the generator of one class of a conditional generator, from 0 to nada_generator_classes() - 1. Without a class such a generator draws
/// points of W and W+ alone: what maps a z (sampling, adapting, inverting) fails. Weights are shared, and domains of one class serve all.
/// Threads: any. Owner: the caller frees *of_class with nada_generator_free().
/// Fails: NADA_INVALID_ARGUMENT (a class that it does not have).
#[no_mangle]
pub unsafe extern "C" fn nada_generator_with_class(
    generator: *const nada_generator,
    class_index: u32,
    of_class: *mut *mut nada_generator,
) -> nada_status {
    guard(|| {
        out!(of_class);
        let g = handle!(generator);
        let made = g.runtime.run(|| g.generator.with_class(class_index as usize))?;
        *of_class = into_raw(LoadedGenerator::new(g.runtime.clone(), Arc::new(made)));
        Ok(())
    })
}

/// Makes a generator without classes of one that has a class (nada_generator_with_class()), for formats and programs that know none: it draws
/// as that class. One without classes is copied; weights are shared. `call` may be NULL.
/// Threads: any. Owner: the caller frees *plain with nada_generator_free().
/// Fails: NADA_INVALID_ARGUMENT (classes, and none was chosen), NADA_CANCELLED.
#[no_mangle]
pub unsafe extern "C" fn nada_generator_without_classes(
    generator: *const nada_generator,
    call: *const nada_call,
    plain: *mut *mut nada_generator,
) -> nada_status {
    guard(|| {
        out!(plain);
        let (g, Call { cancel, .. }) = (handle!(generator), Call::read(call)?);
        let made = g.runtime.run(|| {
            cancel.check()?;
            g.generator.without_classes_unless(&cancel)
        })?;
        *plain = into_raw(LoadedGenerator::new(g.runtime.clone(), Arc::new(made)));
        Ok(())
    })
}

/// Writes a generator in a format, a nada_layout, under a temporary name and renames it: a failure, also a cancelled call, leaves what was
/// there. Numbers stay as they are, bit by bit; to build domains in, save what nada_generator_with_domains() makes. `half` is 1 for f16
/// numbers (NADA_LAYOUT_NADA alone): half the size, and another generator: domains of the f32 one do not fit. `file` is UTF-8; `call` may be
/// NULL.
/// Threads: any. Fails: NADA_INVALID_ARGUMENT, NADA_UNSUPPORTED (what the format has no place for), NADA_IO, NADA_NOT_FOUND (its folder),
/// NADA_CANCELLED.
#[no_mangle]
pub unsafe extern "C" fn nada_generator_save(
    generator: *const nada_generator,
    file: *const c_char,
    layout: LayoutNumber,
    half: u32,
    call: *const nada_call,
) -> nada_status {
    guard(|| {
        let (g, path, Call { cancel, .. }) = (handle!(generator), path(file, "file")?, Call::read(call)?);
        let (layout, half) = (choose(layout, "layout", "nada_layout", &LAYOUTS)?, flag(half, "half")?);
        if layout == Layout::Rosinality && g.generator.config().conv_clamp.is_some() {
            ::log::warn!(target: "nada", "{}: the generator clamps its activations, which rosinality's code does not", path.display());
        }
        g.runtime.run(|| g.generator.save(Destination::from(&path).unless(&cancel), layout, half))
    })
}

/// The SHA-256 (hexadecimal) of the weights: domains know their generator by it. It is found on the first call, which takes a while for
/// large generators; where that one is cancelled, the next one finds it. `call` may be NULL.
/// Threads: any. Owner: the generator; *fingerprint is valid until it is freed. Fails: NADA_INVALID_ARGUMENT, NADA_CANCELLED.
#[no_mangle]
pub unsafe extern "C" fn nada_generator_fingerprint(
    generator: *const nada_generator,
    call: *const nada_call,
    fingerprint: *mut *const c_char,
) -> nada_status {
    guard(|| {
        out!(fingerprint);
        let (g, Call { cancel, .. }) = (handle!(generator), Call::read(call)?);
        cancel.check()?;
        let found = g.runtime.run(|| g.generator.fingerprint_unless(&cancel))?;
        *fingerprint = g.fingerprint.get_or_init(|| c_string(found)).as_ptr();
        Ok(())
    })
}

/// Draws `count` random points of W from a seed, whose random numbers are the same on every machine. `truncation` in [0, 1.5] draws them
/// towards the mean; 0.7 is usual, 1 leaves them. `call` may be NULL.
/// Threads: any. Owner: the caller frees *latent with nada_latent_free().
/// Fails: NADA_INVALID_ARGUMENT, NADA_CANCELLED, NADA_OUT_OF_MEMORY.
#[no_mangle]
pub unsafe extern "C" fn nada_generator_sample(
    generator: *const nada_generator,
    count: usize,
    seed: u64,
    truncation: f32,
    call: *const nada_call,
    latent: *mut *mut nada_latent,
) -> nada_status {
    guard(|| {
        out!(latent);
        let g = handle!(generator);
        if count == 0 {
            return Err(Failure::argument("count", "is 0, must be at least 1"));
        }
        let truncation = within(truncation, 0.0, 1.5, "truncation")?;
        let Call { cancel, .. } = Call::read(call)?;
        // The input, and an activation of the mapping network with its successor.
        let c = g.generator.config();
        room_for(product(&[count, c.style_dim.max(c.z_dim), 4]), "sample")?;
        g.runtime.admit(Need::sampling(g.generator.config(), count))?;
        let tensor = g.runtime.run(|| g.generator.sample_w_unless(count, seed, truncation, &cancel))?;
        *latent = into_raw(Latent { space: Space::W, tensor, noise: None });
        Ok(())
    })
}

/// Mixes styles: the first `crossover` rows of each point of `a` (coarse traits), the rest of `b` (fine ones). `crossover` is at most
/// nada_generator_rows(). The result is in W+, without noise maps. `call` may be NULL.
/// Threads: any. Owner: the caller frees *latent with nada_latent_free().
/// Fails: NADA_INVALID_ARGUMENT (also latents of another shape or of different counts), NADA_CANCELLED.
#[no_mangle]
pub unsafe extern "C" fn nada_generator_mix_styles(
    generator: *const nada_generator,
    a: *const nada_latent,
    b: *const nada_latent,
    crossover: usize,
    call: *const nada_call,
    latent: *mut *mut nada_latent,
) -> nada_status {
    guard(|| {
        out!(latent);
        let (g, a, b) = (handle!(generator), handle!(a), handle!(b));
        let rows = g.generator.config().n_latent();
        if crossover > rows {
            return Err(Failure::argument("crossover", format_args!("{crossover}, but there are {rows} rows")));
        }
        let Call { cancel, .. } = Call::read(call)?;
        let tensor = g.runtime.run(|| {
            let wplus = |latent: &Latent| {
                cancel.check()?;
                g.generator.wplus_unless(latent, 1.0, &cancel)
            };
            let (a, b) = (wplus(a)?, wplus(b)?);
            g.generator.mix(&a, &b, crossover)
        })?;
        *latent = into_raw(Latent { space: Space::WPlus, tensor, noise: None });
        Ok(())
    })
}

/// Mixes linearly: (1 - amount) * a + amount * b, point by point, `amount` in [0, 1]. The result is in W+, without noise maps. `call` may be
/// NULL.
/// Threads: any. Owner: the caller frees *latent with nada_latent_free().
/// Fails: NADA_INVALID_ARGUMENT (also latents of another shape or of different counts), NADA_CANCELLED.
#[no_mangle]
pub unsafe extern "C" fn nada_generator_mix_linear(
    generator: *const nada_generator,
    a: *const nada_latent,
    b: *const nada_latent,
    amount: f32,
    call: *const nada_call,
    latent: *mut *mut nada_latent,
) -> nada_status {
    guard(|| {
        out!(latent);
        let (g, a, b) = (handle!(generator), handle!(a), handle!(b));
        let amount = within(amount, 0.0, 1.0, "amount")? as f64;
        let Call { cancel, .. } = Call::read(call)?;
        let tensor = g.runtime.run(|| {
            let wplus = |latent: &Latent| {
                cancel.check()?;
                g.generator.wplus_unless(latent, 1.0, &cancel)
            };
            let (a, b) = (wplus(a)?, wplus(b)?);
            g.generator.interpolate(&a, &b, amount)
        })?;
        *latent = into_raw(Latent { space: Space::WPlus, tensor, noise: None });
        Ok(())
    })
}

/// Frees a generator; NULL is allowed. Adaptations made with it keep what they need. Threads: any, once no other thread uses it.
#[no_mangle]
pub unsafe extern "C" fn nada_generator_free(generator: *mut nada_generator) {
    release(generator)
}
