//! Shared by the integration tests.
#![allow(dead_code, unused_imports)] // each test program uses a part

pub mod compare;
pub mod encoder;
pub mod files;
pub mod gradient;
pub mod program;
pub mod random_generator;
pub mod reference;
pub mod slow_disk;
pub mod zip;

pub use compare::{close, largest};
pub use files::data;
pub use gradient::check_gradient;
pub use reference::reference;
pub use slow_disk::slow_disk;
pub use zip::zip;
