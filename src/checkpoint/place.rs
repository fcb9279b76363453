//! The names that programs put before every key of a network when they save it.

use super::Checkpoint;
use std::collections::BTreeSet;

/// What is wrapped around a module or a state_dict, at any depth and in any order: by torch.nn.DataParallel and DistributedDataParallel
/// (`module`), torch.compile (`_orig_mod`), FSDP, activation checkpointing and Lightning's strategies (the other names with `_`), and by the
/// dicts of trainers.
const WRAPPERS: [&str; 13] = [
    "module",
    "_orig_mod",
    "_forward_module",
    "_fsdp_wrapped_module",
    "_checkpoint_wrapped_module",
    "state_dict",
    "model_state_dict",
    "model",
    "net",
    "network",
    "params",
    "weights",
    "averaged_model",
];

/// Names of an average over the training beside those that have `ema` in them: StyleGAN's own code (`Gs`) and its first ports
/// (`g_running`), PyTorch's and Lightning's swa_utils, and dicts of names to averages.
const AVERAGED: [&str; 5] = ["gs", "g_running", "swa_model", "averaged_model", "shadow"];

/// Whether a name says that what is below it is an average over the training: `g_ema`, `params_ema`, `ema_model`, `netG_ema_state_dict`.
fn is_averaged(name: &str) -> bool {
    let name = name.to_ascii_lowercase();
    AVERAGED.contains(&name.as_str()) || name.split(['_', '-']).any(|part| part == "ema")
}

/// A name without what spelling varies in: `netG_state_dict` and `net_g` are `netg`.
fn plain(name: &str) -> String {
    name.to_ascii_lowercase().trim_end_matches("_state_dict").replace(['_', '-'], "")
}

/// Better places compare as less: averages over the training first, then by the network's name, then short before long.
type Rank = (bool, usize, usize);

/// None where a part of the place is no name that is known.
fn rank(place: &str, names: &[&str]) -> Option<Rank> {
    let (mut averaged, mut name) = (false, 0);
    for part in place.split_terminator('.') {
        if is_averaged(part) {
            averaged = true;
        } else if let Some(i) = names.iter().position(|known| plain(part) == *known) {
            name = name.max(i + 1);
        } else if !WRAPPERS.contains(&part) {
            return None;
        }
    }
    Some((!averaged, name, place.len()))
}

/// Where networks of one kind stand in a file.
#[derive(Debug, Default)]
pub(crate) struct Places {
    /// What stands before their keys, the best first: averages over the training before others.
    pub known: Vec<String>,
    /// Behind names that say nothing about what they are.
    pub unknown: Vec<String>,
}

impl Checkpoint {
    /// Every place in the file (below the prefix) under which there is one of `keys`. `names` are what programs call such a network, in lower
    /// case and without `_`, best first.
    pub(crate) fn places(&self, names: &[&str], keys: &[&str]) -> Places {
        let before = |key: &str| {
            let found = keys.iter().find_map(|wanted| key.strip_suffix(wanted))?;
            (found.is_empty() || found.ends_with('.')).then(|| found.to_string())
        };
        let found: BTreeSet<String> = self.keys().filter_map(before).collect();
        let mut ranked: Vec<(Option<Rank>, String)> = found.into_iter().map(|place| (rank(&place, names), place)).collect();
        ranked.sort();
        let (known, unknown): (Vec<_>, Vec<_>) = ranked.into_iter().partition(|(rank, _)| rank.is_some());
        let places = |ranked: Vec<(Option<Rank>, String)>| ranked.into_iter().map(|(_, place)| place).collect();
        Places { known: places(known), unknown: places(unknown) }
    }

    /// The best of the known [`Checkpoint::places`].
    pub(crate) fn find_prefix(&self, names: &[&str], keys: &[&str]) -> Option<String> {
        self.places(names, keys).known.into_iter().next()
    }
}

/// The places above `place`, the file's beginning first: "a.b." lies in "" and "a.".
pub(crate) fn above(place: &str) -> impl Iterator<Item = &str> {
    let dots = place.char_indices().filter(|&(_, c)| c == '.').map(|(i, _)| &place[..=i]);
    std::iter::once("").chain(dots).filter(move |&above| above != place)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn averages_come_first_and_short_places_before_long_ones() {
        let names = ["generator", "netg", "g"];
        fn best_of<'a>(places: &[&'a str], names: &[&str]) -> Option<&'a str> {
            let known = places.iter().filter(|place| rank(place, names).is_some());
            known.min_by_key(|place| rank(place, names)).copied()
        }
        let best = |places: &[&'static str]| best_of(places, &names);
        for averaged in
            ["g_ema.", "params_ema.", "ema_model.", "netG_ema_state_dict.", "state_dict.generator_ema._orig_mod.", "ema.module.", "Gs."]
        {
            assert_eq!(best(&["", "generator.", "g.", "model.", "net.", averaged]), Some(averaged));
        }
        assert_eq!(best(&["module._orig_mod.", "_orig_mod.module.", "state_dict.module._orig_mod.module."]), Some("module._orig_mod."));
        assert_eq!(best(&["g.", "netG_state_dict.", "params."]), Some("params."));
        assert_eq!(best(&["g.", "netG_state_dict."]), Some("netG_state_dict."));
        // A schema is no average, and a teacher may be anything.
        for unknown in ["schema.", "teacher.", "state_dict.teacher.module.", "generator.face."] {
            assert_eq!(rank(unknown, &names), None, "{unknown}");
        }
        assert_eq!(above("a.b.").collect::<Vec<_>>(), ["", "a."]);
        assert_eq!(above("").count(), 0);
    }
}
