//! Plain pickle files: NVIDIA's networks ([`super::nvidia`]), or dicts of tensors that `pickle.dump` wrote. Storages lie inside.

use super::source::Source;
use super::torch_graph::{self, Storages};
use super::{torch_legacy, Contents, Format};
use crate::error::Result;

pub(super) fn read(source: &Source) -> Result<Contents> {
    let graph = torch_graph::parse(source, 0, source.len, &torch_graph::is_known_global).map_err(|e| e.of("pickle", source))?;
    let mut none = |_: &str| Err("it refers to a storage outside of the file".to_string());
    torch_graph::contents(&graph, source, Storages { persistent: &mut none, embedded: Some(torch_legacy::storage) }, Format::Pickle)
}
