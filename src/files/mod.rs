//! Files by their paths: opening ordinary ones, knowing pictures, and writing results under temporary names that are renamed.

mod open;
mod picture_format;
mod place;
mod write;

pub(crate) use open::{begins_with, open_ordinary, read_small, read_small_unless, read_text, PIECE};
pub(crate) use picture_format::PictureFormat;
pub use place::{check_folder, folder, Destination, Place};
pub(crate) use write::{atomically, atomically_as_new, sync_folder, temporary_folder};
pub use write::{check_writable, remove_dead, remove_unfinished, write_atomically};
