//! What an operation is, and how it enters candle's graph.
//!
//! An operation says the shapes of its results and its arithmetic, one method for each kind of device: `cpu`, and with the feature `cuda` one of
//! that name beside it. A differentiable one also says its gradient, as operations on tensors again, so
//! that the gradient runs wherever the tensors are. Gradients of gradients are not there: what [`run`] gives is not tracked.

use super::cpu;
#[cfg(feature = "cuda")]
use super::cuda;
#[cfg(feature = "cuda")]
use candle_core::CudaStorage;
use candle_core::{bail, CpuStorage, CustomOp1, CustomOp2, CustomOp3, DType, Error, InplaceOp1, Layout, Result, Shape, Storage, Tensor};
use std::cell::Cell;
use std::sync::OnceLock;

/// Arithmetic on `IN` tensors of f32 that gives `OUT` new ones.
pub(crate) trait Op<const IN: usize, const OUT: usize = 1>: Send + Sync + 'static {
    const NAME: &'static str;

    /// Shapes of the results; an error that names the shapes where the inputs do not fit together.
    fn shapes(&self, inputs: [&Shape; IN]) -> Result<[Shape; OUT]>;

    /// The results' numbers, each as many as its shape has. The inputs have passed [`Op::shapes`].
    fn cpu(&self, inputs: [cpu::View; IN]) -> Result<[Vec<f32>; OUT]>;

    /// The same on a GPU.
    #[cfg(feature = "cuda")]
    fn cuda(&self, _: &cuda::Gpu, _: [cuda::View; IN]) -> Result<[cuda::Numbers; OUT]> {
        bail!("{} has no arithmetic for CUDA yet", Self::NAME)
    }
}

/// An operation with a gradient. The first result is the operation's; what else it computes is kept for the gradient.
pub(crate) trait Differentiable<const IN: usize, const OUT: usize = 1>: Op<IN, OUT> {
    /// The gradient of each input; None is zero. Those not asked for are not looked at.
    fn gradient(&self, given: &Backward<IN, OUT>) -> Result<[Option<Tensor>; IN]>;
}

/// What a gradient is made of. All tensors are detached.
pub(crate) struct Backward<const IN: usize, const OUT: usize = 1> {
    pub inputs: [Tensor; IN],
    /// Which inputs' gradients are asked for.
    pub need: [bool; IN],
    pub outputs: [Tensor; OUT],
    /// The gradient of the first output.
    pub gradient: Tensor,
}

/// The results of `op`, untracked.
pub(crate) fn run<const IN: usize, const OUT: usize, O: Op<IN, OUT>>(op: &O, inputs: [&Tensor; IN]) -> Result<[Tensor; OUT]> {
    let held = inputs.map(Tensor::storage_and_layout);
    #[cfg(feature = "cuda")]
    if held.iter().any(|(storage, _)| matches!(**storage, Storage::Cuda(_))) {
        return cuda::run(op, all(held.iter().map(|(storage, layout)| Ok((on_cuda(storage, O::NAME)?, *layout))))?);
    }
    let arguments = all(held.iter().map(|(storage, layout)| Ok((on_cpu(storage, O::NAME)?, *layout))))?;
    let (results, shapes) = compute(op, arguments)?;
    all(results.into_iter().zip(shapes).map(|(values, shape)| cpu::tensor(values, shape)))
}

/// As [`run`], of an operation with one result.
pub(crate) fn run1<const IN: usize, O: Op<IN>>(op: &O, inputs: [&Tensor; IN]) -> Result<Tensor> {
    let [result] = run(op, inputs)?;
    Ok(result)
}

/// The first result of `op`, tracked where an input is. At most three inputs may be tracked, which is what candle's graph has room for;
/// the others are constants, however many.
pub(crate) fn apply<const IN: usize, const OUT: usize, O: Differentiable<IN, OUT>>(op: O, inputs: [&Tensor; IN]) -> Result<Tensor> {
    let tracked: Vec<&Tensor> = inputs.into_iter().filter(|t| t.track_op()).collect();
    let node = |op| Node { op, constants: inputs.map(|t| (!t.track_op()).then(|| t.clone())), kept: OnceLock::new() };
    match tracked[..] {
        [] => run(&op, inputs)?.into_iter().next().ok_or_else(|| Error::Msg(format!("{} has no result", O::NAME))),
        [a] => a.apply_op1(node(op)),
        [a, b] => a.apply_op2(b, node(op)),
        [a, b, c] => a.apply_op3(b, c, node(op)),
        _ => bail!("{}: {} of its inputs are tracked; candle's graph takes three", O::NAME, tracked.len()),
    }
}

/// `t` as f32, which all operations take.
pub(crate) fn f32s(t: &Tensor) -> Result<Tensor> {
    t.to_dtype(DType::F32)
}

/// The shape of two inputs of `op` that must have the same.
pub(crate) fn alike(op: &str, a: &Shape, b: &Shape) -> Result<Shape> {
    match a == b {
        true => Ok(a.clone()),
        false => bail!("{op}: shapes {a:?} and {b:?} differ"),
    }
}

/// An operation in candle's graph.
struct Node<O, const IN: usize, const OUT: usize> {
    op: O,
    /// The inputs that are not tracked; None stands for those that are, which candle hands in each time.
    constants: [Option<Tensor>; IN],
    /// All results but the first.
    kept: OnceLock<Vec<Tensor>>,
}

impl<const IN: usize, const OUT: usize, O: Differentiable<IN, OUT>> Node<O, IN, OUT> {
    fn forward(&self, tracked: &[(&CpuStorage, &Layout)]) -> Result<(CpuStorage, Shape)> {
        let held = self.constants.each_ref().map(|c| c.as_ref().map(Tensor::storage_and_layout));
        let mut tracked = tracked.iter().copied();
        let arguments = all(held.iter().map(|held| match held {
            Some((storage, layout)) => Ok((on_cpu(storage, O::NAME)?, *layout)),
            None => tracked.next().ok_or_else(|| Error::Msg(format!("{}: an input is missing", O::NAME))),
        }))?;
        let (results, shapes) = compute(&self.op, arguments)?;
        let mut results = results.into_iter().zip(shapes);
        let Some((values, shape)) = results.next() else { bail!("{} has no result", O::NAME) };
        // A node runs forward once.
        let _ = self.kept.set(results.map(|(values, shape)| cpu::tensor(values, shape)).collect::<Result<_>>()?);
        Ok((CpuStorage::F32(values), shape))
    }

    #[cfg(feature = "cuda")]
    fn forward_on_cuda(&self, tracked: &[(&CudaStorage, &Layout)]) -> Result<(CudaStorage, Shape)> {
        let held = self.constants.each_ref().map(|c| c.as_ref().map(Tensor::storage_and_layout));
        let mut tracked = tracked.iter().copied();
        let arguments = all(held.iter().map(|held| match held {
            Some((storage, layout)) => Ok((on_cuda(storage, O::NAME)?, *layout)),
            None => tracked.next().ok_or_else(|| Error::Msg(format!("{}: an input is missing", O::NAME))),
        }))?;
        let (first, shape, kept) = cuda::forward(&self.op, arguments)?;
        let _ = self.kept.set(kept);
        Ok((first, shape))
    }

    /// The gradients of the tracked inputs, in their order.
    fn backward(&self, tracked: &[&Tensor], result: &Tensor, gradient: &Tensor) -> Result<impl Iterator<Item = Option<Tensor>>> {
        let mut tracked = tracked.iter();
        let inputs = all(self.constants.iter().map(|constant| match constant {
            Some(constant) => Ok(constant.clone()),
            None => tracked.next().map(|t| t.detach()).ok_or_else(|| Error::Msg(format!("{}: an input is missing", O::NAME))),
        }))?;
        let kept = self.kept.get().into_iter().flatten().cloned();
        let outputs = all(std::iter::once(result.detach()).chain(kept).map(Ok))?;
        let need = self.constants.each_ref().map(Option::is_none);
        let gradients = self.op.gradient(&Backward { inputs, need, outputs, gradient: gradient.detach() })?;
        Ok(gradients.into_iter().zip(need).filter_map(|(gradient, need)| need.then_some(gradient)))
    }
}

impl<const IN: usize, const OUT: usize, O: Differentiable<IN, OUT>> CustomOp1 for Node<O, IN, OUT> {
    fn name(&self) -> &'static str {
        O::NAME
    }
    fn cpu_fwd(&self, a: &CpuStorage, al: &Layout) -> Result<(CpuStorage, Shape)> {
        self.forward(&[(a, al)])
    }
    #[cfg(feature = "cuda")]
    fn cuda_fwd(&self, a: &CudaStorage, al: &Layout) -> Result<(CudaStorage, Shape)> {
        self.forward_on_cuda(&[(a, al)])
    }
    fn bwd(&self, a: &Tensor, result: &Tensor, gradient: &Tensor) -> Result<Option<Tensor>> {
        Ok(self.backward(&[a], result, gradient)?.next().flatten())
    }
}

impl<const IN: usize, const OUT: usize, O: Differentiable<IN, OUT>> CustomOp2 for Node<O, IN, OUT> {
    fn name(&self) -> &'static str {
        O::NAME
    }
    fn cpu_fwd(&self, a: &CpuStorage, al: &Layout, b: &CpuStorage, bl: &Layout) -> Result<(CpuStorage, Shape)> {
        self.forward(&[(a, al), (b, bl)])
    }
    #[cfg(feature = "cuda")]
    fn cuda_fwd(&self, a: &CudaStorage, al: &Layout, b: &CudaStorage, bl: &Layout) -> Result<(CudaStorage, Shape)> {
        self.forward_on_cuda(&[(a, al), (b, bl)])
    }
    fn bwd(&self, a: &Tensor, b: &Tensor, result: &Tensor, gradient: &Tensor) -> Result<(Option<Tensor>, Option<Tensor>)> {
        let mut gradients = self.backward(&[a, b], result, gradient)?;
        let mut next = || gradients.next().flatten();
        Ok((next(), next()))
    }
}

impl<const IN: usize, const OUT: usize, O: Differentiable<IN, OUT>> CustomOp3 for Node<O, IN, OUT> {
    fn name(&self) -> &'static str {
        O::NAME
    }
    fn cpu_fwd(
        &self,
        a: &CpuStorage,
        al: &Layout,
        b: &CpuStorage,
        bl: &Layout,
        c: &CpuStorage,
        cl: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        self.forward(&[(a, al), (b, bl), (c, cl)])
    }
    #[cfg(feature = "cuda")]
    fn cuda_fwd(
        &self,
        a: &CudaStorage,
        al: &Layout,
        b: &CudaStorage,
        bl: &Layout,
        c: &CudaStorage,
        cl: &Layout,
    ) -> Result<(CudaStorage, Shape)> {
        self.forward_on_cuda(&[(a, al), (b, bl), (c, cl)])
    }
    fn bwd(
        &self,
        a: &Tensor,
        b: &Tensor,
        c: &Tensor,
        result: &Tensor,
        gradient: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>, Option<Tensor>)> {
        let mut gradients = self.backward(&[a, b, c], result, gradient)?;
        let mut next = || gradients.next().flatten();
        Ok((next(), next(), next()))
    }
}

fn compute<const IN: usize, const OUT: usize, O: Op<IN, OUT>>(
    op: &O,
    arguments: [(&CpuStorage, &Layout); IN],
) -> Result<([Vec<f32>; OUT], [Shape; OUT])> {
    let shapes = op.shapes(arguments.map(|(_, layout)| layout.shape()))?;
    let values: [_; IN] = all(arguments.into_iter().map(|(storage, layout)| cpu::numbers(storage, layout, O::NAME)))?;
    let views = std::array::from_fn(|i| cpu::View { values: &values[i], shape: arguments[i].1.shape() });
    let results = op.cpu(views)?;
    for (result, shape) in results.iter().zip(&shapes) {
        if result.len() != shape.elem_count() {
            bail!("{} gave {} numbers for the shape {shape:?}", O::NAME, result.len());
        }
    }
    Ok((results, shapes))
}

fn on_cpu<'a>(storage: &'a Storage, name: &str) -> Result<&'a CpuStorage> {
    match storage {
        Storage::Cpu(storage) => Ok(storage),
        _ => bail!("{name} has no arithmetic for {:?} yet", storage.device().location()),
    }
}

#[cfg(feature = "cuda")]
pub(super) fn on_cuda<'a>(storage: &'a Storage, name: &str) -> Result<&'a CudaStorage> {
    match storage {
        Storage::Cuda(storage) => Ok(storage),
        _ => bail!("{name} of tensors on a GPU and elsewhere"),
    }
}

fn all<T, const N: usize>(parts: impl Iterator<Item = Result<T>>) -> Result<[T; N]> {
    let parts: Vec<T> = parts.collect::<Result<_>>()?;
    parts.try_into().map_err(|parts: Vec<T>| Error::Msg(format!("{} tensors instead of {N}", parts.len())))
}

/// An operation that changes tensors where they lie: an optimiser's step.
pub(crate) trait InPlace<const CHANGED: usize, const IN: usize> {
    const NAME: &'static str;

    /// As many numbers in each of `changed` as its tensor has.
    fn cpu(&self, changed: [&mut [f32]; CHANGED], inputs: [cpu::View; IN]) -> Result<()>;

    /// The same on a GPU.
    #[cfg(feature = "cuda")]
    fn cuda(&self, _: &cuda::Gpu, _: [cuda::Argument; CHANGED], _: [cuda::View; IN]) -> Result<()> {
        bail!("{} has no arithmetic for CUDA yet", Self::NAME)
    }
}

/// Runs `op` on `changed`, which must be contiguous f32; every tensor that shares their memory sees it. That an input shares memory with a
/// changed tensor, or one of these with another, is an error.
pub(crate) fn change<const CHANGED: usize, const IN: usize, O: InPlace<CHANGED, IN>>(
    op: &O,
    changed: [&Tensor; CHANGED],
    inputs: [&Tensor; IN],
) -> Result<()> {
    for (i, tensor) in changed.iter().enumerate() {
        let mut others = changed[..i].iter().chain(&inputs);
        if memory(tensor).is_some_and(|own| others.any(|other| memory(other) == Some(own))) {
            bail!("{} of tensors that share their memory", O::NAME);
        }
    }
    #[cfg(feature = "cuda")]
    if changed.iter().any(|t| t.device().is_cuda()) {
        return cuda::change(op, changed, inputs);
    }
    let held = inputs.map(Tensor::storage_and_layout);
    let values: [_; IN] = all(held.iter().map(|(storage, layout)| cpu::numbers(on_cpu(storage, O::NAME)?, layout, O::NAME)))?;
    let views = std::array::from_fn(|i| cpu::View { values: &values[i], shape: inputs[i].shape() });
    unlocked(O::NAME, &changed, vec![], |slices| {
        let slices: [&mut [f32]; CHANGED] =
            slices.try_into().map_err(|slices: Slices| Error::Msg(format!("{} tensors instead of {CHANGED}", slices.len())))?;
        op.cpu(slices, views)
    })
}

/// Where a tensor's numbers lie, so that two can be compared.
fn memory(t: &Tensor) -> Option<*const f32> {
    let (storage, _) = t.storage_and_layout();
    match &*storage {
        Storage::Cpu(CpuStorage::F32(values)) if !values.is_empty() => Some(values.as_ptr()),
        #[cfg(feature = "cuda")]
        Storage::Cuda(storage) => cuda::address(storage),
        _ => None,
    }
}

/// Calls `f` with the numbers of `tensors` behind those that are `open` already. candle lends one tensor's memory for writing at a time, so
/// each is lent inside of the one before.
fn unlocked<F: FnOnce(Slices) -> Result<()>>(name: &'static str, tensors: &[&Tensor], open: Slices, f: F) -> Result<()> {
    match tensors {
        [] => f(open),
        [first, rest @ ..] => first.inplace_op1(&Opened { name, rest, state: Cell::new(Some((open, f))) }),
    }
}

type Slices<'a> = Vec<&'a mut [f32]>;

struct Opened<'a, F> {
    name: &'static str,
    rest: &'a [&'a Tensor],
    state: Cell<Option<(Slices<'a>, F)>>,
}

impl<F: FnOnce(Slices) -> Result<()>> InplaceOp1 for Opened<'_, F> {
    fn name(&self) -> &'static str {
        self.name
    }
    fn cpu_fwd(&self, storage: &mut CpuStorage, layout: &Layout) -> Result<()> {
        let (CpuStorage::F32(values), Some((from, to))) = (storage, layout.contiguous_offsets()) else {
            bail!("{} changes contiguous tensors of f32 only", self.name)
        };
        let Some((open, f)) = self.state.take() else { bail!("{} was called twice", self.name) };
        let mut open: Slices = open;
        open.push(&mut values[from..to]);
        unlocked(self.name, self.rest, open, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use candle_core::{Device, Var};

    /// a * b + c * d, of which the product a * b is kept.
    struct Fused;

    impl Op<4, 2> for Fused {
        const NAME: &'static str = "fused";
        fn shapes(&self, [a, b, c, d]: [&Shape; 4]) -> Result<[Shape; 2]> {
            if [b, c, d].iter().any(|s| *s != a) {
                bail!("fused: {a:?}, {b:?}, {c:?}, {d:?} differ");
            }
            Ok([a.clone(), a.clone()])
        }
        fn cpu(&self, [a, b, c, d]: [cpu::View; 4]) -> Result<[Vec<f32>; 2]> {
            let ab: Vec<f32> = a.values.iter().zip(b.values).map(|(a, b)| a * b).collect();
            Ok([ab.iter().zip(c.values.iter().zip(d.values)).map(|(ab, (c, d))| ab + c * d).collect(), ab])
        }
    }

    impl Differentiable<4, 2> for Fused {
        fn gradient(&self, given: &Backward<4, 2>) -> Result<[Option<Tensor>; 4]> {
            let [a, b, c, d] = &given.inputs;
            assert!(given.inputs.iter().chain(&given.outputs).all(|t| !t.track_op()) && !given.gradient.track_op());
            let kept = (&given.outputs[1] - (a * b)?)?.abs()?.max_all()?.to_scalar::<f32>()?;
            assert_eq!(kept, 0.0);
            Ok([Some((&given.gradient * b)?), Some((&given.gradient * a)?), Some((&given.gradient * d)?), Some((&given.gradient * c)?)])
        }
    }

    fn numbers(t: &Tensor) -> Vec<f32> {
        t.flatten_all().unwrap().to_vec1().unwrap()
    }

    #[test]
    fn gradients_reach_the_tracked_inputs_whichever_they_are() {
        let values: Vec<Tensor> = (1..5).map(|i| Tensor::new(&[[i as f32, 2.0], [0.5, -i as f32]], &Device::Cpu).unwrap()).collect();
        for tracked in [vec![], vec![2], vec![0, 3], vec![1, 2, 3]] {
            let inputs: Vec<Tensor> = (0..4)
                .map(|i| if tracked.contains(&i) { Var::from_tensor(&values[i]).unwrap().as_tensor().clone() } else { values[i].clone() })
                .collect();
            let y = apply(Fused, std::array::from_fn(|i| &inputs[i])).unwrap();
            assert_eq!(numbers(&y), numbers(&((&values[0] * &values[1]).unwrap() + (&values[2] * &values[3]).unwrap()).unwrap()));
            assert_eq!(y.track_op(), !tracked.is_empty());
            let gradients = y.sum_all().unwrap().backward().unwrap();
            for i in 0..4 {
                let gradient = gradients.get(&inputs[i]);
                assert_eq!(gradient.map(numbers), tracked.contains(&i).then(|| numbers(&values[i ^ 1])));
            }
        }
    }

    #[test]
    fn strided_inputs_are_read_in_order_and_what_does_not_fit_is_refused() {
        let a = Tensor::new(&[[1f32, 2.0], [3.0, 4.0]], &Device::Cpu).unwrap();
        let ones = a.ones_like().unwrap();
        let turned = a.t().unwrap();
        assert_eq!(numbers(&run(&Fused, [&turned, &ones, &ones, &ones]).unwrap()[1]), [1.0, 3.0, 2.0, 4.0]);
        let part = a.narrow(1, 1, 1).unwrap();
        let error = run(&Fused, [&part, &ones, &ones, &ones]).unwrap_err().to_string();
        assert!(error.contains("fused: [2, 1], [2, 2]"), "{error}");
        let wide = ones.to_dtype(candle_core::DType::F64).unwrap();
        let error = run(&Fused, [&wide, &ones, &ones, &ones]).unwrap_err().to_string();
        assert!(error.contains("fused takes f32, not F64"), "{error}");
        let var = || Var::from_tensor(&a).unwrap().as_tensor().clone();
        let error = apply(Fused, [&var(), &var(), &var(), &var()]).unwrap_err().to_string();
        assert!(error.contains("4 of its inputs are tracked"), "{error}");
    }

    /// x += scale * g, and counts in y.
    struct Move(f32);

    impl InPlace<2, 1> for Move {
        const NAME: &'static str = "move";
        fn cpu(&self, [x, y]: [&mut [f32]; 2], [g]: [cpu::View; 1]) -> Result<()> {
            x.iter_mut().zip(g.values).for_each(|(x, g)| *x += self.0 * g);
            y.iter_mut().for_each(|y| *y += 1.0);
            Ok(())
        }
    }

    #[test]
    fn variables_change_where_they_lie() {
        let x = Var::from_tensor(&Tensor::new(&[1f32, 2.0], &Device::Cpu).unwrap()).unwrap();
        let y = Tensor::zeros(3, candle_core::DType::F32, &Device::Cpu).unwrap();
        let g = Tensor::new(&[10f32, 20.0], &Device::Cpu).unwrap();
        let seen = x.as_detached_tensor();
        change(&Move(0.5), [x.as_tensor(), &y], [&g]).unwrap();
        assert_eq!((numbers(&seen), numbers(&y)), (vec![6.0, 12.0], vec![1.0; 3]));
        let turned = Tensor::zeros((2, 3), candle_core::DType::F32, &Device::Cpu).unwrap().t().unwrap();
        let error = change(&Move(0.5), [x.as_tensor(), &turned], [&g]).unwrap_err().to_string();
        assert!(error.contains("move changes contiguous tensors of f32 only"), "{error}");
        for (changed, input) in [([x.as_tensor(), &y], &seen), ([&seen, x.as_tensor()], &g)] {
            let error = change(&Move(0.5), changed, [input]).unwrap_err().to_string();
            assert!(error.contains("share their memory"), "{error}");
        }
    }
}
