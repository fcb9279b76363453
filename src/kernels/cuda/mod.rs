//! Arithmetic on a GPU: what every operation's `cuda` method needs. Kernels are beside it in CUDA C++, one file a family of operations; build.rs
//! has them compiled into machine code for each kind of chip.
//!
//! Everything happens on one stream of the device, in the order in which threads ask for it, so that no event is needed; and nothing waits for
//! the GPU but what reads its numbers.

mod lazy;
pub(crate) mod picture;
pub(crate) mod synthesis;
pub(crate) mod transformer;

use candle_core::backend::BackendStorage;
use candle_core::cuda_backend::cudarc::cublas::sys as blas;
use candle_core::cuda_backend::cudarc::driver::{
    sys, CudaFunction, CudaModule, CudaSlice, CudaView, DevicePtr, DeviceRepr, DeviceSlice, LaunchConfig, PushKernelArg,
};
use candle_core::cuda_backend::cudarc::nvrtc::Ptx;
use candle_core::cuda_backend::{CudaDevice, DeviceId, WrapErr};
use candle_core::op::BackpropOp;
use candle_core::{bail, CudaStorage, Device, Layout, Result, Shape, Storage, Tensor};
use std::collections::HashMap;
use std::ffi::c_void;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

/// Numbers on a GPU.
pub(crate) type Numbers = CudaSlice<f32>;

/// An argument: its numbers in row-major order.
pub(crate) struct View<'a> {
    pub values: CudaView<'a, f32>,
    pub shape: &'a Shape,
}

impl View<'_> {
    pub(crate) fn dims(&self) -> &[usize] {
        self.shape.dims()
    }
}

/// Compiled .cu files: machine code for several kinds of chips, of which the driver takes what fits.
const MODULES: [(&str, &[u8]); 5] = [
    ("conv", include_bytes!(concat!(env!("OUT_DIR"), "/conv.fatbin"))),
    ("optim", include_bytes!(concat!(env!("OUT_DIR"), "/optim.fatbin"))),
    ("picture", include_bytes!(concat!(env!("OUT_DIR"), "/picture.fatbin"))),
    ("style", include_bytes!(concat!(env!("OUT_DIR"), "/style.fatbin"))),
    ("transformer", include_bytes!(concat!(env!("OUT_DIR"), "/transformer.fatbin"))),
];

/// How matrices and features are multiplied: exactly, or with factors rounded to the 10 bits of mantissa that tensor cores take (TF32).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Precision {
    F32,
    Tf32,
}

/// What `NADA_CUDA_MATH` says: `f32`, or `tf32`, which is the default.
fn precision() -> Precision {
    match std::env::var("NADA_CUDA_MATH").as_deref() {
        Ok("f32") => Precision::F32,
        _ => Precision::Tf32,
    }
}

/// The GPU of that number, opened once. The error says what is missing.
pub(crate) fn open(ordinal: usize) -> std::result::Result<Device, String> {
    static OPEN: OnceLock<Mutex<HashMap<usize, std::result::Result<Device, String>>>> = OnceLock::new();
    let mut open = OPEN.get_or_init(Default::default).lock().unwrap_or_else(PoisonError::into_inner);
    open.entry(ordinal).or_insert_with(|| open_new(ordinal)).clone()
}

fn open_new(ordinal: usize) -> std::result::Result<Device, String> {
    lazy::open()?;
    let mut count = 0;
    // SAFETY: both write at most one number.
    let status = unsafe { sys::cuInit(0).result().and_then(|()| sys::cuDeviceGetCount(&mut count).result()) };
    status.map_err(|e| format!("the driver says: {e:?}"))?;
    if ordinal >= count as usize {
        return Err(format!("there is no GPU {ordinal}: the driver has {count}"));
    }
    // A stream of its own for all threads: candle's default is one for each thread, and who uses a tensor next may be another one.
    let device = Device::new_cuda_with_stream(ordinal).map_err(|e| format!("GPU {ordinal}: {e}"))?;
    if let Device::Cuda(cuda) = &device {
        // SAFETY: there is one stream, on which everything happens in order.
        unsafe { cuda.disable_event_tracking() };
        keep_memory(cuda).map_err(|e| format!("GPU {ordinal}: {e}"))?;
    }
    Ok(device)
}

/// Lets the driver keep freed memory for the next allocation; by default it gives it back whenever somebody waits.
fn keep_memory(device: &CudaDevice) -> Result<()> {
    let ordinal = device.cuda_stream().context().cu_device();
    let mut pool = std::ptr::null_mut();
    let mut threshold = u64::MAX;
    // SAFETY: the device is open; the attribute is a u64.
    unsafe {
        sys::cuDeviceGetDefaultMemPool(&mut pool, ordinal).result().w()?;
        let attribute = sys::CUmemPool_attribute::CU_MEMPOOL_ATTR_RELEASE_THRESHOLD;
        sys::cuMemPoolSetAttribute(pool, attribute, (&mut threshold as *mut u64).cast()).result().w()
    }
}

/// Name of a GPU and its bytes of memory, (free, all).
pub(crate) fn about(device: &Device) -> Option<(String, usize, usize)> {
    let Device::Cuda(device) = device else { return None };
    let stream = device.cuda_stream();
    let (free, all) = stream.context().mem_get_info().ok()?;
    Some((stream.context().name().ok()?, free, all))
}

/// An argument of a kernel: an address, an int or a float.
#[derive(Clone, Copy)]
pub(crate) struct Argument {
    /// As the driver reads it: as many of the low bytes as the kernel's parameter has.
    bits: u64,
    /// Whether it is not larger than its kind.
    fits: bool,
}

impl Argument {
    pub(crate) const NULL: Self = Self { bits: 0, fits: true };

    fn address(bits: u64) -> Self {
        Self { bits, fits: true }
    }

    /// Of an address: so many f32 further on.
    pub(crate) fn plus(self, numbers: usize) -> Self {
        Self { bits: self.bits + 4 * numbers as u64, ..self }
    }
}

impl From<i32> for Argument {
    fn from(v: i32) -> Self {
        Self { bits: v as u32 as u64, fits: true }
    }
}

impl From<usize> for Argument {
    /// An int; [`Gpu::launch`] refuses one that is too large.
    fn from(v: usize) -> Self {
        Self { bits: v as u64, fits: i32::try_from(v).is_ok() }
    }
}

impl From<f32> for Argument {
    fn from(v: f32) -> Self {
        Self { bits: v.to_bits() as u64, fits: true }
    }
}

/// Where numbers lie on the GPU. What frees them waits its turn on the stream, so an address may be used as long as they are there when the
/// kernel is launched.
pub(crate) trait At {
    fn at(&self) -> Argument;
}

impl<T> At for CudaSlice<T> {
    fn at(&self) -> Argument {
        Argument::address(self.device_ptr(self.stream()).0)
    }
}

impl<T> At for CudaView<'_, T> {
    fn at(&self) -> Argument {
        Argument::address(self.device_ptr(self.stream()).0)
    }
}

impl At for View<'_> {
    fn at(&self) -> Argument {
        self.values.at()
    }
}

impl<T: At> At for Option<T> {
    fn at(&self) -> Argument {
        self.as_ref().map_or(Argument::NULL, At::at)
    }
}

impl<T: At> At for &T {
    fn at(&self) -> Argument {
        (*self).at()
    }
}

/// `[x.at(), n.into(), ..]`
macro_rules! arguments {
    ($($a:expr),* $(,)?) => { &[$($crate::kernels::cuda::Argument::from($a)),*] };
}
pub(crate) use arguments;

/// A matrix of a product, row-major: where it begins, how far its rows are apart, whether it is meant transposed.
#[derive(Clone, Copy)]
pub(crate) struct Matrix {
    pub at: Argument,
    pub row: usize,
    pub transposed: bool,
}

impl Matrix {
    pub(crate) fn rows(at: Argument, row: usize) -> Self {
        Self { at, row, transposed: false }
    }

    pub(crate) fn transposed(self) -> Self {
        Self { transposed: !self.transposed, ..self }
    }
}

/// What kernels are launched on.
pub(crate) struct Gpu {
    device: CudaDevice,
    pub precision: Precision,
    /// Of the chip, such as (9, 0).
    pub capability: (i32, i32),
}

/// Blocks of this many threads for kernels whose threads take numbers in turn.
const BLOCK: usize = 256;

impl Gpu {
    pub(crate) fn of(device: &CudaDevice) -> Result<Self> {
        let capability = device.cuda_stream().context().compute_capability().w()?;
        Ok(Self { device: device.clone(), precision: precision(), capability })
    }

    /// Whether tensor cores may multiply: they are there from 8.0 on.
    pub(crate) fn tensor_cores(&self) -> bool {
        self.precision == Precision::Tf32 && self.capability >= (8, 0)
    }

    /// Room for so many numbers, whatever they are.
    pub(crate) fn alloc(&self, numbers: usize) -> Result<Numbers> {
        // SAFETY: f32 of any bits are numbers; kernels write all that is read. No allocation is empty, which the driver refuses.
        unsafe { self.device.alloc::<f32>(numbers.max(1)) }.map_err(|e| out_of_memory(&self.device, 4 * numbers, e))
    }

    pub(crate) fn zeros(&self, numbers: usize) -> Result<Numbers> {
        self.device.alloc_zeros::<f32>(numbers.max(1)).map_err(|e| out_of_memory(&self.device, 4 * numbers, e))
    }

    pub(crate) fn upload<T: DeviceRepr + 'static>(&self, numbers: &[T]) -> Result<CudaSlice<T>> {
        self.device.clone_htod(numbers)
    }

    /// Launches a kernel.
    ///
    /// # Safety
    /// `arguments` must be the kernel's, in number, order and kind, and what they point to as large as it takes them to be.
    pub(crate) unsafe fn launch(
        &self,
        kernel: (&'static str, &'static str),
        grid: [usize; 3],
        block: usize,
        shared: usize,
        arguments: &[Argument],
    ) -> Result<()> {
        if arguments.iter().any(|a| !a.fits) {
            bail!("{}: more than 2^31 numbers at a time, which a GPU does not take", kernel.1)
        }
        let function = function(&self.device, kernel.0, kernel.1)?;
        if shared > 48 << 10 {
            let attribute = sys::CUfunction_attribute_enum::CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES;
            function.set_attribute(attribute, shared as i32).w()?;
        }
        if grid.contains(&0) {
            return Ok(());
        }
        let config = LaunchConfig {
            grid_dim: (grid[0] as u32, grid[1] as u32, grid[2] as u32),
            block_dim: (block as u32, 1, 1),
            shared_mem_bytes: shared as u32,
        };
        let stream = self.device.cuda_stream();
        let mut call = stream.launch_builder(&function);
        for argument in arguments {
            call.arg(&argument.bits);
        }
        call.launch(config).w()?;
        Ok(())
    }

    /// Launches a kernel whose threads take `count` numbers in turn.
    ///
    /// # Safety
    /// As [`Gpu::launch`].
    pub(crate) unsafe fn each(&self, kernel: (&'static str, &'static str), count: usize, arguments: &[Argument]) -> Result<()> {
        self.launch(kernel, [count.div_ceil(BLOCK).min(1 << 16), 1, 1], BLOCK, 0, arguments)
    }

    /// c [m, n] with rows `row` apart = a [m, k] b [k, n] + `beta` * c.
    ///
    /// # Safety
    /// Matrices must be as large as that.
    pub(crate) unsafe fn product(
        &self,
        (m, n, k): (usize, usize, usize),
        a: Matrix,
        b: Matrix,
        beta: f32,
        c: Argument,
        row: usize,
    ) -> Result<()> {
        if m * n == 0 {
            return Ok(());
        }
        let compute = match self.precision {
            Precision::F32 => blas::cublasComputeType_t::CUBLAS_COMPUTE_32F,
            Precision::Tf32 => blas::cublasComputeType_t::CUBLAS_COMPUTE_32F_FAST_TF32,
        };
        let operation = |m: Matrix| match m.transposed {
            true => blas::cublasOperation_t::CUBLAS_OP_T,
            false => blas::cublasOperation_t::CUBLAS_OP_N,
        };
        let real = blas::cudaDataType::CUDA_R_32F;
        let algorithm = blas::cublasGemmAlgo_t::CUBLAS_GEMM_DEFAULT;
        let alpha = 1.0f32;
        // Column-major, row-major matrices are their transposes: c^T = b^T a^T.
        candle_core::cuda_backend::cudarc::cublas::result::gemm_strided_batched_ex(
            *self.device.cublas_handle().handle(),
            operation(b),
            operation(a),
            n as i32,
            m as i32,
            k as i32,
            (&alpha as *const f32).cast(),
            b.at.bits as *const c_void,
            real,
            b.row as i32,
            0,
            a.at.bits as *const c_void,
            real,
            a.row as i32,
            0,
            (&beta as *const f32).cast(),
            c.bits as *mut c_void,
            real,
            row as i32,
            0,
            1,
            compute,
            algorithm,
        )
        .w()
    }

    /// Without a copy; no gradient flows through it.
    pub(crate) fn tensor(&self, numbers: Numbers, shape: Shape) -> Tensor {
        let storage = Storage::Cuda(CudaStorage::wrap_cuda_slice(numbers, self.device.clone()));
        Tensor::from_storage(storage, shape, BackpropOp::none(), false)
    }
}

/// The error of an allocation that failed, with what it wanted and what there is, where it is for lack of memory.
fn out_of_memory(device: &CudaDevice, bytes: usize, e: candle_core::Error) -> candle_core::Error {
    let lacking = e.to_string().contains("OUT_OF_MEMORY");
    match device.cuda_stream().context().mem_get_info() {
        Ok((free, all)) if lacking => {
            let message = format!("the GPU has no room for {bytes} bytes: {free} of its {all} bytes are free");
            crate::Error::OutOfMemory(message).into()
        }
        _ => e,
    }
}

/// A kernel of a module, which is loaded once a device.
fn function(device: &CudaDevice, module: &'static str, kernel: &'static str) -> Result<CudaFunction> {
    #[derive(Default)]
    struct Loaded {
        modules: HashMap<(DeviceId, &'static str), Arc<CudaModule>>,
        functions: HashMap<(DeviceId, &'static str), CudaFunction>,
    }
    static LOADED: OnceLock<Mutex<Loaded>> = OnceLock::new();
    let mut loaded = LOADED.get_or_init(Default::default).lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(function) = loaded.functions.get(&(device.id(), kernel)) {
        return Ok(function.clone());
    }
    let module = match loaded.modules.get(&(device.id(), module)) {
        Some(module) => module.clone(),
        None => {
            let Some((_, code)) = MODULES.iter().find(|(name, _)| *name == module) else { bail!("there is no module {module}") };
            let loading = device.cuda_stream().context().load_module(Ptx::from_binary(code.to_vec())).w()?;
            loaded.modules.insert((device.id(), module), loading.clone());
            loading
        }
    };
    let function = module.load_function(kernel).w()?;
    loaded.functions.insert((device.id(), kernel), function.clone());
    Ok(function)
}

/// The numbers of an argument: where they lie, or in row-major order where the layout is strided.
enum Held<'a> {
    There(CudaView<'a, f32>),
    Copied(Numbers),
}

impl<'a> Held<'a> {
    fn of(storage: &'a CudaStorage, layout: &Layout, name: &str) -> Result<Self> {
        let Ok(values) = storage.as_cuda_slice::<f32>() else { bail!("{name} takes f32, not {:?}", storage.dtype()) };
        if let Some((from, to)) = layout.contiguous_offsets() {
            return Ok(Held::There(values.slice(from..to)));
        }
        let gpu = Gpu::of(storage.device())?;
        let mut copy = CudaStorage::wrap_cuda_slice(gpu.alloc(layout.shape().elem_count())?, storage.device().clone());
        storage.copy_strided_src(&mut copy, 0, layout)?;
        match copy.slice {
            candle_core::cuda_backend::CudaStorageSlice::F32(numbers) => Ok(Held::Copied(numbers)),
            _ => bail!("{name}: a copy changed its type"),
        }
    }

    fn view(&self) -> CudaView<'_, f32> {
        match self {
            Held::There(view) => view.slice(..),
            Held::Copied(numbers) => numbers.slice(..),
        }
    }
}

/// The numbers of a contiguous f32 tensor on a GPU, for as long as `f` runs.
pub(crate) fn with<R>(t: &Tensor, name: &str, f: impl FnOnce(Argument) -> Result<R>) -> Result<R> {
    let (storage, layout) = t.storage_and_layout();
    match &*storage {
        Storage::Cuda(storage) => f(Held::of(storage, layout, name)?.view().at()),
        _ => bail!("{name}: {:?} is not on a GPU", t.shape()),
    }
}

/// The results of `op` on a GPU.
pub(super) fn compute<const IN: usize, const OUT: usize, O: super::op::Op<IN, OUT>>(
    op: &O,
    arguments: [(&CudaStorage, &Layout); IN],
) -> Result<([Numbers; OUT], [Shape; OUT], Gpu)> {
    let shapes = op.shapes(arguments.map(|(_, layout)| layout.shape()))?;
    let held: Vec<Held> = arguments.iter().map(|(storage, layout)| Held::of(storage, layout, O::NAME)).collect::<Result<_>>()?;
    let Some((first, _)) = arguments.first() else { bail!("{} without inputs", O::NAME) };
    let gpu = Gpu::of(first.device())?;
    let views = std::array::from_fn(|i| View { values: held[i].view(), shape: arguments[i].1.shape() });
    let results = op.cuda(&gpu, views)?;
    for (result, shape) in results.iter().zip(&shapes) {
        if result.len() != shape.elem_count().max(1) {
            bail!("{} gave {} numbers for the shape {shape:?}", O::NAME, result.len());
        }
    }
    Ok((results, shapes, gpu))
}

/// As [`compute`], as tensors that no gradient flows through.
pub(super) fn run<const IN: usize, const OUT: usize, O: super::op::Op<IN, OUT>>(
    op: &O,
    arguments: [(&CudaStorage, &Layout); IN],
) -> Result<[Tensor; OUT]> {
    let (results, shapes, gpu) = compute(op, arguments)?;
    let mut shapes = shapes.into_iter();
    Ok(results.map(|numbers| gpu.tensor(numbers, shapes.next().unwrap_or_else(|| Shape::from(0)))))
}

/// The storage of a first result, and the others as tensors.
pub(super) fn forward<const IN: usize, const OUT: usize, O: super::op::Op<IN, OUT>>(
    op: &O,
    arguments: [(&CudaStorage, &Layout); IN],
) -> Result<(CudaStorage, Shape, Vec<Tensor>)> {
    let (results, shapes, gpu) = compute(op, arguments)?;
    let mut results = results.into_iter().zip(shapes);
    let Some((first, shape)) = results.next() else { bail!("{} has no result", O::NAME) };
    let kept = results.map(|(numbers, shape)| gpu.tensor(numbers, shape)).collect();
    Ok((CudaStorage::wrap_cuda_slice(first, gpu.device.clone()), shape, kept))
}

/// Where a storage's numbers lie, so that two can be compared.
pub(super) fn address(storage: &CudaStorage) -> Option<*const f32> {
    let numbers = storage.as_cuda_slice::<f32>().ok()?;
    Some(numbers.at().bits as *const f32)
}

/// Runs `op` on `changed`, which share no memory: only addresses are handed on, and who else uses what is there waits its turn on the stream.
pub(super) fn change<const CHANGED: usize, const IN: usize, O: super::op::InPlace<CHANGED, IN>>(
    op: &O,
    changed: [&Tensor; CHANGED],
    inputs: [&Tensor; IN],
) -> Result<()> {
    let (open, given) = (changed.map(Tensor::storage_and_layout), inputs.map(Tensor::storage_and_layout));
    let mut gpu = None;
    let mut addresses = [Argument::NULL; CHANGED];
    for (address, (storage, layout)) in addresses.iter_mut().zip(&open) {
        let storage = super::op::on_cuda(storage, O::NAME)?;
        let (Ok(numbers), Some((from, to))) = (storage.as_cuda_slice::<f32>(), layout.contiguous_offsets()) else {
            bail!("{} changes contiguous tensors of f32 only", O::NAME)
        };
        *address = if from < to { numbers.at().plus(from) } else { Argument::NULL };
        gpu = Some(Gpu::of(storage.device())?);
    }
    let mut held = vec![];
    for (storage, layout) in &given {
        held.push(Held::of(super::op::on_cuda(storage, O::NAME)?, layout, O::NAME)?);
    }
    let views = std::array::from_fn(|i| View { values: held[i].view(), shape: inputs[i].shape() });
    match gpu {
        Some(gpu) => op.cuda(&gpu, addresses, views),
        None => bail!("{} changes nothing", O::NAME),
    }
}
