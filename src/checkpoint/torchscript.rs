//! TorchScript archives, as OpenAI released CLIP: the same zip as torch.save's, whose pickle is a tree of module objects with classes
//! named `__torch__.…`. Only attributes are read, under the names that a state_dict gives them; `code/` is never looked at.

use super::torch_graph;

pub(super) fn is_known_global(module: &str, name: &str) -> bool {
    torch_graph::is_script_class(module)
        || torch_graph::is_known_global(module, name)
        || (module == "torch.jit._pickle"
            && matches!(
                name,
                "build_intlist" | "build_doublelist" | "build_boollist" | "build_tensorlist" | "build_tensor_from_id" | "restore_type_tag"
            ))
}
