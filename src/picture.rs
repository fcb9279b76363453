//! Pictures in memory and on disk. Owner: picture helper. Interface fixed here:
use crate::error::Result;
use candle_core::Tensor;
use std::path::Path;

/// sRGB with straight alpha, 8 bits... kept as f32 in [0, 1], 4 channels interleaved (R, G, B, A), row-major, no padding.
#[derive(Clone, Debug)]
pub struct Picture {
    pub width: usize,
    pub height: usize,
    /// len = width * height * 4
    pub data: Vec<f32>,
}

impl Picture {
    pub fn open(_path: &Path) -> Result<Self> {
        todo!()
    }
    /// PNG, 8 bit RGBA (RGB when every alpha is 1); atomically.
    pub fn save_png(&self, _path: &Path) -> Result<()> {
        todo!()
    }
    /// Sample `index` of an NCHW image tensor nominally in [-1, 1]; clamped, alpha 1.
    pub fn from_tensor(_image: &Tensor, _index: usize) -> Result<Self> {
        todo!()
    }
    /// [1, 3, height, width] in [-1, 1], alpha composited over white.
    pub fn to_tensor(&self) -> Result<Tensor> {
        todo!()
    }
    /// Separable, antialiased bicubic (a = -0.5) both ways.
    pub fn resized(&self, _width: usize, _height: usize) -> Result<Self> {
        todo!()
    }
    /// Largest centred square, resized to size x size.
    pub fn square(&self, _size: usize) -> Result<Self> {
        todo!()
    }
    /// A grid of pictures of one size, `columns` a row, 2 px gap.
    pub fn contact_sheet(_pictures: &[Picture], _columns: usize) -> Result<Self> {
        todo!()
    }
}
