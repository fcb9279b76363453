//! Transformers on a GPU: products of matrices by cuBLAS, what lies between them by kernels.

use super::{arguments, Argument, At, Gpu, Matrix, Numbers};
use crate::kernels::attention::Attention;
use crate::kernels::Activation;
use candle_core::{bail, Result};

/// A linear layer: weight [outputs, inputs], bias [outputs].
#[derive(Clone, Copy)]
pub(crate) struct Dense {
    pub weight: Argument,
    pub bias: Option<Argument>,
    pub inputs: usize,
    pub outputs: usize,
}

impl Dense {
    /// x [rows, inputs] W^T + bias, plus `onto` [rows, outputs].
    pub(crate) fn forward(&self, gpu: &Gpu, x: Argument, rows: usize, onto: Option<Argument>) -> Result<Numbers> {
        let Self { weight, bias, inputs, outputs } = *self;
        let out = gpu.alloc(rows * outputs)?;
        let starts = bias.is_some() || onto.is_some();
        let (bias, onto) = (bias.unwrap_or(Argument::NULL), onto.unwrap_or(Argument::NULL));
        let matrices = (Matrix::rows(x, inputs), Matrix::rows(weight, inputs).transposed());
        // SAFETY: the kernel's arguments; the matrices are as large as said above.
        unsafe {
            if starts {
                let arguments = arguments![bias, onto, out.at(), rows, outputs, rows.max(1), rows.max(1)];
                gpu.each(("transformer", "rows_of"), rows * outputs, arguments)?;
            }
            let beta = if starts { 1.0 } else { 0.0 };
            gpu.product((rows, outputs, inputs), matrices.0, matrices.1, beta, out.at(), outputs)?;
        }
        Ok(out)
    }

    /// The gradient of x from that of the result, g [rows, outputs].
    pub(crate) fn backward(&self, gpu: &Gpu, g: Argument, rows: usize) -> Result<Numbers> {
        let Self { weight, inputs, outputs, .. } = *self;
        let out = gpu.alloc(rows * inputs)?;
        // SAFETY: as above.
        unsafe { gpu.product((rows, inputs, outputs), Matrix::rows(g, outputs), Matrix::rows(weight, inputs), 0.0, out.at(), inputs)? };
        Ok(out)
    }

    /// The gradient of the weights, [outputs, inputs], from g [rows, outputs] and x [rows, inputs].
    pub(crate) fn of_weights(&self, gpu: &Gpu, g: Argument, x: Argument, rows: usize) -> Result<Numbers> {
        let Self { inputs, outputs, .. } = *self;
        let out = gpu.alloc(outputs * inputs)?;
        let g = Matrix::rows(g, outputs).transposed();
        // SAFETY: as above.
        unsafe { gpu.product((outputs, inputs, rows), g, Matrix::rows(x, inputs), 0.0, out.at(), inputs)? };
        Ok(out)
    }
}

/// Sums of g [rows, width] over the rows.
pub(crate) fn column_sums(gpu: &Gpu, g: Argument, rows: usize, width: usize) -> Result<Numbers> {
    let sums = gpu.alloc(width)?;
    // SAFETY: the kernel's arguments.
    unsafe { gpu.each(("transformer", "column_sums"), width, arguments![g, sums.at(), rows, width])? };
    Ok(sums)
}

/// Scale and shift of a normalisation over rows of `width`.
#[derive(Clone, Copy)]
pub(crate) struct Norm {
    pub gamma: Argument,
    pub beta: Argument,
    pub width: usize,
    pub epsilon: f32,
}

impl Norm {
    pub(crate) fn forward(&self, gpu: &Gpu, x: Argument, rows: usize) -> Result<Numbers> {
        let out = gpu.alloc(rows * self.width)?;
        let arguments = arguments![x, self.gamma, self.beta, out.at(), rows, self.width, self.epsilon];
        // SAFETY: the kernel's arguments.
        unsafe { gpu.launch(("transformer", "norm_forward"), [rows.min(1 << 20), 1, 1], 128, 0, arguments)? };
        Ok(out)
    }

    /// The gradient of x from that of the normalised rows; onto `out` where `add`.
    pub(crate) fn backward(&self, gpu: &Gpu, x: Argument, g: Argument, rows: usize, out: &Numbers, add: bool) -> Result<()> {
        let arguments = arguments![x, self.gamma, g, out.at(), rows, self.width, self.epsilon, add as i32];
        // SAFETY: as above.
        unsafe { gpu.launch(("transformer", "norm_backward"), [rows.min(1 << 20), 1, 1], 128, 0, arguments) }
    }
}

impl Activation {
    fn number(self) -> i32 {
        match self {
            Activation::QuickGelu => 0,
            Activation::Gelu => 1,
            Activation::GeluTanh => 2,
        }
    }

    pub(crate) fn on_gpu(self, gpu: &Gpu, x: Argument, length: usize) -> Result<Numbers> {
        let out = gpu.alloc(length)?;
        // SAFETY: the kernel's arguments.
        unsafe { gpu.each(("transformer", "activation_forward"), length, arguments![x, out.at(), length, self.number()])? };
        Ok(out)
    }

    pub(crate) fn back_on_gpu(self, gpu: &Gpu, x: Argument, g: Argument, length: usize) -> Result<Numbers> {
        let out = gpu.alloc(length)?;
        // SAFETY: as above.
        unsafe { gpu.each(("transformer", "activation_backward"), length, arguments![x, g, out.at(), length, self.number()])? };
        Ok(out)
    }
}

/// Shared memory that every chip has; a warp keeps one or two rows of probabilities there.
const SHARED: usize = 64 << 10;

impl Attention {
    /// qkv [n, tokens, 3 * width] -> [n, queries, width].
    pub(crate) fn on_gpu(&self, gpu: &Gpu, qkv: Argument, (n, queries, tokens): (usize, usize, usize)) -> Result<Numbers> {
        let shared = 4 * 4 * tokens;
        self.fits(2 * shared, tokens)?;
        let out = gpu.alloc(n * queries * self.width)?;
        let width = self.width / self.heads;
        let arguments = arguments![qkv, out.at(), queries, tokens, self.heads, width, self.causal as i32];
        // SAFETY: the kernel's arguments.
        unsafe { gpu.launch(("transformer", "attention_forward"), [queries.div_ceil(4), self.heads, n], 128, shared, arguments)? };
        Ok(out)
    }

    /// The gradient of qkv from that of the result.
    pub(crate) fn back_on_gpu(
        &self,
        gpu: &Gpu,
        qkv: Argument,
        g: Argument,
        (n, queries, tokens): (usize, usize, usize),
    ) -> Result<Numbers> {
        let shared = 2 * 4 * 4 * tokens;
        self.fits(shared, tokens)?;
        let (heads, width) = (self.heads, self.width / self.heads);
        let out = gpu.alloc(n * tokens * 3 * self.width)?;
        let (p, ds) = (gpu.alloc(n * heads * queries * tokens)?, gpu.alloc(n * heads * queries * tokens)?);
        let of_queries = arguments![qkv, g, out.at(), p.at(), ds.at(), queries, tokens, heads, width, self.causal as i32];
        let of_tokens = arguments![qkv, g, out.at(), p.at(), ds.at(), queries, tokens, heads, width];
        // SAFETY: as above.
        unsafe {
            let grid = [queries.div_ceil(4), heads, n];
            gpu.launch(("transformer", "attention_back_queries"), grid, 128, shared, of_queries)?;
            gpu.launch(("transformer", "attention_back_tokens"), [tokens.div_ceil(4), heads, n], 128, 0, of_tokens)?;
        }
        Ok(out)
    }

    fn fits(&self, shared: usize, tokens: usize) -> Result<()> {
        match shared <= SHARED {
            true => Ok(()),
            false => bail!("attention over {tokens} tokens on a GPU, where at most {} are possible", SHARED / 32),
        }
    }
}

pub(crate) struct Block {
    pub norm1: Norm,
    pub qkv: Dense,
    pub out: Dense,
    pub norm2: Norm,
    pub up: Dense,
    pub down: Dense,
    pub attention: Attention,
    pub activation: Activation,
}

impl Block {
    /// x [n, tokens, d] -> [n, queries, d], and what the gradient needs again: qkv [n, tokens, 3 d]; after attention, before the MLP [n, queries, d];
    /// before the activation [n, queries, hidden].
    pub(crate) fn forward(&self, gpu: &Gpu, x: Argument, size: (usize, usize, usize)) -> Result<[Numbers; 4]> {
        let (n, queries, tokens) = size;
        let (rows, asked) = (n * tokens, n * queries);
        let normed = self.norm1.forward(gpu, x, rows)?;
        let qkv = self.qkv.forward(gpu, normed.at(), rows, None)?;
        let attended = self.attention.on_gpu(gpu, qkv.at(), size)?;
        let first = self.first(gpu, x, size)?;
        let middle = self.out.forward(gpu, attended.at(), asked, Some(first.at()))?;
        let normed = self.norm2.forward(gpu, middle.at(), asked)?;
        let hidden = self.up.forward(gpu, normed.at(), asked, None)?;
        let activated = self.activation.on_gpu(gpu, hidden.at(), asked * self.up.outputs)?;
        let out = self.down.forward(gpu, activated.at(), asked, Some(middle.at()))?;
        Ok([out, qkv, middle, hidden])
    }

    /// The rows of x that ask.
    fn first(&self, gpu: &Gpu, x: Argument, (n, queries, tokens): (usize, usize, usize)) -> Result<Numbers> {
        let width = self.attention.width;
        let first = gpu.alloc(n * queries * width)?;
        let arguments = arguments![Argument::NULL, x, first.at(), n * queries, width, queries, tokens];
        // SAFETY: the kernel's arguments.
        unsafe { gpu.each(("transformer", "rows_of"), n * queries * width, arguments)? };
        Ok(first)
    }

    /// The gradient of x, given that of the result.
    pub(crate) fn backward(
        &self,
        gpu: &Gpu,
        x: Argument,
        [qkv, middle, hidden]: [Argument; 3],
        g: Argument,
        size: (usize, usize, usize),
    ) -> Result<Numbers> {
        let (n, queries, tokens) = size;
        let width = self.attention.width;
        let (rows, asked) = (n * tokens, n * queries);
        let of_hidden = self.down.backward(gpu, g, asked)?;
        let of_hidden = self.activation.back_on_gpu(gpu, hidden, of_hidden.at(), asked * self.up.outputs)?;
        let normed = self.up.backward(gpu, of_hidden.at(), asked)?;
        let of_middle = gpu.alloc(asked * width)?;
        // SAFETY: the kernel's arguments.
        unsafe {
            let copy = arguments![Argument::NULL, g, of_middle.at(), asked, width, asked.max(1), asked.max(1)];
            gpu.each(("transformer", "rows_of"), asked * width, copy)?;
        }
        self.norm2.backward(gpu, middle, normed.at(), asked, &of_middle, true)?;
        let attended = self.out.backward(gpu, of_middle.at(), asked)?;
        let of_qkv = self.attention.back_on_gpu(gpu, qkv, attended.at(), size)?;
        let normed = self.qkv.backward(gpu, of_qkv.at(), rows)?;
        let out = gpu.alloc(rows * width)?;
        // The residual's own gradient reaches only the tokens that asked.
        // SAFETY: as above.
        unsafe {
            let back = arguments![of_middle.at(), out.at(), n, width, queries, tokens];
            gpu.each(("transformer", "rows_back"), rows * width, back)?;
        }
        self.norm1.backward(gpu, x, normed.at(), rows, &out, true)?;
        Ok(out)
    }
}
