//! BasicSR's layout of a generator, which GFPGAN has inside as `stylegan_decoder`: rosinality's numbers and shapes under other names.

/// BasicSR's name of a tensor of our layout (rosinality's): `convs.0.conv.weight` is `style_convs.0.modulated_conv.weight`. What has none
/// keeps ours, so that nothing is found under it.
pub(super) fn name(key: &str) -> String {
    if let Some(rest) = key.strip_prefix("style.") {
        return format!("style_mlp.{rest}");
    }
    if key == "input.input" {
        return "constant_input.weight".into();
    }
    if let Some(i) = key.strip_prefix("noises.noise_") {
        return format!("noises.noise{i}");
    }
    let layer = match key.split_once('.') {
        Some(("conv1" | "convs", _)) => format!("style_{key}"),
        Some(("to_rgb1" | "to_rgbs", _)) => key.to_string(),
        _ => return key.to_string(),
    };
    if let Some(layer) = layer.strip_suffix(".noise.weight") {
        // The strength of the noise is the layer's own parameter.
        return format!("{layer}.weight");
    }
    layer.replacen(".conv.", ".modulated_conv.", 1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::nn::generator::stylegan2::{keys, small};

    #[test]
    fn every_tensor_has_one_name_in_basicsrs_layout() {
        let config = small(0).config();
        let names: std::collections::BTreeSet<String> = keys(&config).iter().map(|(key, _)| name(key)).collect();
        assert_eq!(names.len(), keys(&config).len());
        for (ours, theirs) in [
            ("style.2.bias", "style_mlp.2.bias"),
            ("input.input", "constant_input.weight"),
            ("conv1.conv.weight", "style_conv1.modulated_conv.weight"),
            ("conv1.noise.weight", "style_conv1.weight"),
            ("convs.5.conv.modulation.bias", "style_convs.5.modulated_conv.modulation.bias"),
            ("convs.5.activate.bias", "style_convs.5.activate.bias"),
            ("to_rgb1.bias", "to_rgb1.bias"),
            ("to_rgbs.2.conv.weight", "to_rgbs.2.modulated_conv.weight"),
            ("noises.noise_4", "noises.noise4"),
            ("latent_avg", "latent_avg"),
        ] {
            assert_eq!(name(ours), theirs);
        }
    }
}
