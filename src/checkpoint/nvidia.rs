//! NVIDIA's pickled networks (stylegan2-ada-pytorch, stylegan3): objects of `torch_utils.persistence`, which carry the Python source of
//! their class. That source is never looked at; what is read is the state that PyTorch's modules have in common.

use super::pickle::{Object, Pickle, Value};

/// Forks keep the package in folders of their own.
fn is_in(module: &str, package: &str) -> bool {
    module.strip_suffix(package).is_some_and(|before| before.is_empty() || before.ends_with('.'))
}

pub(super) fn is_known_global(module: &str, name: &str) -> bool {
    is_persistent(module, name) || is_dict(module, name)
}

pub(super) fn is_persistent(module: &str, name: &str) -> bool {
    name == "_reconstruct_persistent_obj" && is_in(module, "torch_utils.persistence")
}

/// A dict with attributes for keys.
pub(super) fn is_dict(module: &str, name: &str) -> bool {
    name == "EasyDict" && is_in(module, "dnnlib.util")
}

/// The one dict from which a persistent object is rebuilt.
pub(super) fn description(pickle: &Pickle, object: &Object) -> Option<Value> {
    let meta = pickle.tuple(object.args)?.first().copied()?;
    pickle.dict(meta).map(|_| meta)
}

/// The class name and the attributes of a persistent object, from its description {type, version, module_src, class_name, state}.
pub(super) fn persistent(pickle: &Pickle, object: &Object) -> Result<(String, Value), String> {
    let meta = description(pickle, object).ok_or("a persistent object without a description")?;
    let class = pickle.get(meta, "class_name").and_then(|name| pickle.str(name)).unwrap_or("?");
    let state = pickle.get(meta, "state").ok_or_else(|| format!("persistent object {class} without a state"))?;
    Ok((class.chars().take(200).collect(), state))
}
